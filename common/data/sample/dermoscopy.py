"""Dermoscopy data sets in their official layouts: ISIC 2018 Task 2, ISIC 2019 and HAM10000.

They share pictures as the real ones do: ISIC 2019 holds pictures of ISIC 2018 (three in ten under the same id, the others with the suffix
`_downsampled`), and the ground truth file beside the ISIC 2018 sample labels that sample, its validation set and the HAM10000 sample,
where it parts akiec into AK and SCC. Numbers of ids start at 9,000,000, which no real picture has.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.data.sample.drawing import Rng, write_image
from common.data.sample.indicators import NAMES
from common.data.sample.lesions import LOOKS, Drawn, draw_lesion

CLASSES_2019 = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
SIZE_2018, SIZE_SMALL = (120, 160), (84, 112)  # height, width

TRAINING_2018 = {"NV": 110, "MEL": 46, "BKL": 24}
UNLABELLED_2018 = 179  # the last training picture
VALIDATION_2018 = {"NV": 18, "MEL": 8, "BKL": 4}
# Share of the 2594 images of ISIC 2018 Task 2 whose mask is not empty (melanoma paper, Table 1).
INDICATOR_SHARES = {
    "globules": 603 / 2594, "milia_like_cyst": 682 / 2594, "negative_network": 190 / 2594, "pigment_network": 1523 / 2594,
    "streaks": 100 / 2594,
}  # fmt: skip
COUNTS_2019 = {"NV": 100, "MEL": 40, "BCC": 28, "BKL": 22, "AK": 14, "SCC": 10, "VASC": 8, "DF": 8}
SHARED_2018_2019 = 40  # pictures of the ISIC 2018 sample that the ISIC 2019 sample holds too
COUNTS_HAM = {"nv": 116, "mel": 28, "bkl": 26, "bcc": 18, "akiec": 14, "vasc": 10, "df": 8}
HAM_TO_2019 = {"nv": "NV", "mel": "MEL", "bkl": "BKL", "bcc": "BCC", "vasc": "VASC", "df": "DF"}
SITES = ("back", "lower extremity", "trunk", "upper extremity", "abdomen", "face", "chest", "foot")
SITES_2019 = ("anterior torso", "upper extremity", "posterior torso", "lower extremity", "head/neck", "")


@dataclass(frozen=True)
class Picture:
    """What is needed to draw one picture again: two pictures with the same `lesion` show the same lesion."""

    name: str
    diagnosis: str
    indicators: frozenset[str]
    lesion: tuple[int, ...]
    photo: tuple[int, ...]

    def draw(self, size: tuple[int, int]) -> Drawn:
        return draw_lesion(self.diagnosis, self.indicators, np.random.default_rng(self.lesion), np.random.default_rng(self.photo), *size)


def draw(kind: str, folder: Path, seed: int) -> None:
    """Writes one of the three data sets under `folder`."""
    {"isic2018": draw_isic2018, "isic2019": draw_isic2019, "ham10000": draw_ham10000}[kind](folder, seed)


def shuffled_labels(rng: Rng, counts: dict[str, int]) -> list[str]:
    """Each label as often as `counts` says, in random order."""
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [labels[index] for index in rng.permutation(len(labels))]


def pictures_2018(seed: int, part: str) -> list[Picture]:
    """Training (180) or validation (30) pictures of ISIC 2018; each indicator is seen in exactly its share of them (at least one)."""
    number, counts, first = {"training": (0, TRAINING_2018, 9_000_000), "validation": (1, VALIDATION_2018, 9_010_000)}[part]
    rng = np.random.default_rng([seed, 2018, number])
    labels = shuffled_labels(rng, counts)
    present: list[set[str]] = [set() for _ in labels]
    for name in NAMES:
        weights = np.array([LOOKS[label].indicators.get(name, 0.01) for label in labels])
        count = max(1, round(INDICATOR_SHARES[name] * len(labels)))
        for index in rng.choice(len(labels), count, replace=False, p=weights / weights.sum()):
            present[index].add(name)
    ids = first + 3 * np.arange(len(labels)) + rng.integers(0, 3, len(labels))
    return [
        Picture(f"ISIC_{ids[i]}", label, frozenset(present[i]), (seed, 2018, number, i), (seed, 2018, number, i, 1))
        for i, label in enumerate(labels)
    ]


def name_in_2019(picture: Picture, index: int) -> str:
    """The id under which ISIC 2019 holds a picture of ISIC 2018: the same for 3 in 10 (772 of 2594), else with a suffix."""
    return picture.name if index % 10 < 3 else f"{picture.name}_downsampled"


def draw_isic2018(folder: Path, seed: int) -> None:
    """Task 1-2 input, Task 2 attribute masks, lesion masks, and the ISIC 2019 ground truth that gives the diagnoses."""
    truth = []
    for part, masks in (("Training", "ISIC2018_Task2_Training_GroundTruth_v3"), ("Validation", "ISIC2018_Task2_Validation_GroundTruth")):
        for index, picture in enumerate(pictures_2018(seed, part.lower())):
            drawn = picture.draw(SIZE_2018)
            write_image(folder / f"ISIC2018_Task1-2_{part}_Input" / f"{picture.name}.jpg", drawn.image, quality=92)
            write_image(folder / "lesion_masks" / f"{picture.name}_segmentation.png", drawn.lesion.astype(np.uint8) * 255)
            for name, mask in drawn.indicators.items():
                write_image(folder / masks / f"{picture.name}_attribute_{name}.png", mask.astype(np.uint8) * 255)
            # As in the real set, ISIC 2019 does not know one of the pictures, which stays unlabelled.
            if (part, index) != ("Training", UNLABELLED_2018):
                truth.append((name_in_2019(picture, index), picture.diagnosis))
    truth += [(picture.name, picture.diagnosis) for picture, _ in pictures_ham(seed)]
    write_truth(folder / "ISIC_2019_Training_GroundTruth.csv", truth)


def draw_isic2019(folder: Path, seed: int) -> None:
    """Training input, ground truth and metadata; lesion_id is empty for some, as in the real file."""
    rng = np.random.default_rng([seed, 2019])
    left = dict(COUNTS_2019)
    pictures, lesions = [], []
    for index, picture in enumerate(pictures_2018(seed, "training")[:SHARED_2018_2019]):
        left[picture.diagnosis] -= 1
        pictures.append(Picture(name_in_2019(picture, index), picture.diagnosis, picture.indicators, picture.lesion, picture.photo))
        lesions.append("")
    labels = shuffled_labels(rng, left)
    for group, members in enumerate(lesion_groups(rng, labels)):
        shared = indicators_for(rng, labels[members[0]])
        for index in members:
            name = f"ISIC_{9_040_000 + 5 * index + group % 3}"
            pictures.append(Picture(name, labels[index], shared, (seed, 2019, group), (seed, 2019, group, index)))
            lesions.append(f"BCN_9{group:06d}")
    for picture in pictures:
        write_image(folder / "ISIC_2019_Training_Input" / f"{picture.name}.jpg", picture.draw(SIZE_SMALL).image, quality=92)
    write_truth(folder / "ISIC_2019_Training_GroundTruth.csv", [(picture.name, picture.diagnosis) for picture in pictures])
    rows = [
        (p.name, f"{5.0 * rng.integers(3, 17)}", SITES_2019[rng.integers(len(SITES_2019))], lesion, rng.choice(["female", "male"]))
        for p, lesion in zip(pictures, lesions, strict=True)
    ]
    header = ("image", "age_approx", "anatom_site_general", "lesion_id", "sex")
    write_csv(folder / "ISIC_2019_Training_Metadata.csv", header, sorted(rows))


def pictures_ham(seed: int) -> list[tuple[Picture, str]]:
    """Pictures of HAM10000 with their lesion ids; Picture.diagnosis is the finer one of ISIC 2019 (akiec is AK or, one in three, SCC)."""
    rng = np.random.default_rng([seed, 10_000])
    labels = shuffled_labels(rng, COUNTS_HAM)
    result: dict[int, tuple[Picture, str]] = {}
    for group, members in enumerate(lesion_groups(rng, labels)):
        label = labels[members[0]]
        diagnosis = HAM_TO_2019.get(label) or ("SCC" if rng.random() < 1 / 3 else "AK")
        shared = indicators_for(rng, diagnosis)
        for index in members:
            picture = Picture(f"ISIC_{9_024_306 + index}", diagnosis, shared, (seed, 10_000, group), (seed, 10_000, group, index))
            result[index] = (picture, f"HAM_{9_000_000 + group}")
    return [result[index] for index in range(len(labels))]


def draw_ham10000(folder: Path, seed: int) -> None:
    """Images, lesion masks (one bit) and HAM10000_metadata.csv."""
    to_ham = {diagnosis: label for label, diagnosis in HAM_TO_2019.items()}
    rows = []
    for picture, lesion in pictures_ham(seed):
        drawn = picture.draw(SIZE_SMALL)
        write_image(folder / "images" / f"{picture.name}.jpg", drawn.image, quality=92)
        path = folder / "lesion_masks" / f"{picture.name}_segmentation.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(drawn.lesion.astype(np.uint8) * 255).convert("1", dither=Image.Dither.NONE).save(path)
        label = to_ham.get(picture.diagnosis, "akiec")
        person = np.random.default_rng([seed, 10_001, int(lesion[4:])])  # the same for all pictures of a lesion
        kind = "follow_up" if label == "nv" and person.random() < 0.5 else "histo"
        age = f"{5.0 * person.integers(3, 17)}" if person.random() < 0.98 else ""
        rows.append((lesion, picture.name, label, kind, age, person.choice(["female", "male"]), person.choice(SITES)))
    header = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
    write_csv(folder / "HAM10000_metadata.csv", header, rows)


def lesion_groups(rng: Rng, labels: Sequence[str]) -> list[list[int]]:
    """Puts pictures of one label together into lesions of one to three; HAM10000 has 1.34 pictures a lesion."""
    groups = []
    for label in sorted(set(labels)):
        members = [index for index, other in enumerate(labels) if other == label]
        while members:
            size = int(rng.choice([1, 2, 3], p=[0.75, 0.17, 0.08]))
            groups.append(members[:size])
            members = members[size:]
    return groups


def indicators_for(rng: Rng, diagnosis: str) -> frozenset[str]:
    """The indicators that a lesion of this diagnosis happens to show."""
    return frozenset(name for name in NAMES if rng.random() < LOOKS[diagnosis].indicators.get(name, 0))


def write_truth(path: Path, labels: Iterable[tuple[str, str]]) -> None:
    """ISIC 2019 ground truth: one-hot columns as floats, rows sorted by image."""
    rows = [(name, *("1.0" if label == column else "0.0" for column in CLASSES_2019)) for name, label in sorted(labels)]
    write_csv(path, ("image", *CLASSES_2019), rows)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Comma-separated, header first, \\n line ends on every system."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
