"""Pictures of the page: the map over the image, and the outline of a region."""

import matplotlib as mpl
import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

from common.data.images import resize
from feedback.figures import MAP

DISPLAY_SIDE = 512
# Blue is told apart from every colour of the map, with any colour vision; white beside it shows on dark skin too.
USER = ((0, 114, 178), (255, 255, 255))
MODEL = ((255, 255, 255), (0, 0, 0))


def display_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width at which an image is shown: the longer side is `DISPLAY_SIDE`, the aspect is kept."""
    scale = DISPLAY_SIDE / max(shape[:2])
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def shown(picture: np.ndarray) -> np.ndarray:
    """`(h, w, 3)` uint8 at the size of the page."""
    return resize(picture, display_shape(picture.shape), "bilinear")


def with_map(picture: np.ndarray, saliency: np.ndarray, strength: float, threshold: float | None = None) -> np.ndarray:
    """Image `(h, w, 3)` uint8 with a map `(s, s)` in 0..1 over it, at the size of the page; strength 0 shows the image alone.

    The map covers a pixel as much as it marks it: skin that the model did not look at keeps its own colour. With a threshold the model's
    region, which is what a correction is compared with, has a white line around it.
    """
    image = shown(picture)
    values = np.clip(resize(saliency.astype(np.float32), image.shape[:2], "bilinear"), 0, 1)[..., None]
    colours = mpl.colormaps[MAP](values[..., 0])[..., :3] * 255
    drawn = np.rint(image + strength * values * (colours - image)).astype(np.uint8)
    return drawn if threshold is None else outlined(drawn, values[..., 0] >= threshold, MODEL)


def outlined(image: np.ndarray, region: np.ndarray, colours: tuple[tuple[int, ...], tuple[int, ...]] = USER) -> np.ndarray:
    """A copy of `image` `(h, w, 3)` with the edge of `region` (bool, any size) drawn on it; colours of the line and beside it."""
    inside = resize(region.astype(np.uint8), image.shape[:2], "nearest").astype(bool)
    edge = inside & ~binary_erosion(inside, iterations=2)
    result = image.copy()
    result[binary_dilation(edge, iterations=1) & ~edge] = colours[1]
    result[edge] = colours[0]
    return result
