"""Chest radiographs in the layout of the COVID-19 Radiography Database: `<Class>/images/<Class>-<n>.png` (grey) and
`<Class>/masks/<Class>-<n>.png` (the lungs; RGB and of another size than the image, as in the real set)."""

from pathlib import Path

import cv2
import numpy as np

from common.data.sample.drawing import Rng, Spots, blur, fill, noise, outline, write_image

SIZE, MASK_SIZE = 96, 82
COUNTS = {"Normal": 92, "Lung_Opacity": 54, "COVID": 34, "Viral Pneumonia": 16}
PATCHES = Spots((0.75,), (2, 4), (0.07, 0.11), 0.07)
CONSOLIDATION = Spots((0.85,), (1, 1), (0.12, 0.18), 0.05)


def draw_covid_radiography(folder: Path, seed: int) -> None:
    """Writes the whole data set under `folder`."""
    for class_index, (name, count) in enumerate(COUNTS.items()):
        for number in range(1, count + 1):
            image, lungs = draw_chest(np.random.default_rng([seed, 21165, class_index, number]), name)
            write_image(folder / name / "images" / f"{name}-{number}.png", image)
            mask = cv2.resize(lungs, (MASK_SIZE, MASK_SIZE), interpolation=cv2.INTER_AREA) > 0.5
            write_image(folder / name / "masks" / f"{name}-{number}.png", np.repeat(mask[..., None], 3, axis=2))


def draw_chest(rng: Rng, name: str) -> tuple[np.ndarray, np.ndarray]:
    """One radiograph (96, 96) and the soft mask of its lungs. Bright is dense."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
    middle = 0.5 + rng.uniform(-0.03, 0.03)
    length = rng.uniform(0.24, 0.27) if name == "Viral Pneumonia" else rng.uniform(0.29, 0.34)  # the real class holds children
    angles, sides = np.linspace(0, 2 * np.pi, 40), []
    for side in (-1, 1):  # an ellipse that is narrower at its top
        half = rng.uniform(0.11, 0.13) * (1 + 0.35 * np.sin(angles))
        points = np.stack([middle + side * 0.2 + half * np.cos(angles), 0.47 + length * np.sin(angles)], axis=1)
        sides.append(fill(points * SIZE, SIZE, SIZE, 1.5))
    lungs = sides[0] + sides[1]
    ribs = np.cos(2 * np.pi * ((y - 2 * (x - middle) ** 2) / rng.uniform(0.085, 0.1) + rng.random()))
    image = 0.72 - 0.5 * (x - middle) ** 2 + 0.02 * noise(rng, SIZE, SIZE, 30) + lungs * (0.06 * ribs - rng.uniform(0.34, 0.44))
    image += 0.15 * fill((outline(rng, 0.06, 1.2) * rng.uniform(0.11, 0.13) + (middle + 0.04, 0.64)) * SIZE, SIZE, SIZE, 1.5)  # heart

    layer = image[..., None]
    if name == "COVID":  # soft patches in the outer, lower parts of both lungs
        for lung, side in zip(sides, (-1, 1), strict=True):
            PATCHES.paint(rng, layer, SIZE * np.array([middle + side * 0.25, 0.58]), SIZE, 0.6 * lung)
    elif name == "Lung_Opacity":  # one dense patch in one lung
        side = int(rng.integers(2))
        CONSOLIDATION.paint(rng, layer, SIZE * np.array([middle + 0.4 * side - 0.2, rng.uniform(0.3, 0.65)]), SIZE, sides[side])
    elif name == "Viral Pneumonia":  # coarse texture all over
        image += 0.12 * lungs * (1 + noise(rng, SIZE, SIZE, 4))
    image = (image - 0.5) * rng.uniform(0.85, 1.2) + 0.5 + rng.uniform(-0.07, 0.07)
    return blur(image, rng.uniform(0.2, 0.6)) + rng.normal(0, 0.012, image.shape), lungs
