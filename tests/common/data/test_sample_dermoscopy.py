"""The drawn dermoscopy sets: official layouts, indicators as rare as printed and visible where their masks say, learnable diagnoses."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from common.data.sample import ensure_sample
from common.data.sample.dermoscopy import INDICATORS, LOOKS, draw_lesion

PARTS = {
    "Training": ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task2_Training_GroundTruth_v3", 180),
    "Validation": ("ISIC2018_Task1-2_Validation_Input", "ISIC2018_Task2_Validation_GroundTruth", 30),
}
# Melanoma paper, Table 1: images with a non-empty mask among the 2594.
NON_EMPTY = {"globules": 603, "milia_like_cyst": 682, "negative_network": 190, "pigment_network": 1523, "streaks": 100}


@pytest.fixture(scope="module")
def isic2018(sample_cache: Path) -> Path:
    return ensure_sample("isic2018", sample_cache)


@pytest.fixture(scope="module")
def isic2019(sample_cache: Path) -> Path:
    return ensure_sample("isic2019", sample_cache)


@pytest.fixture(scope="module")
def ham10000(sample_cache: Path) -> Path:
    return ensure_sample("ham10000", sample_cache)


def diagnoses(folder: Path) -> pd.Series:
    """Class of each image of an ISIC 2019 ground truth, without the suffix of renamed copies."""
    table = pd.read_csv(folder / "ISIC_2019_Training_GroundTruth.csv", index_col="image")
    assert (table.sum(axis=1) == 1).all() and table.index.is_unique
    return table.idxmax(axis=1).rename(index=lambda name: name.removesuffix("_downsampled"))


@pytest.mark.parametrize("part", PARTS)
def test_isic2018_has_five_attribute_masks_and_a_lesion_mask_an_image(isic2018: Path, part: str) -> None:
    images, masks, count = PARTS[part]
    names = sorted(path.stem for path in (isic2018 / images).glob("ISIC_???????.jpg"))
    assert len(names) == count
    expected = sorted(f"{name}_attribute_{indicator}.png" for name in names for indicator in NON_EMPTY)
    assert sorted(path.name for path in (isic2018 / masks).iterdir()) == expected
    for name in names:
        image = Image.open(isic2018 / images / f"{name}.jpg")
        lesion = np.asarray(Image.open(isic2018 / "lesion_masks" / f"{name}_segmentation.png"))
        assert image.mode == "RGB" and image.size == (160, 120)
        assert lesion.shape == (120, 160) and set(np.unique(lesion)) == {0, 255}
        assert 0.02 < (lesion > 0).mean() < 0.6


@pytest.mark.parametrize("indicator", NON_EMPTY)
def test_indicators_are_as_rare_as_in_the_paper(isic2018: Path, indicator: str) -> None:
    images, masks, count = PARTS["Training"]
    planes = [np.asarray(Image.open(path)) for path in sorted((isic2018 / masks).glob(f"*_{indicator}.png"))]
    assert all(plane.dtype == np.uint8 and set(np.unique(plane)) <= {0, 255} for plane in planes)
    assert sum(plane.any() for plane in planes) == round(count * NON_EMPTY[indicator] / 2594)
    assert all((plane > 0).sum() >= 20 for plane in planes if plane.any())


@pytest.mark.parametrize("indicator", INDICATORS)
def test_an_indicator_changes_the_picture_exactly_where_its_mask_is(indicator: str) -> None:
    inside, outside = [], []
    for index in range(6):
        drawn = []
        for present in (frozenset(), frozenset([indicator])):
            photo = np.random.default_rng([8, index])
            drawn.append(draw_lesion("NV", present, np.random.default_rng([7, index]), photo, 120, 160))
        (image_without, lesion_without, _), (image, lesion, indicators) = drawn
        change = 255 * np.abs(image - image_without).max(axis=2)
        mask = indicators[indicator]
        near = cv2.dilate(mask.astype(np.uint8), np.ones((15, 15), np.uint8)).astype(bool)
        inside.append((change[mask] > 12).mean())
        outside.append((change[~near] > 12).mean())
        assert mask.any() and not any(indicators[other].any() for other in INDICATORS if other != indicator)
        np.testing.assert_array_equal(lesion, lesion_without)
        if indicator != "streaks":  # which cross the border
            assert (mask & lesion).sum() > 0.9 * mask.sum()
    assert np.mean(inside) > 0.45 and np.mean(outside) < 0.01


def test_isic2018_diagnoses_come_with_renamed_copies_and_one_unlabelled_image(isic2018: Path) -> None:
    names = {path.stem for path in (isic2018 / PARTS["Training"][0]).glob("*.jpg")}
    listed = pd.read_csv(isic2018 / "ISIC_2019_Training_GroundTruth.csv")["image"]
    same, renamed = names & set(listed), names & {name.removesuffix("_downsampled") for name in listed if name.endswith("_downsampled")}
    assert (len(same), len(renamed), len(names - same - renamed)) == (54, 125, 1)
    counts = diagnoses(isic2018).reindex(sorted(names)).value_counts()
    assert set(counts.index) == {"MEL", "NV", "BKL"} and counts["NV"] > counts["MEL"] > counts["BKL"] >= 20


def test_isic2019_lists_its_images_and_shares_some_with_isic2018(isic2018: Path, isic2019: Path) -> None:
    names = sorted(path.stem for path in (isic2019 / "ISIC_2019_Training_Input").glob("*.jpg"))
    table = pd.read_csv(isic2019 / "ISIC_2019_Training_GroundTruth.csv")
    metadata = pd.read_csv(isic2019 / "ISIC_2019_Training_Metadata.csv")
    assert list(table["image"]) == list(metadata["image"]) == names and len(names) == 230
    assert list(table.columns) == ["image", "MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"]
    counts = table.iloc[:, 1:].sum().astype(int)
    assert counts.to_dict() == {"MEL": 40, "NV": 100, "BCC": 28, "AK": 14, "BKL": 22, "DF": 8, "VASC": 8, "SCC": 10, "UNK": 0}
    training = {path.stem for path in (isic2018 / PARTS["Training"][0]).glob("*.jpg")}
    assert len(training & set(names)) == 12
    assert len(training & {name.removesuffix("_downsampled") for name in names}) == 40
    here, there = diagnoses(isic2019), diagnoses(isic2018)
    shared = sorted(training & set(here.index))
    assert (here[shared] == there.reindex(shared).fillna(here[shared])).all()
    labels = dict(zip(table["image"], table.iloc[:, 1:].idxmax(axis=1), strict=True))
    for _, lesion in metadata.dropna(subset="lesion_id").groupby("lesion_id"):
        assert len({labels[image] for image in lesion["image"]}) == 1


def test_ham10000_has_lesions_of_several_images_masks_and_eight_labels_elsewhere(ham10000: Path, isic2018: Path) -> None:
    table = pd.read_csv(ham10000 / "HAM10000_metadata.csv")
    assert list(table.columns) == ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
    assert {path.stem for path in (ham10000 / "images").glob("*.jpg")} == set(table["image_id"]) and table["image_id"].is_unique
    expected = {"nv": 116, "mel": 28, "bkl": 26, "bcc": 18, "akiec": 14, "vasc": 10, "df": 8}
    assert table["dx"].value_counts().to_dict() == expected
    assert (table.groupby("lesion_id")["dx"].nunique() == 1).all() and (table.groupby("lesion_id")["localization"].nunique() == 1).all()
    assert 1.2 < len(table) / table["lesion_id"].nunique() < 1.6
    mask = Image.open(ham10000 / "lesion_masks" / f"{table['image_id'][0]}_segmentation.png")
    assert mask.mode == "1" and mask.size == (112, 84)
    finer = diagnoses(isic2018)[table["image_id"]]
    assert set(finer[table.loc[table["dx"] == "akiec", "image_id"]]) == {"AK", "SCC"}
    assert set(finer) == set(LOOKS)


def look_features(path: Path) -> np.ndarray:
    """Colours of the picture's middle, and how much of it is bright or dark at several sizes."""
    image = cv2.resize(np.asarray(Image.open(path)), (96, 72), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    middle = lab[14:58, 20:76].reshape(-1, 3)
    features = [
        *np.percentile(middle, (3, 15, 50, 85, 97), axis=0).ravel(),
        *(middle.std(axis=0)),
        *(middle.mean(axis=0) - lab[:8].mean((0, 1))),
    ]
    for size in (3, 5, 9, 15):
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        for operation in (cv2.MORPH_BLACKHAT, cv2.MORPH_TOPHAT):
            response = cv2.morphologyEx(lab, operation, disc)[14:58, 20:76].reshape(-1, 3)
            features += [*response.mean(axis=0), *response.std(axis=0)]
    return np.array(features)


def forest_probabilities(paths: list[Path], labels: list[str], groups: list[str]) -> np.ndarray:
    forest = RandomForestClassifier(100, class_weight="balanced", random_state=0)
    folds = GroupKFold(4, shuffle=True, random_state=0)
    features = np.stack([look_features(path) for path in paths])
    return cross_val_predict(forest, features, labels, cv=folds, groups=groups, method="predict_proba")


def test_ham10000_can_be_learned_across_lesions(ham10000: Path) -> None:
    table = pd.read_csv(ham10000 / "HAM10000_metadata.csv")
    paths = [ham10000 / "images" / f"{name}.jpg" for name in table["image_id"]]
    probabilities = forest_probabilities(paths, list(table["dx"]), list(table["lesion_id"]))
    predicted = np.array(sorted(table["dx"].unique()))[probabilities.argmax(axis=1)]
    assert balanced_accuracy_score(table["dx"], predicted) > 0.6


def test_melanoma_can_be_learned_on_isic2018(isic2018: Path) -> None:
    labels = diagnoses(isic2018)
    paths = [path for path in sorted((isic2018 / PARTS["Training"][0]).glob("*.jpg")) if path.stem in labels.index]
    melanoma = [str(labels[path.stem] == "MEL") for path in paths]
    probabilities = forest_probabilities(paths, melanoma, [path.stem for path in paths])
    assert roc_auc_score(np.array(melanoma) == "True", probabilities[:, 1]) > 0.85
