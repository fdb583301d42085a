"""What all the drawn data sets share: smooth noise, blob outlines, soft masks, paint, spots, and a file writer.

Pictures are float (h, w, 3) in 0..1 until they are written, masks float32 (h, w) in 0..1, points (n, 2) x, y in pixels.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

Rng = np.random.Generator
Colour = tuple[float, ...]
Range = tuple[float, float]  # of a uniform draw


@dataclass(frozen=True)
class Spots:
    """Spots that a kind of picture shows. Lengths are relative to the radius of what they lie on."""

    colours: tuple[Colour, ...]  # one is drawn for each spot
    count: tuple[int, int]
    size: Range
    spread: float = 0.0  # deviation of their places

    def paint(self, rng: Rng, image: np.ndarray, centre: np.ndarray, radius: float, within: np.ndarray) -> np.ndarray:
        """Paints them around `centre` on something with this radius in pixels, as far as the mask `within` lets through. Their mask."""
        painted = np.zeros_like(within)
        for _ in range(rng.integers(*self.count, endpoint=True)):
            place = centre + rng.normal(0, self.spread, 2) * radius
            mask = fill(outline(rng, 0.2, 1.2) * rng.uniform(*self.size) * radius + place, *within.shape, softness=0.5) * within
            paint(image, mask, self.colours[rng.integers(len(self.colours))], rng.uniform(0.75, 0.95))
            painted = np.maximum(painted, mask)
        return painted


def noise(rng: Rng, height: int, width: int, scale: float) -> np.ndarray:
    """Smooth random field (height, width), zero mean, unit deviation; `scale` is the size of its features in pixels."""
    coarse = rng.standard_normal((int(height / scale) + 2, int(width / scale) + 2), np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return (field - field.mean()) / (field.std() + 1e-6)


def outline(rng: Rng, roughness: float, elongation: float = 1.0) -> np.ndarray:
    """Closed outline (72, 2) around the origin with a mean radius of about 1, turned at random.

    `roughness` is the deviation of the wavy part of the radius, `elongation` the ratio of the axes.
    """
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    waves = np.arange(2, 8)[:, None]
    heights, phases = rng.normal(0, roughness, waves.shape) / waves, rng.uniform(0, 2 * np.pi, waves.shape)
    radius = np.clip(1 + (heights * np.cos(waves * angles + phases)).sum(axis=0), 0.35, 1.8)
    ellipse = np.cos(angles) * elongation**0.5 + 1j * np.sin(angles) / elongation**0.5
    turned = radius * ellipse * np.exp(1j * rng.uniform(0, np.pi))
    return np.stack([turned.real, turned.imag], axis=1)


def fill(points: np.ndarray, height: int, width: int, softness: float = 0.0) -> np.ndarray:
    """Mask of a polygon; `softness` blurs its edge."""
    canvas = np.zeros((height, width), np.float32)
    cv2.fillPoly(canvas, [np.round(points * 16).astype(np.int32)], 1.0, shift=4)
    return blur(canvas, softness)


def draw_line(mask: np.ndarray, points: np.ndarray, thickness: int) -> None:
    """Draws a line through points into a mask, in place."""
    cv2.polylines(mask, [np.round(points * 16).astype(np.int32)], False, 1.0, thickness, shift=4)


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur that leaves the picture alone when `sigma` is next to nothing."""
    return image if sigma < 0.15 else cv2.GaussianBlur(image, (0, 0), sigma)


def paint(image: np.ndarray, mask: np.ndarray, colour: Colour | np.ndarray, strength: float = 1.0) -> None:
    """Mixes `colour` into the picture, in place, where the mask is 1."""
    x, y, width, height = cv2.boundingRect((mask > 0).astype(np.uint8))  # most masks are small
    box = slice(y, y + height), slice(x, x + width)
    image[box] += (mask[box] * strength)[..., None] * (colour - image[box])


def write_image(path: Path, image: np.ndarray, **options: int) -> None:
    """Writes a picture, or a bool mask as 0 and 255, in the format of the suffix; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)).save(path, **options)
