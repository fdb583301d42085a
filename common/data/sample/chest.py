"""Chest radiographs in the layout of the COVID-19 Radiography Database: `<Class>/images/<Class>-<n>.png` (grey) and
`<Class>/masks/<Class>-<n>.png` (the lungs; RGB and of another size than the image, as in the real set)."""

from pathlib import Path

import cv2
import numpy as np

from common.data.sample.drawing import Rng, blur, fill, noise, outline, to_uint8, write_image

SIZE, MASK_SIZE = 96, 82
COUNTS = {"Normal": 92, "Lung_Opacity": 54, "COVID": 34, "Viral Pneumonia": 16}


def draw(kind: str, folder: Path, seed: int) -> None:
    """Writes the whole data set under `folder`."""
    for class_index, (name, count) in enumerate(COUNTS.items()):
        for number in range(1, count + 1):
            image, lungs = draw_chest(np.random.default_rng([seed, 21165, class_index, number]), name)
            write_image(folder / name / "images" / f"{name}-{number}.png", image)
            mask = cv2.resize(lungs, (MASK_SIZE, MASK_SIZE), interpolation=cv2.INTER_AREA) > 0.5
            write_image(folder / name / "masks" / f"{name}-{number}.png", np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255)


def draw_chest(rng: Rng, name: str) -> tuple[np.ndarray, np.ndarray]:
    """One radiograph, uint8 (96, 96), and the soft mask of its lungs, float32 (96, 96). Bright is dense."""
    child = name == "Viral Pneumonia"  # the real class holds children: wide heart, short lungs
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
    middle = 0.5 + rng.uniform(-0.03, 0.03)
    body = np.exp(-(np.abs((x - middle) / rng.uniform(0.50, 0.62)) ** 5)) * np.clip(0.55 + 0.9 * y, 0, 1)
    image = 0.12 + 0.60 * body + 0.02 * noise(rng, SIZE, SIZE, 30)
    lungs, sides = np.zeros((SIZE, SIZE), np.float32), []
    top, bottom = rng.uniform(0.12, 0.18), rng.uniform(0.66, 0.72) if child else rng.uniform(0.74, 0.84)
    for side in (-1, 1):
        lung = lung_mask(rng, middle + side * rng.uniform(0.19, 0.22), top, bottom + 0.02 * side, side)
        sides.append(lung)
        lungs = np.maximum(lungs, lung)
    image -= lungs * rng.uniform(0.34, 0.46)
    ribs(rng, image, lungs, middle)
    image += 0.10 * np.exp(-(((x - middle) / 0.05) ** 2))  # spine
    heart = outline(rng, 0.06, 1.25) * (0.17 if child else 0.135) * SIZE + np.array([middle + 0.05, bottom - 0.12]) * SIZE
    image += 0.15 * fill(heart, SIZE, SIZE, 1.5)
    image += 0.14 * (1 - np.clip(np.abs(y - (bottom + 0.2)) / 0.2, 0, 1)) * body
    FINDINGS.get(name, lambda *_: None)(rng, image, sides, middle)
    if rng.random() < 0.4:  # the letter that marks the side
        letter, place = np.zeros((SIZE, SIZE), np.uint8), (int(rng.integers(2, 8)), int(rng.integers(10, 18)))
        cv2.putText(letter, str(rng.choice(["L", "R"])), place, cv2.FONT_HERSHEY_PLAIN, 0.7, 255, 1)
        image = np.maximum(image, letter / 255)
    image = (image - 0.5) * rng.uniform(0.85, 1.2) + 0.5 + rng.uniform(-0.07, 0.07)
    image = blur(image.astype(np.float32), rng.uniform(0.2, 0.6)) + rng.normal(0, 0.012, image.shape)
    return to_uint8(image), lungs


