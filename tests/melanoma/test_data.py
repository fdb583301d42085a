"""Dataset A in its official layout and in others, Dataset B without the overlap, the splits, and what bad data says."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.cli import main
from common.errors import UsageError
from melanoma import data
from melanoma.__main__ import COMMANDS
from melanoma.experiments.base import CLASSES, MelanomaSettings
from melanoma.training.inputs import load_inputs
from tests.melanoma.conftest import SIDE, write_image, write_isic, write_mask


def options(folder: Path, cache: Path, **more: object) -> MelanomaSettings:
    return MelanomaSettings(dataset="isic2018", data_dir=folder, cache_dir=cache, **more)


@pytest.fixture
def copy(isic: Path, tmp_path: Path) -> Path:
    """A data set that a test may spoil."""
    return Path(shutil.copytree(isic, tmp_path / "copy"))


def masks_of(folder: Path) -> Path:
    return folder / "ISIC2018_Task2_Training_GroundTruth"


def test_official_layout(isic: Path, tmp_path: Path) -> None:
    dataset = data.load(options(isic, tmp_path))
    manifest = dataset.manifest
    assert len(manifest) == 40
    assert manifest["label"].value_counts().to_dict() == {"other": 26, "melanoma": 14}
    assert data.indicators_of(dataset) == ("globules", "streaks")
    present = data.presence(dataset, tmp_path)
    assert present.sum().to_dict() == {"globules": 20, "streaks": 10}
    assert (dataset.data_dir / manifest["mask_globules"][0]).is_file()


def test_indicators_keep_the_papers_order(tmp_path: Path) -> None:
    write_isic(tmp_path / "d", 12, indicators=("streaks", "something_new", "globules"))
    assert data.indicators_of(data.load(options(tmp_path / "d", tmp_path))) == ("globules", "streaks", "something_new")


def test_lesion_masks_are_one_indicator_when_they_are_all_there_is(isic: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    for index in range(12):
        write_image(folder / "images" / f"ISIC_{index:07d}.jpg", index, bool(index % 2))
        write_mask(folder / "lesion_masks" / f"ISIC_{index:07d}_segmentation.png", True)
    dataset = data.load(options(folder, tmp_path, labels_csv=isic / "ISIC_2019_Training_GroundTruth.csv"))
    assert data.indicators_of(dataset) == ("lesion",)
    assert data.presence(dataset, tmp_path)["lesion"].all()


def test_an_image_without_a_diagnosis_is_left_out_and_counted(copy: Path, tmp_path: Path) -> None:
    table = pd.read_csv(copy / "ISIC_2019_Training_GroundTruth.csv")
    table.iloc[1:].to_csv(copy / "ISIC_2019_Training_GroundTruth.csv", index=False)
    dataset = data.load(options(copy, tmp_path))
    assert dataset.left_out["images without a diagnosis"] == 1
    assert len(dataset.manifest) == 39


def test_missing_masks_are_listed_or_taken_as_empty(copy: Path, tmp_path: Path) -> None:
    (masks_of(copy) / "ISIC_0000004_attribute_streaks.png").unlink()
    with pytest.raises(UsageError, match=r"ISIC_0000004 \(streaks\).*--missing-mask empty"):
        data.load(options(copy, tmp_path))
    dataset = data.load(options(copy, tmp_path, missing_mask="empty"))
    assert data.presence(dataset, tmp_path)["streaks"].sum() == 9


def test_a_mask_that_is_not_binary_is_named(copy: Path, tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, SIDE * SIDE).reshape(SIDE, SIDE).astype("uint8")
    Image.fromarray(ramp).save(masks_of(copy) / "ISIC_0000003_attribute_globules.png")
    with pytest.raises(UsageError, match="ISIC_0000003_attribute_globules.png: it holds 256 values"):
        data.load(options(copy, tmp_path))


def test_a_mask_of_another_size_than_its_image_is_named(copy: Path, tmp_path: Path) -> None:
    Image.new("L", (SIDE * 2, SIDE)).save(masks_of(copy) / "ISIC_0000003_attribute_globules.png")
    with pytest.raises(UsageError, match="ISIC_0000003_attribute_globules.png: the mask is 80x40 pixels, its image .* 40x40"):
        data.load(options(copy, tmp_path))


def test_images_of_mixed_sizes_are_resized_with_their_masks(copy: Path, tmp_path: Path) -> None:
    """The same picture four times as wide and twice as high is the same row of the arrays, and so is its mask."""
    image = copy / "ISIC2018_Task1-2_Training_Input" / "ISIC_0000004.jpg"
    mask = masks_of(copy) / "ISIC_0000004_attribute_globules.png"
    plain = load_inputs(options(copy, tmp_path / "a", image_size=64, weights="none"))
    row = plain.manifest["image"].str.contains("ISIC_0000004").to_numpy().argmax()
    expected = plain.images[row].astype(int), plain.masks("globules")[row].astype(int)
    for path in (image, mask, masks_of(copy) / "ISIC_0000004_attribute_streaks.png"):
        with Image.open(path) as opened:
            grown = opened.resize((4 * SIDE, 2 * SIDE), Image.Resampling.NEAREST)
        grown.save(path, **({"quality": 95} if path == image else {}))
    mixed = load_inputs(options(copy, tmp_path / "b", image_size=64, weights="none"))
    assert mixed.images.shape == (40, 64, 64, 3)
    assert np.abs(mixed.images[row] - expected[0]).mean() < 6
    found = mixed.masks("globules")[row].astype(int)
    assert expected[1].sum() > 0
    assert 2 * (found & expected[1]).sum() / (found.sum() + expected[1].sum()) > 0.85


def missing(folder: Path) -> None:
    for index in (3, 5):
        (masks_of(folder) / f"ISIC_{index:07d}_attribute_streaks.png").unlink()


def not_binary(folder: Path) -> None:
    Image.fromarray(np.arange(SIDE * SIDE, dtype="uint8").reshape(SIDE, SIDE)).save(
        masks_of(folder) / "ISIC_0000004_attribute_globules.png"
    )


def other_size(folder: Path) -> None:
    Image.new("L", (SIDE, SIDE + 2), 255).save(masks_of(folder) / "ISIC_0000004_attribute_globules.png")


def unreadable(folder: Path) -> None:
    (folder / "ISIC2018_Task1-2_Training_Input" / "ISIC_0000002.jpg").write_text("no image")


def no_labels(folder: Path) -> None:
    (folder / "ISIC_2019_Training_GroundTruth.csv").unlink()


@pytest.mark.parametrize(
    ("spoil", "words", "said"),
    [
        (missing, (), "no mask file for ISIC_0000003 (streaks), ISIC_0000005 (streaks); --missing-mask empty"),
        (not_binary, (), "ISIC_0000004_attribute_globules.png: it holds"),
        (not_binary, ("--missing-mask", "empty"), "ISIC_0000004_attribute_globules.png: it holds"),
        (
            other_size,
            (),
            "ISIC_0000004_attribute_globules.png: the mask is 40x42 pixels, its image ISIC_0000004.jpg 40x40; expected the same size",
        ),
        (unreadable, (), "ISIC_0000002.jpg"),
        (no_labels, (), "--labels-csv"),
        (lambda folder: None, ("--indicators", "blue_veil"), "--indicators blue_veil: no masks of that name"),
    ],
)
@pytest.mark.parametrize("command", ["train", "baselines"])
def test_bad_input_is_one_line_and_exit_code_2(
    copy: Path, tmp_path: Path, capsys, command: str, spoil: Callable[[Path], None], words: tuple[str, ...], said: str
) -> None:
    spoil(copy)
    plain = ("--no-simclr",) if command == "train" else ("--rows", "cams")
    where = ("--dataset", "isic2018", "--data-dir", copy, "--cache-dir", tmp_path / "cache", "--run-dir", tmp_path / "run")
    assert main("melanoma", COMMANDS, [str(word) for word in (command, *plain, *where, *words)]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    assert not list(tmp_path.glob("run/**/config.json"))


def test_an_unknown_indicator_is_named(isic: Path, tmp_path: Path) -> None:
    dataset = data.load(options(isic, tmp_path))
    with pytest.raises(UsageError, match="--indicators blue_veil.*globules, streaks"):
        data.indicators_of(dataset, ("blue_veil",))


def test_missing_labels_and_missing_images_say_what_is_expected(copy: Path, tmp_path: Path) -> None:
    (copy / "ISIC_2019_Training_GroundTruth.csv").unlink()
    with pytest.raises(UsageError, match="--labels-csv.*ISIC_2019_Training_GroundTruth.csv"):
        data.load(options(copy, tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no images"):
        data.load(options(tmp_path / "empty", tmp_path))


def test_paper_split_without_the_official_validation_set(isic: Path, tmp_path: Path) -> None:
    manifest = data.load(options(isic, tmp_path)).manifest
    split = data.paper_split(manifest, 0)
    # 14 melanomas and 26 others, each 80/10/10.
    assert split.groupby("label")["split"].value_counts().to_dict() == {
        ("melanoma", "train"): 11, ("melanoma", "validation"): 2, ("melanoma", "test"): 1,
        ("other", "train"): 21, ("other", "validation"): 3, ("other", "test"): 2,
    }  # fmt: skip
    shuffled = data.paper_split(manifest.sample(frac=1, random_state=1), 0)
    assert shuffled.sort_index()["split"].tolist() == split["split"].tolist()
    assert data.paper_split(manifest, 1)["split"].tolist() != split["split"].tolist()


def test_paper_split_tests_on_the_official_validation_set(tmp_path: Path) -> None:
    write_isic(tmp_path / "d", 40, validation=10)
    manifest = data.load(options(tmp_path / "d", tmp_path)).manifest
    split = data.paper_split(manifest, 0)
    test = split[split["split"] == "test"]
    assert len(test) == 10
    assert test["image"].str.contains("Validation").all()
    assert (split["split"] == "validation").sum() == 4
    assert "official validation" in data.split_note(split, "paper")


def test_official_images_without_a_diagnosis_test_the_maps_and_a_tenth_tests_the_diagnosis(tmp_path: Path) -> None:
    write_isic(tmp_path / "d", 40, validation=10)
    table = pd.read_csv(tmp_path / "d" / "ISIC_2019_Training_GroundTruth.csv")
    table.iloc[:40].to_csv(tmp_path / "d" / "ISIC_2019_Training_GroundTruth.csv", index=False)
    inputs = load_inputs(options(tmp_path / "d", tmp_path, image_size=64, backbone="resnet50"))
    manifest = inputs.manifest
    assert manifest["image"][inputs.localised()].str.contains("Validation").tolist() == [True] * 10
    held = inputs.rows("test", diagnosed=True)
    assert set(manifest["label"][held]) == {"melanoma", "other"}
    assert not manifest["image"][held].str.contains("Validation").any()
    assert len(held) == 3  # 14 melanomas and 26 others, a tenth of each
    assert "10 official images have no diagnosis" in data.split_note(manifest, "paper")


def test_folds_test_every_image_once_and_keep_lesions_whole(tmp_path: Path) -> None:
    manifest = pd.DataFrame([(f"{n}.jpg", CLASSES[n % 3 > 0], f"lesion{n // 2}") for n in range(60)], columns=["image", "label", "group"])
    parts = [data.split(manifest, "grouped", 42, 5, fold) for fold in range(5)]
    tested = pd.concat([part[part["split"] == "test"] for part in parts])
    assert sorted(tested["image"]) == sorted(manifest["image"])
    for number, part in enumerate(parts):
        assert set(part.groupby("group")["split"].nunique()) == {1}
        assert part["split"].value_counts()["validation"] == pytest.approx(6, abs=2)
        assert set(part.loc[part["split"] == "test", "label"]) == set(CLASSES)
        assert f"fold {number} of 5" in data.split_note(part, "grouped", 5, number)


def test_one_diagnosis_is_too_few(copy: Path, tmp_path: Path) -> None:
    table = pd.read_csv(copy / "ISIC_2019_Training_GroundTruth.csv").assign(MEL=0.0, NV=1.0)
    table.to_csv(copy / "ISIC_2019_Training_GroundTruth.csv", index=False)
    with pytest.raises(UsageError, match=r"one diagnosis only \(other\)"):
        load_inputs(options(copy, tmp_path))


def test_a_table_without_lesions_or_with_notes_is_read(copy: Path, tmp_path: Path) -> None:
    source = copy / "ISIC_2019_Training_GroundTruth.csv"
    table = pd.read_csv(source)
    table.assign(note="seen twice", age=40.5).drop(columns="age").to_csv(source, index=False)
    assert len(data.load(options(copy, tmp_path)).manifest) == 40
    plain = pd.DataFrame({"image_id": table["image"], "dx": np.where(table["MEL"] == 1, "mel", "nv")})
    plain.to_csv(tmp_path / "dx.csv", index=False)
    manifest = data.load(options(copy, tmp_path, labels_csv=tmp_path / "dx.csv")).manifest
    assert (manifest["label"] == "melanoma").sum() == 14
    assert manifest["group"].nunique() == 40


@pytest.mark.parametrize("content", ["", "image,MEL\n1,2,3,4\n5,6\n", "image,MEL,NV\nISIC_0000001,yes,no\n"])
def test_a_table_that_is_none_is_named(copy: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(UsageError, match="labels.csv"):
        data.load(options(copy, tmp_path, labels_csv=tmp_path / "labels.csv"))


def test_a_mask_drawn_in_another_value_counts_as_drawn(copy: Path, tmp_path: Path) -> None:
    faint = np.zeros((SIDE, SIDE), "uint8")
    faint[5:9] = 100
    Image.fromarray(faint).save(masks_of(copy) / "ISIC_0000003_attribute_globules.png")
    dataset = data.load(options(copy, tmp_path))
    row = dataset.manifest["image"].str.contains("ISIC_0000003").to_numpy().argmax()
    assert data.presence(dataset, tmp_path)["globules"][row]


def test_masks_that_nobody_asked_for_may_be_missing_and_a_second_one_is_named(copy: Path, tmp_path: Path) -> None:
    (masks_of(copy) / "ISIC_0000004_attribute_streaks.png").unlink()
    assert data.indicators_of(data.load(options(copy, tmp_path, indicators=("globules",)))) == ("globules",)
    write_mask(copy / "again" / "ISIC_0000005_attribute_globules.png", True)
    with pytest.raises(UsageError, match="the globules mask of ISIC_0000005 is there twice"):
        data.load(options(copy, tmp_path, indicators=("globules",)))


def test_dataset_b_loses_what_dataset_a_has_renamed_ids_included(isic: Path, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    for name in ("ISIC_0000001", "ISIC_0000002_downsampled", "ISIC_0000003_downsampled", "ISIC_9999998", "ISIC_9999999_downsampled"):
        write_image(folder / f"{name}.jpg", 0, True)
    write_mask(folder / "masks" / "ISIC_9999998_segmentation.png", True)
    chosen = options(isic, tmp_path, unlabelled_dir=folder)
    dataset_b, counts = data.unlabelled(chosen, data.load(chosen))
    assert counts == {"images": 5, "same_id": 1, "renamed": 2, "kept": 2}
    assert sorted(dataset_b.manifest["image"]) == ["ISIC_9999998.jpg", "ISIC_9999999_downsampled.jpg"]


def test_the_sample_is_as_sparse_as_table_1(sample_cache: Path) -> None:
    dataset = data.load(MelanomaSettings(cache_dir=sample_cache))
    assert dataset.synthetic
    assert data.indicators_of(dataset) == ("globules", "milia_like_cyst", "negative_network", "pigment_network", "streaks")
    split = data.paper_split(dataset.manifest, 0)
    shares = data.presence(dataset, sample_cache)[(split["split"] != "test").to_numpy()].mean()
    # Counts of Table 1 over 2594.
    for name, with_it in (("globules", 603), ("milia_like_cyst", 682), ("pigment_network", 1523), ("streaks", 100)):
        assert shares[name] == pytest.approx(with_it / 2594, abs=0.05)
    _, overlap = data.unlabelled(MelanomaSettings(cache_dir=sample_cache), dataset)
    assert overlap["same_id"] > 0
    assert overlap["renamed"] > 0


def test_real_isic_2018_with_isic_2019_labels(shared_data, tmp_path: Path) -> None:
    folder, other = shared_data("isic2018_task1"), shared_data("isic2019")
    chosen = options(folder, tmp_path, labels_csv=other / data.GROUND_TRUTH, limit=60)
    dataset = data.load(chosen)
    assert dataset.left_out["images without a diagnosis"] == 1  # ISIC_0015982
    assert dataset.manifest["label"].value_counts().to_dict() == {"melanoma": 30, "other": 30}
