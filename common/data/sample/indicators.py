"""The five clinical indicators of ISIC 2018 Task 2 as visible structures: each function draws one into a lesion and returns its mask.

Masks are soft, float32 (h, w) in 0..1, drawn around what is seen with a small margin and without its gaps, as an annotator would.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from common.data.sample.drawing import Rng, blur, depth, fill, mix, noise, outline, paint, stain


@dataclass
class Scene:
    """A lesion that is being drawn. `image` float32 (h, w, 3) is changed in place."""

    image: np.ndarray
    lesion: np.ndarray  # mask (h, w)
    points: np.ndarray  # its outline (n, 2)
    centre: np.ndarray  # (2,) x, y
    radius: float
    unit: float  # pixels of this picture for a pixel of a picture 160 wide

    def colour(self) -> np.ndarray:
        """Mean colour of the lesion so far."""
        return self.image[self.lesion > 0.5].mean(axis=0)


def lattice(rng: Rng, height: int, width: int, period: float, warp: float = 0.18) -> np.ndarray:
    """Warped hexagonal wave, float32 (h, w): 3 in the middle of each cell, -1 to -1.5 on the lines of the honeycomb between them."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x = x + warp * period * noise(rng, height, width, 2.5 * period)
    y = y + warp * period * noise(rng, height, width, 2.5 * period)
    turn, phases = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi, 2)
    directions = turn + np.array([0, 2 * np.pi / 3, 4 * np.pi / 3])
    # The phases must sum to zero, or the wave is a triangular pattern of another kind.
    waves = zip(directions, (phases[0], phases[1], -phases.sum()), strict=True)
    factor = 2 * np.pi / (period * np.sqrt(3) / 2)
    return np.sum([np.cos(factor * (x * np.cos(a) + y * np.sin(a)) + p) for a, p in waves], axis=0).astype(np.float32)


def part_of(rng: Rng, scene: Scene, size: tuple[float, float]) -> np.ndarray:
    """A region of the lesion, off its centre, with a radius of `size` times the lesion's: mask (h, w)."""
    turn = rng.uniform(0, 2 * np.pi)
    share = rng.uniform(*size)
    middle = scene.centre + scene.radius * max(0.0, 0.85 - share) * np.array([np.cos(turn), np.sin(turn)])
    height, width = scene.lesion.shape
    return fill(outline(rng, 0.2) * scene.radius * share + middle, height, width, 0.5) * (depth(scene.lesion) > 1.5 * scene.unit)


def dots(rng: Rng, scene: Scene, region: np.ndarray, count: int, radius: tuple[float, float], gap: float) -> np.ndarray:
    """Up to `count` round spots inside `region`, at least `gap` radii apart: mask (h, w) of all of them."""
    height, width = region.shape
    rows, columns = np.nonzero(region > 0.5)
    centres: list[np.ndarray] = []
    mask = np.zeros((height, width), np.float32)
    for pick in rng.integers(len(rows), size=8 * count) if len(rows) else ():
        size, spot = rng.uniform(*radius) * scene.unit, np.array([columns[pick], rows[pick]], np.float64)
        if all(np.hypot(*(spot - other)) > gap * size for other in centres):
            centres.append(spot)
            mask = np.maximum(mask, fill(outline(rng, 0.06) * size + spot, height, width, 0.4))
        if len(centres) == count:
            break
    return mask


