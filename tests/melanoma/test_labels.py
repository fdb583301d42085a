"""Indicators from a CSV: what is taken, what is refused, and which mask then stands for an indicator's."""

from pathlib import Path

import pandas as pd
import pytest

from common.errors import UsageError
from melanoma import data, labels
from melanoma.experiments.base import INDICATORS, MelanomaSettings
from melanoma.training.inputs import load_inputs
from tests.melanoma.conftest import write_image, write_mask


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame({"image": [f"ISIC_{index:07d}" for index in range(12)], "globules": [1, 0] * 6, "streaks": [0, 0, 1] * 4})


def lesions(folder: Path) -> Path:
    """Twelve images with lesion masks and diagnoses, no attribute masks."""
    rows = []
    for index in range(12):
        name = f"ISIC_{index:07d}"
        write_image(folder / "images" / f"{name}.jpg", index, bool(index % 2))
        write_mask(folder / "lesion_masks" / f"{name}_segmentation.png", True)
        rows.append({"image": name, "MEL": float(index % 2), "NV": float(1 - index % 2)})
    pd.DataFrame(rows).to_csv(folder / "ISIC_2019_Training_GroundTruth.csv", index=False)
    return folder


def settings(folder: Path, csv: Path, cache: Path, **more: object) -> MelanomaSettings:
    return MelanomaSettings(
        dataset="isic2018", data_dir=folder, indicator_labels=csv, cache_dir=cache, image_size=64, weights="none", **more
    )


def test_real_labels_with_the_lesions_mask_where_an_image_has_the_indicator(table: pd.DataFrame, tmp_path: Path) -> None:
    folder, csv = lesions(tmp_path / "d"), tmp_path / "labels.csv"
    table.sample(frac=1, random_state=0).to_csv(csv, index=False)  # in any order
    inputs = load_inputs(settings(folder, csv, tmp_path))
    assert inputs.indicators == ("globules", "streaks")
    assert inputs.counts == {"globules": {"with": 6, "without": 6}, "streaks": {"with": 4, "without": 8}}
    assert all(inputs.stands_in(name) for name in inputs.indicators)
    assert inputs.masks("streaks").any(axis=(1, 2)).tolist() == inputs.present["streaks"].tolist()
    assert inputs.masks("lesion").any(axis=(1, 2)).all()
    assert set(inputs.varying(inputs.indicators)) == {"globules", "streaks"}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: t.iloc[1:], "no row for ISIC_0000000; expected one for every image"),
        (lambda t: t.replace({"globules": {1: 2}}), "globules of ISIC_0000000 is '2'; expected 0 or 1"),
        (lambda t: pd.concat([t, t.iloc[:1].assign(image="ISIC_0000000_downsampled")]), "ISIC_0000000 in more than one row"),
        (lambda t: t[["image"]], "expected the column image and some of globules"),
    ],
)
def test_a_wrong_table_is_one_line(spoil, said: str, table: pd.DataFrame, tmp_path: Path) -> None:
    spoil(table).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(UsageError, match=f"--indicator-labels .*labels.csv: .*{said}"):
        labels.indicator_labels(tmp_path / "labels.csv", list(table["image"]))


def test_masks_and_labels_that_contradict_each_other_are_listed(isic: Path, tmp_path: Path) -> None:
    present = data.presence(dataset := data.load(MelanomaSettings(dataset="isic2018", data_dir=isic, cache_dir=tmp_path)), tmp_path)
    rows = pd.DataFrame({"image": [Path(name).stem for name in dataset.manifest["image"]], "globules": present["globules"].astype(int)})
    rows.to_csv(tmp_path / "right.csv", index=False)
    assert data.indicators_of(data.load(settings(isic, tmp_path / "right.csv", tmp_path))) == ("globules",)
    rows.loc[[0, 1], "globules"] = [0, 1]
    rows.to_csv(tmp_path / "wrong.csv", index=False)
    with pytest.raises(
        UsageError, match="globules of .*ISIC_0000000.jpg is drawn but labelled 0, globules of .* is labelled 1 but not drawn"
    ):
        data.load(settings(isic, tmp_path / "wrong.csv", tmp_path))


def test_an_indicator_without_a_column_cannot_be_asked_for(table: pd.DataFrame, tmp_path: Path) -> None:
    folder, csv = lesions(tmp_path / "d"), tmp_path / "labels.csv"
    table.to_csv(csv, index=False)
    dataset = data.load(settings(folder, csv, tmp_path))
    assert set(INDICATORS) > set(data.indicators_of(dataset))
    with pytest.raises(UsageError, match="--indicators pigment_network: no labels of that name"):
        data.indicators_of(dataset, ("pigment_network",))


def test_table_1_counts_images_without_a_diagnosis(isic: Path, tmp_path: Path) -> None:
    """Issue 20, fault 9: 2593 of 2594 images were counted."""
    import shutil

    copy = Path(shutil.copytree(isic, tmp_path / "copy"))
    truth = copy / "ISIC_2019_Training_GroundTruth.csv"
    pd.read_csv(truth).iloc[1:].to_csv(truth, index=False)
    chosen = MelanomaSettings(dataset="isic2018", data_dir=copy, cache_dir=tmp_path, image_size=64, weights="none")
    inputs = load_inputs(chosen)
    assert len(inputs.manifest) == 39
    assert inputs.counts["globules"] == {"with": 20, "without": 20}
