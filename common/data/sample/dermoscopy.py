"""Dermoscopy data sets in their official layouts: ISIC 2018 Task 2, ISIC 2019 and HAM10000.

They share pictures as the real ones do: ISIC 2019 holds pictures of ISIC 2018 (three in ten under the same id, the others with the suffix
`_downsampled`), and the ground truth file beside the ISIC 2018 sample labels that sample, its validation set and the HAM10000 sample,
where it parts akiec into AK and SCC. Numbers of ids start at 9,000,000, which no real picture has.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from common.data.sample.drawing import Colour, Rng, Spots, blur, draw_line, fill, noise, outline, paint, write_image

CLASSES_2019 = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
SIZE_2018, SIZE_SMALL = (120, 160), (84, 112)  # height, width
PARTS_2018 = {  # part -> folder of its attribute masks, and its pictures
    "Training": ("ISIC2018_Task2_Training_GroundTruth_v3", (9_000_000, {"NV": 110, "MEL": 46, "BKL": 24}, 1.0)),
    "Validation": ("ISIC2018_Task2_Validation_GroundTruth", (9_010_000, {"NV": 18, "MEL": 8, "BKL": 4}, 1.0)),
}
UNKNOWN_TO_2019 = "ISIC_9000178_downsampled"  # as in the real set, ISIC 2019 lacks one picture of ISIC 2018
COUNTS_2019 = {"NV": 100, "MEL": 40, "BCC": 28, "BKL": 22, "AK": 14, "SCC": 10, "VASC": 8, "DF": 8}
SHARED_2018_2019 = 40  # pictures of the ISIC 2018 sample that the ISIC 2019 sample holds too
HAM10000 = (9_024_000, {"NV": 116, "MEL": 28, "BKL": 26, "BCC": 18, "AK": 9, "SCC": 5, "VASC": 10, "DF": 8})
TAN, BROWN, DARK, BLACK, GREY = (0.74, 0.55, 0.40), (0.55, 0.36, 0.24), (0.30, 0.18, 0.13), (0.13, 0.10, 0.10), (0.60, 0.51, 0.45)
BLUE, ROSE, RED, SCARLET, WHITE = (0.38, 0.40, 0.50), (0.88, 0.55, 0.55), (0.80, 0.40, 0.36), (0.66, 0.14, 0.26), (0.95, 0.88, 0.82)
DARK_SKIN, PALE_SKIN = np.array([0.80, 0.63, 0.54]), np.array([0.93, 0.79, 0.74])


@dataclass(frozen=True)
class Look:
    """How a diagnosis looks."""

    colours: tuple[Colour, ...]  # of the whole lesion; one is drawn
    roughness: float  # of the outline
    softness: float  # width of the border in pixels of a picture 160 wide
    spots: Spots = Spots((WHITE,), (0, 0), (0, 0))


LOOKS = {
    "NV": Look((TAN, BROWN), 0.07, 3.0),
    "MEL": Look((BROWN, DARK), 0.32, 1.5, Spots((BLACK, BLUE, ROSE, WHITE), (2, 5), (0.25, 0.5), 0.5)),
    "BKL": Look((GREY, TAN), 0.15, 0.5, Spots((DARK,), (4, 9), (0.06, 0.1), 0.5)),
    "BCC": Look((ROSE,), 0.15, 3.0, Spots((BLUE,), (3, 7), (0.1, 0.2), 0.4)),
    "AK": Look((RED, ROSE), 0.28, 5.0, Spots((WHITE,), (8, 16), (0.06, 0.12), 0.5)),
    "SCC": Look((RED,), 0.15, 2.0, Spots((WHITE,), (1, 1), (0.4, 0.6))),
    "DF": Look((TAN,), 0.06, 6.0, Spots((WHITE,), (1, 1), (0.4, 0.55))),
    "VASC": Look((SCARLET,), 0.12, 1.5, Spots(((0.42, 0.10, 0.32), (0.85, 0.30, 0.36)), (6, 12), (0.12, 0.25), 0.45)),
}


def draw_lesion(
    diagnosis: str, present: frozenset[str], lesion_rng: Rng, photo_rng: Rng, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Draws a lesion with the indicators `present`: the image (h, w, 3), the lesion's bool mask (h, w), and one for each indicator.
    `photo_rng` decides what belongs to one photograph of it (turn, light, focus), `lesion_rng` the rest."""
    rng, look, unit = lesion_rng, LOOKS[diagnosis], width / 160
    skin = DARK_SKIN + rng.random() * (PALE_SKIN - DARK_SKIN)
    image = skin * (1 + 0.03 * noise(rng, height, width, 15 * unit))[..., None]
    centre, radius = np.array([width, height]) * rng.uniform(0.45, 0.55, 2), rng.uniform(28, 42) * unit
    lesion = fill(outline(rng, look.roughness, rng.uniform(1.0, 1.35)) * radius + centre, height, width)
    body = blur(lesion, look.softness * unit)
    colour = np.array(look.colours[rng.integers(len(look.colours))]) + rng.normal(0, 0.03, 3)
    paint(image, body * np.clip(0.85 + 0.1 * noise(rng, height, width, radius / 3), 0, 1), colour)
    look.spots.paint(rng, image, centre, radius, body)
    masks = dict.fromkeys(INDICATORS, np.zeros_like(lesion))
    for name, (draw_indicator, _, _) in INDICATORS.items():
        if name in present:
            masks[name] = draw_indicator(rng, image, centre, radius, lesion)

    turn = cv2.getRotationMatrix2D((width / 2, height / 2), photo_rng.uniform(0, 360), photo_rng.uniform(0.8, 1.05))
    image = cv2.warpAffine(image, turn, (width, height), borderValue=tuple(skin))
    image = blur(image, photo_rng.uniform(0, 0.8) * unit) * photo_rng.uniform(0.85, 1.05) * photo_rng.uniform(0.95, 1.05, 3)
    lesion, *turned = (cv2.warpAffine(mask, turn, (width, height)) > 0.5 for mask in (lesion, *masks.values()))
    return image + photo_rng.normal(0, 0.01, image.shape), lesion, dict(zip(masks, turned, strict=True))


