"""Eye fundus pictures in the layout of ODIR-5K as the LMF study uses it: one label an eye, two eyes of a patient in most cases.

Layout: `full_df.csv` (one row an eye) and `preprocessed_images/<patient>_<left|right>.jpg`.
"""

import csv
from pathlib import Path

import cv2
import numpy as np

from common.data.sample.drawing import Rng, blur, fill, mix, noise, outline, paint, stain, to_uint8, write_image

SIZE = 112
COUNTS = {"N": 76, "D": 46, "O": 24, "C": 14, "G": 13, "A": 12, "M": 10, "H": 8}
LETTERS = ("N", "D", "G", "C", "A", "H", "M", "O")  # the order of the columns and of `target`
KEYWORDS = {
    "N": "normal fundus", "D": "moderate non proliferative retinopathy", "G": "glaucoma", "C": "cataract",
    "A": "dry age-related macular degeneration", "H": "hypertensive retinopathy", "M": "pathological myopia", "O": "chorioretinal scar",
}  # fmt: skip
GROUNDS = ((0.66, 0.34, 0.16), (0.60, 0.27, 0.14), (0.72, 0.44, 0.22), (0.55, 0.36, 0.20), (0.62, 0.40, 0.30))
VESSEL, DISC, BLOOD, FAT = (0.42, 0.10, 0.07), (0.98, 0.84, 0.52), (0.36, 0.04, 0.05), (0.97, 0.87, 0.50)
RADIUS = 0.47 * SIZE
MIDDLE = np.array([SIZE / 2, SIZE / 2])


def draw(kind: str, folder: Path, seed: int) -> None:
    """Writes the whole data set under `folder`."""
    rng = np.random.default_rng([seed, 5000])
    eyes = eyes_of_patients(rng)
    names = {}
    for patient, side, label in eyes:
        names[patient, side] = f"{patient}_{side}.jpg"
        photo_rng, patient_rng = np.random.default_rng([seed, 5000, patient, side == "left"]), np.random.default_rng([seed, 5000, patient])
        image = draw_eye(patient_rng, photo_rng, label, side)
        write_image(folder / "preprocessed_images" / names[patient, side], image, quality=92)
    write_table(folder / "full_df.csv", eyes, seed)


def eyes_of_patients(rng: Rng) -> list[tuple[int, str, str]]:
    """(patient, side, label) of every eye; two eyes of a patient have the same label in seven cases out of ten, as in the real set."""
    left = [label for label, count in COUNTS.items() for _ in range(count)]
    left = [left[index] for index in rng.permutation(len(left))]
    eyes, patient = [], 0
    while left:
        label = left.pop()
        patient += int(rng.integers(1, 4))
        if left and rng.random() < 0.85:
            same = rng.random() < 0.7 and label in left
            other = left.pop(left.index(label) if same else len(left) - 1)
            eyes += [(patient, "right", label), (patient, "left", other)]
        else:
            eyes.append((patient, str(rng.choice(["left", "right"])), label))
    return eyes


