"""Outlines by experts as masks: SIPaKMeD's `.dat` files of nucleus and cytoplasm, where they lie beside the images of cells.

`CROPPED/<cluster image>_<cell>_cyt.dat` and `…_nuc.dat` hold one corner of a polygon per line, "x,y" in the pixels of the cell's image.
(Those of the cluster images, `<cluster image>_cyt01.dat`, are in other pixels and are not read.)
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from common.data.pixels import read_header
from common.data.walk import OUTLINES, is_image
from common.errors import UsageError

# A corner may lie on the border, and hand-drawn ones lie a little behind it.
SPARE = 1.0


def read_outline(path: Path) -> np.ndarray:
    """`(n, 2)` float64 corners (x, y). UsageError names the file, and the line that is no pair of numbers."""
    points = []
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError as error:
        raise UsageError(f"cannot read mask {path}: {error.strerror}") from None
    for number, line in enumerate(lines, start=1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        try:
            x, y = map(float, words)
        except ValueError:
            raise UsageError(f"{path}: line {number} is {line[:40]!r}; expected x,y of a corner of an outline") from None
        points.append((x, y))
    if len(points) < 3 or not np.isfinite(points).all():
        raise UsageError(f"{path}: {len(points)} corners; expected at least 3 finite ones")
    return np.array(points)


def read_outline_mask(path: Path | str) -> np.ndarray:
    """`(height, width)` bool, True inside the outline, of the size of the image beside it. UsageError without that image, or where it
    cannot be read."""
    path = Path(path)
    stem = next(path.name.removesuffix(ending) for ending in OUTLINES.values() if path.name.endswith(ending))
    images = [each for each in sorted(path.parent.glob(f"{stem}.*")) if is_image(each)]
    if not images:
        raise UsageError(f"{path}: an outline without its image; expected {stem}.bmp or the like beside it")
    header = read_header(images[0])
    return outline_mask(path, header.width, header.height) > 0


def outline_mask(path: Path, width: int, height: int) -> np.ndarray:
    """`(height, width)` uint8, 255 inside the outline. UsageError where a corner lies outside the image."""
    points = read_outline(path)
    low, high = points.min(axis=0), points.max(axis=0)
    if (low < -SPARE).any() or high[0] > width - 1 + SPARE or high[1] > height - 1 + SPARE:
        where = f"{low[0]:.0f},{low[1]:.0f} to {high[0]:.0f},{high[1]:.0f}"
        raise UsageError(f"{path}: the outline reaches from {where}, outside its image of {width}x{height} pixels")
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 255)
    return mask