def net(
    rng: Rng, image: np.ndarray, centre: np.ndarray, radius: float, lesion: np.ndarray, ground: Colour, lines: Colour, pitch: float
) -> np.ndarray:
    """Crossing lines on a ground of another shade, over a part of the lesion; `pitch` is relative to its radius. Their mask."""
    height, width = lesion.shape
    region = fill((outline(rng, 0.2) * rng.uniform(0.6, 0.9) + rng.normal(0, 0.2, 2)) * radius + centre, height, width) * lesion
    paint(image, region, ground, 0.5)
    turn = rng.uniform(0, np.pi)
    y, x = np.mgrid[:height, :width] * 2 * np.pi / (pitch * radius)
    waves = np.maximum(np.cos(x * np.cos(turn) + y * np.sin(turn)), np.cos(x * np.sin(turn) - y * np.cos(turn)))
    paint(image, region * (waves > 0.5), lines, 0.8)
    return region


def streaks(rng: Rng, image: np.ndarray, centre: np.ndarray, radius: float, lesion: np.ndarray) -> np.ndarray:
    """Dark lines that run outwards across a part of the border. Their mask."""
    mask = np.zeros_like(lesion)
    for turn in rng.uniform(0, 2 * np.pi) + 0.25 * np.arange(rng.integers(6, 12)):
        ends = np.outer((rng.uniform(0.7, 0.8), rng.uniform(1.2, 1.4)), (np.cos(turn), np.sin(turn))) * radius + centre
        draw_line(mask, ends, max(2, round(0.1 * radius)))
    paint(image, mask, BLACK, 0.8)
    return mask


# Indicator -> what draws it into a lesion and returns its mask; images of the 2594 of ISIC 2018 Task 2 that show it (melanoma paper,
# Table 1); diagnoses that do. In this order, so that nets do not hide the dots.
INDICATORS: dict[str, tuple[Callable[..., np.ndarray], int, tuple[str, ...]]] = {
    "pigment_network": (partial(net, ground=TAN, lines=DARK, pitch=0.25), 1523, ("NV", "MEL", "BKL")),
    "negative_network": (partial(net, ground=DARK, lines=WHITE, pitch=0.38), 190, ("MEL",)),
    "globules": (Spots((BLACK,), (14, 30), (0.07, 0.1), 0.35).paint, 603, ("NV", "MEL")),
    "streaks": (streaks, 100, ("MEL",)),
    "milia_like_cyst": (Spots((WHITE,), (4, 11), (0.07, 0.11), 0.4).paint, 682, ("BKL", "NV", "MEL")),
}