def annotate(mask: np.ndarray, close: float, margin: float) -> np.ndarray:
    """What an annotator outlines: gaps up to `close` pixels filled, a border of `margin` pixels added."""
    inside = (mask > 0.4).astype(np.uint8)
    for operation, size in ((cv2.MORPH_CLOSE, close), (cv2.MORPH_DILATE, margin)):
        side = 2 * max(1, round(size)) + 1
        inside = cv2.morphologyEx(inside, operation, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    return inside.astype(np.float32)


def globules(rng: Rng, scene: Scene) -> np.ndarray:
    """Crowded round brown spots."""
    region = part_of(rng, scene, (0.4, 0.7))
    base = scene.colour()
    paint(scene.image, blur(region, 2 * scene.unit), mix(base, (0.80, 0.62, 0.48), 0.6), 0.45)
    spots = dots(rng, scene, region, int(rng.integers(14, 30)), (2.2, 3.3), 2.3)
    paint(scene.image, spots, mix(base, (0.20, 0.10, 0.06), 0.75), 0.9)
    return annotate(spots, 3.5 * scene.unit, 1.0 * scene.unit)


def milia_like_cyst(rng: Rng, scene: Scene) -> np.ndarray:
    """A few bright, round, whitish dots with a soft edge."""
    region = part_of(rng, scene, (0.75, 1.0))
    spots = dots(rng, scene, region, int(rng.integers(4, 11)), (1.9, 3.4), 3.5)
    paint(scene.image, blur(spots, 0.7 * scene.unit), np.float32((1.0, 0.96, 0.86)), 0.95)
    return annotate(spots, 1.0, 1.2 * scene.unit)


def pigment_network(rng: Rng, scene: Scene) -> np.ndarray:
    """Dark honeycomb lines on a lighter ground."""
    height, width = scene.lesion.shape
    region = part_of(rng, scene, (0.65, 1.05))
    base, ground = scene.colour(), blur(region, 1.5 * scene.unit)
    paint(scene.image, ground, mix(base, (0.82, 0.63, 0.49), 0.65), 0.5)
    lines = np.clip((-0.05 - lattice(rng, height, width, rng.uniform(6.5, 8.5) * scene.unit, 0.26)) / 0.8, 0, 1)
    patchy = np.clip(0.8 + 0.2 * noise(rng, height, width, 14 * scene.unit), 0.35, 1)
    stain(scene.image, ground * lines * patchy, mix(base, (0.20, 0.11, 0.07), 0.7), 0.75)
    return annotate(region, 2 * scene.unit, 0.5 * scene.unit)


def negative_network(rng: Rng, scene: Scene) -> np.ndarray:
    """The inverse: pale winding lines around dark, longish islands."""
    height, width = scene.lesion.shape
    region = part_of(rng, scene, (0.5, 0.8))
    base, ground = scene.colour(), blur(region, 1.5 * scene.unit)
    stain(scene.image, ground, mix(base, (0.35, 0.22, 0.15), 0.5), 0.55)
    lines = np.clip((0.15 - lattice(rng, height, width, rng.uniform(10, 13) * scene.unit, 0.36)) / 0.8, 0, 1)
    paint(scene.image, ground * lines, np.float32((0.93, 0.84, 0.77)), 0.7)
    return annotate(region, 2 * scene.unit, 0.5 * scene.unit)


def streaks(rng: Rng, scene: Scene) -> np.ndarray:
    """Dark finger-like lines that run outwards across a part of the border."""
    height, width = scene.lesion.shape
    lines = np.zeros((height, width), np.float32)
    count = len(scene.points)
    first, arc = rng.integers(count), rng.integers(count // 4, count // 2)
    for step in range(0, arc, 3):
        point = scene.points[(first + step) % count]
        outwards = (point - scene.centre) / np.linalg.norm(point - scene.centre)
        across = np.array([-outwards[1], outwards[0]])
        inner, outer = point - outwards * rng.uniform(4, 7) * scene.unit, point + outwards * rng.uniform(6, 12) * scene.unit
        half = rng.uniform(1.0, 1.5) * scene.unit
        lines = np.maximum(lines, fill(np.stack([inner - half * across, outer, inner + half * across]), height, width, 0.4))
    paint(scene.image, lines, mix(scene.colour(), (0.10, 0.06, 0.05), 0.8), 0.9)
    return annotate(lines, 4.5 * scene.unit, 1.0 * scene.unit)


# In this order, so that nets do not hide the dots.
DRAW = {
    "pigment_network": pigment_network,
    "negative_network": negative_network,
    "globules": globules,
    "streaks": streaks,
    "milia_like_cyst": milia_like_cyst,
}
NAMES = tuple(sorted(DRAW))
