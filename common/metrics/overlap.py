"""How well a map agrees with a mask: Jaccard index and continuous Dice, in NumPy."""

import numpy as np


def jaccard_index(mask: np.ndarray, map: np.ndarray, threshold: float = 0.5) -> float | np.ndarray:
    """|A ∩ B| / |A ∪ B| of a binary mask A and a map B cut at `threshold` (feedback thesis, section 3.4 and eq. 3.4).

    The printed denominator of eq. 3.4 (|A| + |B| − |A| × |B|) is a misprint of |A| + |B| − |A ∩ B|, which is used here.

    mask: `(height, width)` or `(batch, height, width)`, optionally with a last axis of size 1; non-zero is inside.
    map: the same shape, values 0..1 (already divided by its own maximum); `map >= threshold` is inside.
    Returns a float, or `(batch,)` for a batch. Both empty: 1, because nothing was missed and nothing invented.
    Raises ValueError for different shapes or values that are not finite.
    """
    inside, values, batched = _planes(mask, map)
    cut = values >= threshold
    union = np.sum(inside | cut, axis=1)
    shared = np.sum(inside & cut, axis=1)
    result = np.where(union > 0, shared / np.maximum(union, 1), 1.0)
    return result if batched else float(result[0])


def continuous_dice(mask: np.ndarray, map: np.ndarray) -> float | np.ndarray:
    """2|A ∩ B| / (c|A| + |B|) of a binary mask A and a map B with values 0..1, uncut.

    Shamir et al. 2019, "Continuous Dice coefficient", with |A ∩ B| = Σ a·b, |A| = Σ a, |B| = Σ b and
    c = Σ a·b / Σ a·sign(b), the mean value of the map where it meets the mask; c = 1 when it never does.
    A binary map gives the ordinary Dice coefficient; a map that fills the mask with any one value, and only the mask, gives 1.

    Shapes and errors as in `jaccard_index`. Values below zero raise ValueError. Both empty: 1; mask empty, map not: 0.
    """
    inside, values, batched = _planes(mask, map)
    if (values < 0).any():
        raise ValueError("continuous_dice expects a map with values from 0 to 1, found one below 0")
    shared = np.sum(values, axis=1, where=inside)
    met = np.sum(inside & (values > 0), axis=1)
    c = np.where(met > 0, shared / np.maximum(met, 1), 1.0)
    below = c * inside.sum(axis=1) + values.sum(axis=1)
    result = np.where(below > 0, 2 * shared / np.where(below > 0, below, 1.0), 1.0)
    return result if batched else float(result[0])


def _planes(mask: np.ndarray, map: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Both as `(batch, pixels)`, bool and float64, and whether a batch was given."""
    mask, map = np.asarray(mask), np.asarray(map)
    if mask.shape != map.shape:
        raise ValueError(f"mask and map must have the same shape, got {mask.shape} and {map.shape}")
    shape = mask.shape[:-1] if mask.ndim in (3, 4) and mask.shape[-1] == 1 else mask.shape
    if len(shape) not in (2, 3):
        raise ValueError(f"expected (height, width) or (batch, height, width), got {mask.shape}")
    batched = len(shape) == 3
    rows = shape[0] if batched else 1
    values = map.reshape(rows, -1).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("the map holds values that are not finite")
    return mask.reshape(rows, -1) != 0, values, batched


def trivial_maps(shape: tuple[int, int], mean_training_mask: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Maps `(height, width)` float64 0..1 that look at no image; a map worth anything overlaps more than these.

    The whole image; a centred blob, a Gaussian whose standard deviations are a quarter of each side; and, where
    `mean_training_mask` `(height, width)` is given (the mean of the training images' masks), that, divided by its own maximum.
    Raises ValueError for a mean mask of another shape.
    """
    rows, columns = (((np.arange(side) + 0.5) / side - 0.5) / 0.25 for side in shape)
    blob = np.exp(-(rows[:, None] ** 2 + columns**2) / 2)
    maps = {"whole image": np.ones(shape), "centred blob": blob / blob.max()}
    if mean_training_mask is not None:
        mean = np.asarray(mean_training_mask, dtype=np.float64)
        if mean.shape != tuple(shape):
            raise ValueError(f"expected a mean training mask of shape {tuple(shape)}, got {mean.shape}")
        maps["mean training mask"] = mean / mean.max() if mean.max() > 0 else mean
    return maps