@dataclass(frozen=True)
class Picture:
    """What is needed to draw one picture again: two pictures with the same `lesion` show the same lesion."""

    name: str
    diagnosis: str
    indicators: frozenset[str]
    lesion: tuple[int, ...]
    photo: int

    def draw(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        rngs = np.random.default_rng(self.lesion), np.random.default_rng([*self.lesion, self.photo + 1])
        return draw_lesion(self.diagnosis, self.indicators, *rngs, *size)

    def person(self) -> tuple[float, str, str]:
        """Age (unknown for some), sex and site."""
        rng = np.random.default_rng([*self.lesion, 0])
        ages, sites = [np.nan, *range(15, 85, 5)], ["back", "trunk", "face", "lower extremity"]
        return rng.choice(ages), rng.choice(["female", "male"]), rng.choice(sites)


def pictures_of(seed: int, first: int, counts: dict[str, int], new: float = 0.75) -> list[Picture]:
    """Pictures of each diagnosis in random order with ids from `first` on; `new` is the share that show another lesion than the one before
    (HAM10000 has 1.34 a lesion). Each indicator is seen in exactly its share of the lesions (at least one)."""
    rng = np.random.default_rng([seed, first])
    labels = np.repeat(list(counts), list(counts.values()))
    begins = (rng.random(len(labels)) < new) | (labels != np.roll(labels, 1))
    lesions = np.cumsum(begins) - 1
    shown: list[set[str]] = [set() for _ in range(begins.sum())]
    for name, (_, images, diagnoses) in INDICATORS.items():
        weights = np.where(np.isin(labels[begins], diagnoses), 1, 0.02)
        count = max(1, round(images / 2594 * len(shown)))
        for lesion in rng.choice(len(shown), count, replace=False, p=weights / weights.sum()):
            shown[lesion].add(name)
    return [
        Picture(f"ISIC_{first + number}", str(labels[i]), frozenset(shown[lesions[i]]), (seed, first, int(lesions[i])), int(i))
        for number, i in enumerate(rng.permutation(len(labels)))
    ]


def in_2019(pictures: list[Picture]) -> list[Picture]:
    """Pictures of ISIC 2018 as ISIC 2019 holds them: under the same id for 3 in 10 (772 of 2594), else with a suffix."""
    return [each if index % 10 < 3 else replace(each, name=f"{each.name}_downsampled") for index, each in enumerate(pictures)]


def draw_isic2018(folder: Path, seed: int) -> None:
    """Task 1-2 input, Task 2 attribute masks, lesion masks, and the ISIC 2019 ground truth that gives the diagnoses."""
    known = pictures_of(seed, *HAM10000)
    for part, (masks, numbers) in PARTS_2018.items():
        pictures = pictures_of(seed, *numbers)
        known += [picture for picture in in_2019(pictures) if picture.name != UNKNOWN_TO_2019]
        for picture in pictures:
            image, lesion, indicators = picture.draw(SIZE_2018)
            write_image(folder / f"ISIC2018_Task1-2_{part}_Input" / f"{picture.name}.jpg", image, quality=92)
            write_image(folder / "lesion_masks" / f"{picture.name}_segmentation.png", lesion)
            for name, mask in indicators.items():
                write_image(folder / masks / f"{picture.name}_attribute_{name}.png", mask)
    write_truth(folder, known)


def draw_isic2019(folder: Path, seed: int) -> None:
    """Training input, ground truth and metadata; lesion_id is empty for some, as in the real file."""
    shared = in_2019(pictures_of(seed, *PARTS_2018["Training"][1])[:SHARED_2018_2019])
    left = Counter(COUNTS_2019) - Counter(picture.diagnosis for picture in shared)
    rows, pictures = [], shared + pictures_of(seed, 9_040_000, left)
    for picture in pictures:
        write_image(folder / "ISIC_2019_Training_Input" / f"{picture.name}.jpg", picture.draw(SIZE_SMALL)[0], quality=92)
        age, sex, site = picture.person()
        rows.append((picture.name, age, site, "" if picture in shared else f"BCN_9{picture.lesion[-1]:06d}", sex))
    write_truth(folder, pictures)
    write_csv(folder / "ISIC_2019_Training_Metadata.csv", "image age_approx anatom_site_general lesion_id sex", rows)


def draw_ham10000(folder: Path, seed: int) -> None:
    """Images, lesion masks (one bit) and HAM10000_metadata.csv."""
    rows = []
    (folder / "lesion_masks").mkdir()
    for picture in pictures_of(seed, *HAM10000):
        image, lesion, _ = picture.draw(SIZE_SMALL)
        write_image(folder / "images" / f"{picture.name}.jpg", image, quality=92)
        Image.fromarray(lesion).save(folder / "lesion_masks" / f"{picture.name}_segmentation.png")
        label, number = "akiec" if picture.diagnosis in ("AK", "SCC") else picture.diagnosis.lower(), picture.lesion[-1]
        rows.append((f"HAM_{9_000_000 + number}", picture.name, label, "histo" if number % 3 else "follow_up", *picture.person()))
    write_csv(folder / "HAM10000_metadata.csv", "lesion_id image_id dx dx_type age sex localization", rows)


def write_truth(folder: Path, pictures: list[Picture]) -> None:
    """ISIC 2019 ground truth: one-hot columns as floats."""
    rows = [(picture.name, *(float(picture.diagnosis == name) for name in CLASSES_2019)) for picture in pictures]
    write_csv(folder / "ISIC_2019_Training_GroundTruth.csv", " ".join(("image", *CLASSES_2019)), rows)


def write_csv(path: Path, columns: str, rows: list[tuple]) -> None:
    pd.DataFrame(sorted(rows), columns=columns.split()).to_csv(path, index=False, lineterminator="\n")