def write_table(path: Path, eyes: list[tuple[int, str, str]], seed: int) -> None:
    """full_df.csv: the patient's letters (either eye) in eight columns, the eye's own letter in `labels` and one-hot in `target`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ("ID", "Patient Age", "Patient Sex", "Left-Fundus", "Right-Fundus", "Left-Diagnostic Keywords", "Right-Diagnostic Keywords")
            + LETTERS
            + ("labels", "target", "filename")
        )
        for patient, side, label in eyes:
            person = np.random.default_rng([seed, 5001, patient])
            both = {other_side: other for number, other_side, other in eyes if number == patient}
            letters = [int(letter in both.values()) for letter in LETTERS]
            words = [KEYWORDS[both.get(other_side, label)] for other_side in ("left", "right")]
            row = [
                patient,
                int(person.integers(30, 85)),
                str(person.choice(["Female", "Male"])),
                f"{patient}_left.jpg",
                f"{patient}_right.jpg",
            ]
            target = [int(letter == label) for letter in LETTERS]
            writer.writerow([*row, *words, *letters, f"['{label}']", str(target), f"{patient}_{side}.jpg"])


def draw_eye(patient_rng: Rng, rng: Rng, label: str, side: str) -> np.ndarray:
    """One photograph, uint8 (112, 112, 3): a round picture on black. `patient_rng` decides the colour of the ground, `rng` the rest."""
    ground = mix(GROUNDS[patient_rng.integers(len(GROUNDS))], GROUNDS[patient_rng.integers(len(GROUNDS))], patient_rng.random())
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    distance = np.hypot(x - MIDDLE[0], y - MIDDLE[1]) / RADIUS
    image = np.ascontiguousarray(ground * (1.08 - 0.32 * distance[..., None] ** 2) * (1 + 0.03 * noise(rng, SIZE, SIZE, 14))[..., None])
    image = image.astype(np.float32)
    toward = 1 if side == "right" else -1  # the disc lies towards the nose
    disc = MIDDLE + (toward * rng.uniform(0.52, 0.66) * RADIUS, rng.uniform(-0.12, 0.12) * RADIUS)
    macula = MIDDLE + (-toward * rng.uniform(0.05, 0.15) * RADIUS, rng.uniform(0.0, 0.12) * RADIUS)
    if label == "M":
        tigroid(rng, image, disc)
    stain(image, np.exp(-(((x - macula[0]) ** 2 + (y - macula[1]) ** 2) / (2 * (0.13 * RADIUS) ** 2))), np.float32((0.5, 0.4, 0.4)), 0.75)
    size = rng.uniform(0.13, 0.16) * RADIUS
    vessels(rng, image, disc, toward, tortuous=3.2 if label == "H" else 1.0, strength=0.9 if label == "H" else 0.65)
    paint(image, fill(outline(rng, 0.03) * size + disc, SIZE, SIZE, 0.8), np.float32(DISC), 0.85)
    cup = rng.uniform(0.72, 0.85) if label == "G" else rng.uniform(0.25, 0.45)
    cup_colour = np.float32((1.0, 0.98, 0.90))
    if label == "G":  # a large pale cup; the disc itself is shown larger too so that 112 pixels can hold it
        paint(image, fill(outline(rng, 0.03) * size * 1.5 + disc, SIZE, SIZE, 0.8), np.float32((0.95, 0.70, 0.38)), 0.9)
        size *= 1.5
    paint(image, fill(outline(rng, 0.06) * size * cup + disc, SIZE, SIZE, 0.7), cup_colour, 0.85)
    SIGNS.get(label, lambda *_: None)(rng, image, disc, macula)
    image = blur(image, rng.uniform(0.2, 0.7))
    if label == "C":
        image = clouded(rng, image)
    image *= rng.uniform(0.75, 1.15) * rng.uniform(0.94, 1.06, 3).astype(np.float32)
    edge = blur((distance < 1).astype(np.float32), 0.6)
    image = image * edge[..., None] + rng.normal(0, 0.008, image.shape)
    return to_uint8(image)


def vessels(rng: Rng, image: np.ndarray, disc: np.ndarray, toward: int, tortuous: float, strength: float) -> None:
    """Six arcades leave the disc, bend round the macula and fork."""
    cover = np.zeros((SIZE, SIZE), np.uint8)
    for up in (-1, 1):
        for out, width in ((-1, 2), (-1, 1), (1, 1)):
            slant = rng.uniform(0.1, 0.5) if width == 2 or out == 1 else rng.uniform(0.6, 1.2)
            vessel(rng, cover, disc, np.arctan2(up, toward * out * slant), toward * out * up * 0.14, 14, width, tortuous)
    paint(image, blur(cover.astype(np.float32) / 255, 0.6), np.float32(VESSEL), strength)


def vessel(rng: Rng, cover: np.ndarray, start: np.ndarray, turn: float, bend: float, steps: int, width: int, tortuous: float) -> None:
    """A winding line of `steps` pieces with side branches, drawn in 255 into `cover` uint8 (h, w)."""
    points = [start]
    for step in range(steps):
        turn -= bend + rng.normal(0, 0.12) * tortuous
        points.append(points[-1] + 0.1 * RADIUS * np.array([np.cos(turn), np.sin(turn)]))
        if width and step and step % 3 == 0:
            side = rng.choice([-1, 1]) * rng.uniform(0.5, 1.0)
            vessel(rng, cover, points[-1], turn + side, -0.02, steps - step - 1, width - 1, tortuous)
    fixed = np.round(np.array(points) * 16).astype(np.int32)
    cv2.polylines(cover, [fixed], False, 255, max(1, width), cv2.LINE_AA, 4)


def spots(rng: Rng, image: np.ndarray, centre: np.ndarray, spread: float, count: int, radius: tuple[float, float], colour: tuple,
          elongation: float = 1.2) -> None:  # fmt: skip
    """`count` spots around `centre`; `spread` relative to the picture's radius, `radius` in pixels."""
    for _ in range(count):
        middle = centre + rng.normal(0, spread * RADIUS, 2)
        spot = outline(rng, 0.2, elongation) * rng.uniform(*radius) + middle
        paint(image, fill(spot, SIZE, SIZE, 0.4), np.float32(colour), rng.uniform(0.7, 0.95))