def lung_mask(rng: Rng, centre: float, top: float, bottom: float, side: int) -> np.ndarray:
    """One lung: pointed at the top, wide and hollowed at the bottom; soft mask (96, 96). `side` -1 is the left half of the picture."""
    outer = np.array([(0.02, 0), (0.08, 0.08), (0.115, 0.3), (0.14, 0.6), (0.155, 0.85), (0.15, 1.02)])
    inner = np.array([(0.05, 0.93), (-0.04, 0.84), (-0.10 if side < 0 else -0.06, 0.72), (-0.09, 0.45), (-0.08, 0.2), (-0.04, 0.03)])
    points = np.concatenate([outer, inner])
    points[:, 0] = centre + side * points[:, 0] * rng.uniform(1.08, 1.25)
    points[:, 1] = top + points[:, 1] * (bottom - top)
    return fill((points + rng.normal(0, 0.006, points.shape)) * SIZE, SIZE, SIZE, 1.6)


def ribs(rng: Rng, image: np.ndarray, lungs: np.ndarray, middle: float) -> None:
    """Bright bands that fall outwards across the lungs, added to `image` in place."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
    slope, pitch = rng.uniform(0.9, 1.3), rng.uniform(0.085, 0.1)
    phase = (y - slope * (x - middle) ** 2 * 2) / pitch
    image += 0.09 * lungs * np.clip(np.cos(2 * np.pi * (phase + rng.random())), 0, 1)


def cloud(rng: Rng, image: np.ndarray, lung: np.ndarray, centre: np.ndarray, radius: float, density: float, softness: float) -> None:
    """A patch of denser lung around `centre` (x, y, 0..1), added to `image` in place."""
    patch = fill((outline(rng, 0.3, rng.uniform(1, 1.5)) * radius + centre) * SIZE, SIZE, SIZE, softness)
    image += density * patch * lung * (1 + 0.22 * noise(rng, SIZE, SIZE, 5))


def covid(rng: Rng, image: np.ndarray, sides: list[np.ndarray], middle: float) -> None:
    """Several soft ground-glass patches in the outer, lower parts of both lungs."""
    for lung, side in zip(sides, (-1, 1), strict=True):
        for _ in range(rng.integers(2, 5)):
            centre = np.array([middle + side * rng.uniform(0.24, 0.33), rng.uniform(0.42, 0.74)])
            cloud(rng, image, lung, centre, rng.uniform(0.06, 0.10), rng.uniform(0.16, 0.26), 2.5)


def opacity(rng: Rng, image: np.ndarray, sides: list[np.ndarray], middle: float) -> None:
    """One dense consolidation in one lung, or fluid that fills its bottom."""
    side = int(rng.integers(2))
    if rng.random() < 0.6:
        centre = np.array([middle + (2 * side - 1) * rng.uniform(0.14, 0.24), rng.uniform(0.28, 0.62)])
        cloud(rng, image, sides[side], centre, rng.uniform(0.09, 0.14), rng.uniform(0.30, 0.42), 1.5)
    else:
        y = np.mgrid[:SIZE, :SIZE][0].astype(np.float32) / SIZE
        image += 0.36 * sides[side] * np.clip((y - rng.uniform(0.48, 0.6)) / 0.06, 0, 1)


def viral(rng: Rng, image: np.ndarray, sides: list[np.ndarray], middle: float) -> None:
    """Coarse streaks that spread from the roots of both lungs."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
    for lung, side in zip(sides, (-1, 1), strict=True):
        turn = np.arctan2(y - 0.45, side * (x - middle))
        near = np.exp(-(((x - middle) / 0.24) ** 2 + ((y - 0.45) / 0.26) ** 2))
        rays = np.clip(np.cos(rng.integers(11, 16) * turn + 0.8 * noise(rng, SIZE, SIZE, 10)), 0, 1)
        image += lung * near * (0.16 + 0.30 * rays)


FINDINGS = {"COVID": covid, "Lung_Opacity": opacity, "Viral Pneumonia": viral}
