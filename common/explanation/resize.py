"""Linear interpolation as a matrix product."""

import numpy as np


def resize_matrix(size: int, new_size: int, align: str = "centres") -> np.ndarray:
    """Linear interpolation from `size` to `new_size` samples as a matrix (new_size, size), float32.

    `align="centres"`: pixel centres, as images are resized; `"corners"`: first on first and last on last, as
    `scipy.ndimage.zoom` and so tf-keras-vis do.
    """
    centres = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    at = np.clip(centres if align == "centres" else np.linspace(0, size - 1, new_size), 0, size - 1)
    low = np.minimum(at.astype(int), max(size - 2, 0))
    share = at - low
    matrix = np.zeros((new_size, size), "float32")
    rows = np.arange(new_size)
    matrix[rows, low] += 1 - share
    matrix[rows, np.minimum(low + 1, size - 1)] += share
    return matrix
