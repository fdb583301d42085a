"""What a user drew -> the region that is meant."""

import json
import math
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from common.data.images import resize
from common.errors import UsageError

TOOLS = ("brush", "outline", "eraser")
# Smaller drawings are slips of the hand: this share of the image, at least.
SMALLEST = 5e-4
# Strokes are drawn at this size at most; a hand is not more exact.
_SIDE = 1024
_MOST_POINTS = 100_000


def read_drawing(text: str, image: str) -> list[dict[str, Any]]:
    """The strokes that a browser sent (drawing.js), checked: `[{"tool", "width", "points": [[x, y], …]}, …]`, all as shares of the image.

    Args:
        text: JSON `{"image": name, "strokes": […]}`; "" is no stroke.
        image: the image that the drawing must belong to.

    Raises:
        UsageError: not such a drawing, too long, or one of another image.
    """
    if not text:
        return []
    try:
        sent = json.loads(text)
        strokes = [
            {"tool": one["tool"], "width": float(one["width"]), "points": [(float(x), float(y)) for x, y in one["points"]]}
            for one in sent["strokes"]
        ]
    except (ValueError, KeyError, TypeError):
        raise UsageError("the drawing did not arrive whole; clear it and draw again") from None
    numbers = [value for one in strokes for value in (one["width"], *(v for point in one["points"] for v in point))]
    if len(numbers) > _MOST_POINTS or not all(math.isfinite(v) and -10 <= v <= 10 for v in numbers):
        raise UsageError("the drawing is too long or leaves the image; clear it and draw again")
    if any(one["tool"] not in TOOLS or not one["points"] for one in strokes):
        raise UsageError(f"the drawing uses an unknown tool; expected {', '.join(TOOLS)}")
    if sent.get("image") != image:
        raise UsageError("the drawing belongs to another image; draw again on this one")
    return strokes


def drawn_region(strokes: list[dict[str, Any]], shape: tuple[int, int]) -> np.ndarray:
    """The region of a drawing at the image's own size.

    Args:
        strokes: of `read_drawing`, in the order drawn: a brush adds its line, an outline what it encloses (its end is joined to its
            beginning), an eraser takes away. Widths are shares of the longer side.
        shape: `(height, width)` of the image.

    Returns:
        `(height, width)` bool.

    Raises:
        UsageError: nothing, or next to nothing, is drawn.
    """
    scale = min(1.0, _SIDE / max(shape))
    height, width = (max(1, round(side * scale)) for side in shape)
    plane = Image.new("1", (width, height))
    pen = ImageDraw.Draw(plane)
    for stroke in strokes:
        points = [(x * width, y * height) for x, y in stroke["points"]]
        if stroke["tool"] == "outline":
            if len(points) > 2:
                pen.polygon(points, fill=1, outline=1)
            continue
        colour, thick = int(stroke["tool"] == "brush"), max(1.0, stroke["width"] * max(width, height))
        pen.line(points, fill=colour, width=round(thick))
        for x, y in points:  # round ends and joints
            pen.ellipse([x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2], fill=colour)
    region = np.asarray(plane).astype(np.uint8)
    if region.mean() < SMALLEST:
        raise UsageError("no region is drawn; draw it on the image, or give it as an ellipse")
    return resize(region, shape, "nearest").astype(bool)


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
