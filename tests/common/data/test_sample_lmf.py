"""The drawn fundus pictures and chest radiographs: official layouts, imbalance, patients with two eyes, learnable classes."""

import ast
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from common.data.sample import ensure_sample


@pytest.fixture(scope="module")
def odir5k(sample_cache: Path) -> Path:
    return ensure_sample("odir5k", sample_cache)


@pytest.fixture(scope="module")
def chest(sample_cache: Path) -> Path:
    return ensure_sample("covid_radiography", sample_cache)


def test_odir5k_has_one_row_an_eye(odir5k: Path) -> None:
    table = pd.read_csv(odir5k / "full_df.csv")
    letters = list("NDGCAHMO")
    assert list(table.columns) == [
        *("ID", "Patient Age", "Patient Sex", "Left-Fundus", "Right-Fundus", "Left-Diagnostic Keywords", "Right-Diagnostic Keywords"),
        *letters,
        *("labels", "target", "filename"),
    ]
    assert table["filename"].is_unique and set(table["filename"]) == {path.name for path in (odir5k / "preprocessed_images").iterdir()}
    for _, row in table.iterrows():
        (label,) = ast.literal_eval(row["labels"])
        assert ast.literal_eval(row["target"]) == [int(letter == label) for letter in letters]
        assert row[label] == 1
        side = "Left-Fundus" if "left" in row["filename"] else "Right-Fundus"
        assert row[side] == row["filename"] and row["filename"].startswith(f"{row['ID']}_")
    counts = table["labels"].str.strip("[]'").value_counts().to_dict()
    assert counts == {"N": 76, "D": 46, "O": 24, "C": 14, "G": 13, "A": 12, "M": 10, "H": 8}
    assert 1.6 < len(table) / table["ID"].nunique() < 2.0
    mixed = table.groupby("ID")["labels"].nunique()
    assert (mixed == 2).sum() >= 5  # the two eyes of a patient may differ


def test_odir5k_pictures_are_round_on_black(odir5k: Path) -> None:
    for path in (odir5k / "preprocessed_images").iterdir():
        image = np.asarray(Image.open(path))
        assert image.shape == (112, 112, 3)
        assert image[:8, :8].mean() < 12 and image[40:72, 40:72].mean() > 50


def test_chest_radiographs_are_grey_with_rgb_lung_masks_of_another_size(chest: Path) -> None:
    counts = {folder.name: len(list((folder / "images").glob("*.png"))) for folder in chest.iterdir() if folder.is_dir()}
    assert counts == {"Normal": 92, "Lung_Opacity": 54, "COVID": 34, "Viral Pneumonia": 16}
    for name, count in counts.items():
        assert {path.name for path in (chest / name / "masks").iterdir()} == {f"{name}-{number}.png" for number in range(1, count + 1)}
        image, mask = (Image.open(chest / name / part / f"{name}-1.png") for part in ("images", "masks"))
        assert (image.mode, image.size, mask.mode, mask.size) == ("L", (96, 96), "RGB", (82, 82))


def test_lungs_are_darker_than_what_surrounds_them(chest: Path) -> None:
    darker = []
    for path in (chest / "Normal" / "images").iterdir():
        image = np.asarray(Image.open(path))
        mask = np.asarray(Image.open(chest / "Normal" / "masks" / path.name).convert("L").resize(image.shape[::-1])) > 127
        assert 0.12 < mask.mean() < 0.45
        darker.append(image[~mask].mean() - image[mask].mean())
    assert min(darker) > 25


def features(path: Path) -> np.ndarray:
    """A coarse picture, and how much is bright or dark at several sizes in each part of it."""
    image = cv2.resize(np.asarray(Image.open(path).convert("RGB")), (64, 64), interpolation=cv2.INTER_AREA)
    parts = [cv2.resize(image, (4, 4), interpolation=cv2.INTER_AREA).ravel().astype(np.float64)]
    for size in (3, 7, 13):
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        for operation in (cv2.MORPH_BLACKHAT, cv2.MORPH_TOPHAT):
            response = cv2.morphologyEx(image, operation, disc)
            inner = response[10:54, 10:54].reshape(-1, 3).astype(np.float64)
            parts += [inner.mean(axis=0), inner.std(axis=0), np.percentile(inner, 98, axis=0)]
            parts.append(cv2.resize(response, (4, 4), interpolation=cv2.INTER_AREA).ravel().astype(np.float64))
    return np.concatenate(parts)


def grouped_accuracy(paths: list[Path], labels: list[str], groups: list[str]) -> float:
    """Balanced accuracy of a forest on hand-made features, folds by group."""
    forest = RandomForestClassifier(150, class_weight="balanced", max_features=0.2, random_state=0)
    folds = GroupKFold(4, shuffle=True, random_state=0)
    predicted = cross_val_predict(forest, np.stack([features(path) for path in paths]), labels, cv=folds, groups=groups)
    return balanced_accuracy_score(labels, predicted)


def test_odir5k_can_be_learned_across_patients(odir5k: Path) -> None:
    table = pd.read_csv(odir5k / "full_df.csv")
    paths = [odir5k / "preprocessed_images" / name for name in table["filename"]]
    assert grouped_accuracy(paths, list(table["labels"]), list(table["ID"].astype(str))) > 0.6


def test_chest_radiographs_can_be_learned(chest: Path) -> None:
    paths = sorted(chest.glob("*/images/*.png"))
    assert grouped_accuracy(paths, [path.parts[-3] for path in paths], [path.stem for path in paths]) > 0.6