def diabetic(rng: Rng, image: np.ndarray, disc: np.ndarray, macula: np.ndarray) -> None:
    """Small bleedings all over and clusters of yellow exudates."""
    spots(rng, image, MIDDLE, 0.42, int(rng.integers(12, 26)), (0.9, 2.4), BLOOD)
    for _ in range(rng.integers(1, 4)):
        spots(rng, image, MIDDLE + rng.normal(0, 0.35 * RADIUS, 2), 0.08, int(rng.integers(5, 12)), (0.8, 1.8), FAT)


def degenerate(rng: Rng, image: np.ndarray, disc: np.ndarray, macula: np.ndarray) -> None:
    """Age-related degeneration: many pale drusen packed around the macula."""
    spots(rng, image, macula, 0.19, int(rng.integers(28, 48)), (0.8, 2.0), (0.90, 0.74, 0.45))


def hypertensive(rng: Rng, image: np.ndarray, disc: np.ndarray, macula: np.ndarray) -> None:
    """Flame-shaped bleedings and cotton-wool spots near the disc; the winding vessels are drawn before."""
    spots(rng, image, disc, 0.30, int(rng.integers(5, 10)), (2.0, 3.4), BLOOD, elongation=3.5)
    spots(rng, image, disc, 0.35, int(rng.integers(3, 6)), (2.4, 3.6), (0.96, 0.92, 0.80))


def tigroid(rng: Rng, image: np.ndarray, disc: np.ndarray) -> None:
    """Myopia: thin ground through which the choroid's stripes show, and a white crescent around the disc."""
    stripes = np.sin(3.5 * noise(rng, SIZE, SIZE, 24) + 2.5 * noise(rng, SIZE, SIZE, 8))
    paint(image, np.clip(stripes, 0, 1), np.float32((0.93, 0.55, 0.36)), 0.45)
    atrophy = outline(rng, 0.2, 1.2) * RADIUS * rng.uniform(0.26, 0.4) + disc
    paint(image, fill(atrophy, SIZE, SIZE, 1.5), np.float32((0.98, 0.90, 0.76)), 0.9)


def scarred(rng: Rng, image: np.ndarray, disc: np.ndarray, macula: np.ndarray) -> None:
    """Other diseases: pigmented scars, or a field of laser spots, or a pale membrane."""
    sign = rng.integers(3)
    if sign == 0:
        for _ in range(rng.integers(1, 3)):
            spot = MIDDLE + rng.normal(0, 0.4 * RADIUS, 2)
            paint(image, fill(outline(rng, 0.25) * rng.uniform(6, 11) + spot, SIZE, SIZE, 0.8), np.float32((0.92, 0.82, 0.60)), 0.85)
            spots(rng, image, spot, 0.1, int(rng.integers(4, 9)), (1.5, 3.5), (0.12, 0.08, 0.07))
    elif sign == 1:
        for turn in np.arange(0, 2 * np.pi, 0.28):
            for ring in (0.62, 0.78, 0.92):
                spot = MIDDLE + RADIUS * ring * np.array([np.cos(turn + ring), np.sin(turn + ring)]) + rng.normal(0, 1.2, 2)
                paint(image, fill(outline(rng, 0.1) * 1.7 + spot, SIZE, SIZE, 0.5), np.float32((0.30, 0.20, 0.12)), 0.7)
    else:
        veil = outline(rng, 0.3, 1.5) * RADIUS * rng.uniform(0.3, 0.45) + macula
        paint(image, fill(veil, SIZE, SIZE, 2), np.float32((0.75, 0.80, 0.74)), 0.55)


def clouded(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Cataract: the whole view through a milky lens."""
    image = blur(image, rng.uniform(2.0, 4.0))
    veil = np.float32((0.62, 0.56, 0.48)) * rng.uniform(0.75, 1.05)
    return mix(image, veil, rng.uniform(0.35, 0.6)) * (1 + 0.06 * noise(rng, SIZE, SIZE, 40))[..., None].astype(np.float32)


SIGNS = {"D": diabetic, "A": degenerate, "H": hypertensive, "O": scarred}
