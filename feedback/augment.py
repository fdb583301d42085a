"""The base classifier's augmentation: horizontal flip and 24 rotations, no change of colour (Table 3.1)."""

from collections.abc import Callable

import cv2
import numpy as np


def flips_and_rotations(flip: bool = True, rotations: int = 24) -> Callable:
    """`augment(images, targets, rng)` for `Batches`: each image flipped left-right with probability 1/2, then turned by one of
    `rotations` equal steps over 360 degrees about its centre; the corners that come into view mirror the image's edge.

    Images `(batch, h, w, 3)` uint8; targets pass unchanged. Nearest neighbour, like the resizing. `rotations` 1 or less turns nothing.
    """

    def augment(images: np.ndarray, targets, rng: np.random.Generator):
        flipped = rng.random(len(images)) < 0.5
        turns = rng.integers(0, max(rotations, 1), len(images))
        result = np.empty_like(images)
        for index, image in enumerate(images):
            picture = image[:, ::-1] if flip and flipped[index] else image
            result[index] = rotate(np.ascontiguousarray(picture), 360.0 * turns[index] / max(rotations, 1))
        return result, targets

    return augment


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """`(h, w, 3)` or `(h, w)` uint8 turned counter-clockwise about its centre; multiples of 90 of square images are exact."""
    if degrees % 90 == 0 and image.shape[0] == image.shape[1]:
        return np.rot90(image, int(degrees // 90) % 4)
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
