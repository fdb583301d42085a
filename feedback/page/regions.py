"""What a user drew -> the region that is meant."""

from typing import Literal

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes

from common.data.images import resize
from common.errors import UsageError

Mode = Literal["brush", "outline", "ellipse"]
# Smaller drawings are slips of the hand: this share of the image, at least.
SMALLEST = 5e-4


def drawn_region(strokes: np.ndarray, mode: Mode, shape: tuple[int, int]) -> np.ndarray:
    """The region of a drawing at the image's own size.

    Args:
        strokes: `(h, w)`, above 0 where the user drew; any size (the drawing area's).
        mode: "brush": the painted pixels are the region; "outline": what the drawn line encloses, line included. A gap of up to 4 % of
            the drawing's side is closed.
        shape: `(height, width)` of the image.

    Returns:
        `(height, width)` bool.

    Raises:
        UsageError: nothing is drawn, or the outline does not close.
    """
    painted = np.asarray(strokes) > 0
    if painted.mean() < SMALLEST:
        raise UsageError("no region is drawn; draw it on the image, or give it as an ellipse")
    if mode == "outline":
        painted = _filled(painted)
    return resize(painted.astype(np.uint8), shape, "nearest").astype(bool)


def _filled(line: np.ndarray) -> np.ndarray:
    inside = binary_fill_holes(line)
    reach = max(1, round(0.02 * max(line.shape)))
    if inside.sum() < 1.5 * line.sum():
        # Thicken until a small gap closes, fill, and take the thickness off again; the frame keeps the image's edge from counting as line.
        padded = np.pad(line, reach)
        thick = binary_dilation(padded, iterations=reach)
        inside = binary_erosion(binary_fill_holes(thick), iterations=reach)[reach:-reach, reach:-reach] | line
    if inside.sum() < 1.2 * line.sum():
        raise UsageError("the outline does not close; draw on to its beginning, or choose the brush")
    return inside


def ellipse_region(centre_x: float, centre_y: float, width: float, height: float, shape: tuple[int, int]) -> np.ndarray:
    """An ellipse given in per cent of the image's width and height, for whoever does not draw; `(height, width)` bool.

    Raises:
        UsageError: the ellipse covers no pixel of the image.
    """
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    x = ((columns + 0.5) / shape[1] * 100 - centre_x) / max(width / 2, 1e-6)
    y = ((rows + 0.5) / shape[0] * 100 - centre_y) / max(height / 2, 1e-6)
    inside = x**2 + y**2 <= 1
    if not inside.any():
        raise UsageError("the ellipse covers no part of the image; make it larger or move it")
    return inside
