"""What all the drawn data sets share: smooth noise, blob outlines, soft masks, light that passes through stain, and file writers."""

import math
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

Rng = np.random.Generator


def noise(rng: Rng, height: int, width: int, scale: float) -> np.ndarray:
    """Smooth random field, float32 (height, width), zero mean, unit deviation; `scale` is the size of its features in pixels."""
    rows, columns = max(2, math.ceil(height / scale) + 1), max(2, math.ceil(width / scale) + 1)
    coarse = rng.standard_normal((rows, columns)).astype(np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return (field - field.mean()) / (field.std() + 1e-6)


def outline(rng: Rng, roughness: float, elongation: float = 1.0, corners: int = 0, points: int = 72) -> np.ndarray:
    """Closed outline around the origin with mean radius about 1, float32 (points, 2), columns x and y.

    `roughness` is the deviation of the wavy part of the radius, `elongation` the ratio of the axes, `corners` > 2 gives a
    polygon with rounded corners in place of an ellipse. The orientation is random.
    """
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radius = np.ones(points)
    if corners > 2:
        edges = np.linspace(0, 2 * np.pi, corners, endpoint=False) + rng.uniform(-0.25, 0.25, corners) * 2 * np.pi / corners
        distance = np.cos(angles[:, None] - edges[None, :]) / rng.uniform(0.78, 1.0, corners)[None, :]
        # A p-norm of the edges' distances rounds the polygon's corners off.
        radius = 1 / (np.clip(distance, 0, None) ** 14).sum(axis=1) ** (1 / 14)
        radius = np.clip(radius / radius.mean(), 0.6, 1.5)
    for wave in range(2, 8):
        radius = radius + rng.normal(0, roughness / wave) * np.cos(wave * angles + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.35, 1.8)
    stretch = math.sqrt(elongation)
    x, y = radius * np.cos(angles) * stretch, radius * np.sin(angles) / stretch
    turn = rng.uniform(0, 2 * np.pi)
    rotated = np.stack([x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)], axis=1)
    return rotated.astype(np.float32)


def fill(points: np.ndarray, height: int, width: int, softness: float = 0.7) -> np.ndarray:
    """Soft mask of a polygon, float32 (height, width) in 0..1. `points` (n, 2) are x, y in pixels."""
    canvas = np.zeros((height, width), np.uint8)
    fixed = np.round(points * 16).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], 255, lineType=cv2.LINE_AA, shift=4)
    return blur(canvas.astype(np.float32) / 255, softness)


def depth(mask: np.ndarray) -> np.ndarray:
    """Distance in pixels of each point inside `mask` (> 0.5) to its edge, float32, 0 outside."""
    return cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 3)


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur that leaves the image alone when `sigma` is next to nothing."""
    return image if sigma < 0.15 else cv2.GaussianBlur(image, (0, 0), float(sigma))


def stain(image: np.ndarray, mask: np.ndarray, colour: np.ndarray, strength: float | np.ndarray = 1.0) -> None:
    """Light passes through a stained layer: `image` (h, w, 3), float in 0..1, is multiplied in place by the layer's colour where
    `mask` (h, w) is 1. Layers that overlap are darker, as under a microscope."""
    box = extent(mask)
    image[box] *= 1 - (mask * strength)[box][..., None] * (1 - colour)


def paint(image: np.ndarray, mask: np.ndarray, colour: np.ndarray, strength: float = 1.0) -> None:
    """An opaque layer: mixes `colour` into `image` (h, w, 3), float in 0..1, in place where `mask` (h, w) is 1."""
    box = extent(mask)
    cover = (mask[box] * strength)[..., None]
    image[box] += cover * (colour - image[box])


def extent(mask: np.ndarray) -> tuple[slice, slice]:
    """The smallest box that holds all of a mask; most masks are small, and drawing only there is several times faster."""
    spans = []
    for axis in (1, 0):
        filled = np.flatnonzero(mask.any(axis=axis))
        spans.append(slice(int(filled[0]), int(filled[-1]) + 1) if len(filled) else slice(0, 0))
    return spans[0], spans[1]


def mix(first: object, second: object, share: float) -> np.ndarray:
    """Colour between two RGB colours; `share` 0 gives the first."""
    return np.asarray(first, np.float32) * (1 - share) + np.asarray(second, np.float32) * share


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Float 0..1 to uint8 0..255, rounded and clipped."""
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def write_image(path: Path, image: np.ndarray, **options: int) -> None:
    """Writes uint8 (h, w) or (h, w, 3) in the format of the suffix; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
