"""Eye fundus pictures in the layout of ODIR-5K as the LMF study uses it, `full_df.csv` (one row and one label an eye) and
`preprocessed_images/<patient>_<left|right>.jpg`."""

from pathlib import Path

import numpy as np
import pandas as pd

from common.data.sample.drawing import Rng, Spots, blur, draw_line, fill, noise, outline, paint, write_image

SIZE = 112
RADIUS, MIDDLE = 0.47 * SIZE, np.array([SIZE / 2, SIZE / 2])
COUNTS = {"N": 76, "D": 46, "G": 13, "C": 14, "A": 12, "H": 8, "M": 10, "O": 24}  # in the order of the columns and of `target`
DARK_GROUND, PALE_GROUND = np.array([0.58, 0.28, 0.14]), np.array([0.70, 0.43, 0.24])
VESSEL, BLOOD, FAT, PALE, BLACK = (0.42, 0.10, 0.07), (0.36, 0.04, 0.05), (0.97, 0.87, 0.50), (0.97, 0.92, 0.80), (0.12, 0.08, 0.07)
SIGNS = {  # label -> what its spots lie around, and the spots
    "D": ("middle", [Spots((BLOOD,), (12, 26), (0.02, 0.045), 0.4), Spots((FAT,), (8, 20), (0.015, 0.035), 0.3)]),
    "A": ("macula", [Spots((FAT,), (28, 48), (0.015, 0.04), 0.19)]),
    "H": ("disc", [Spots((BLOOD,), (7, 12), (0.05, 0.08), 0.35)]),
    "M": ("disc", [Spots((PALE,), (1, 1), (0.28, 0.42))]),
    "O": ("macula", [Spots((PALE,), (1, 1), (0.15, 0.25), 0.3), Spots((BLACK,), (4, 9), (0.04, 0.07), 0.3)]),
}


def draw_odir5k(folder: Path, seed: int) -> None:
    """Writes the whole data set under `folder`. The table holds the patient's letters (either eye) in eight columns, the eye's own
    letter in `labels` and one-hot in `target`."""
    rng = np.random.default_rng([seed, 5000])
    labels = np.repeat(list(COUNTS), list(COUNTS.values()))
    moved = rng.choice(len(labels), 60, replace=False)  # most eyes of a patient are alike, not all
    labels[moved] = rng.permutation(labels[moved])
    rows = []
    for patient, group in pd.Series(labels).groupby(1 + np.arange(len(labels)) * 7 // 13):  # two eyes of most patients, one of others
        eyes = dict(zip(("right", "left"), group, strict=False))
        ground = DARK_GROUND + rng.random(3) * (PALE_GROUND - DARK_GROUND)
        about = [patient, rng.integers(30, 85), rng.choice(["Female", "Male"]), f"{patient}_left.jpg", f"{patient}_right.jpg"]
        about += [f"drawn {eyes.get(side, '?')}" for side in ("left", "right")] + [int(letter in eyes.values()) for letter in COUNTS]
        for side, label in eyes.items():
            name = f"{patient}_{side}.jpg"
            write_image(folder / "preprocessed_images" / name, draw_eye(rng, ground, label, side), quality=92)
            rows.append([*about, [label], [int(letter == label) for letter in COUNTS], name])
    header = ["ID", "Patient Age", "Patient Sex", "Left-Fundus", "Right-Fundus", "Left-Diagnostic Keywords", "Right-Diagnostic Keywords"]
    table = pd.DataFrame(rows, columns=[*header, *COUNTS, "labels", "target", "filename"])
    table.to_csv(folder / "full_df.csv", index=False, lineterminator="\n")


def draw_eye(rng: Rng, ground: np.ndarray, label: str, side: str) -> np.ndarray:
    """One photograph (112, 112, 3): a round picture on black."""
    y, x = np.mgrid[:SIZE, :SIZE]
    distance = np.hypot(x - MIDDLE[0], y - MIDDLE[1]) / RADIUS
    opening = blur((distance < 1).astype(np.float32), 0.6)
    image = ground * (1.08 - 0.32 * distance**2 + 0.03 * noise(rng, SIZE, SIZE, 14))[..., None]
    toward = 1 if side == "right" else -1  # the disc lies towards the nose
    disc = MIDDLE + (toward * rng.uniform(0.52, 0.66) * RADIUS, rng.uniform(-0.12, 0.12) * RADIUS)
    macula = MIDDLE + (-toward * rng.uniform(0.05, 0.15) * RADIUS, rng.uniform(0.0, 0.12) * RADIUS)
    paint(image, fill(outline(rng, 0.1) * 0.15 * RADIUS + macula, SIZE, SIZE, 4), ground * 0.4, 0.8)
    vessels = np.zeros((SIZE, SIZE), np.float32)
    for turn in np.linspace(0, 2 * np.pi, 6, endpoint=False) + rng.uniform(0, 1):
        turns = turn + np.cumsum(rng.normal(0, 0.5 if label == "H" else 0.15, 16))  # high blood pressure makes them winding
        steps = np.stack([np.cos(turns), np.sin(turns)], axis=1)
        draw_line(vessels, disc + 0.1 * RADIUS * np.cumsum(steps, axis=0), 2 if label == "H" else 1)
    paint(image, blur(vessels, 0.6), VESSEL, 0.8)
    where, signs = SIGNS.get(label, ("middle", ()))
    for spots in signs:
        spots.paint(rng, image, {"middle": MIDDLE, "macula": macula, "disc": disc}[where], RADIUS, opening)
    size = rng.uniform(0.14, 0.17) * RADIUS * (1.5 if label == "G" else 1)
    cup = size * (rng.uniform(0.72, 0.85) if label == "G" else rng.uniform(0.25, 0.45))
    for radius, colour in ((size, (0.98, 0.78, 0.46)), (cup, (1.0, 0.98, 0.90))):
        paint(image, fill(outline(rng, 0.04) * radius + disc, SIZE, SIZE, 0.8), colour, 0.9)
    if label == "C":  # a milky lens
        image += rng.uniform(0.35, 0.6) * (np.array([0.62, 0.56, 0.48]) - image)
    image = blur(image, rng.uniform(2, 4) if label == "C" else rng.uniform(0.2, 0.7)) * rng.uniform(0.75, 1.15)
    return image * opening[..., None] + rng.normal(0, 0.008, image.shape)
