"""Anyone's folders: classes, groups, what is passed over, downloads that are split already."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data.dataset import class_names
from common.data.folders import as_text, folders_dataset, groups_in_several_classes
from common.data.splits import grouped_split, leakage
from common.errors import UsageError


def test_folders_are_classes_and_images_lie_at_any_depth(folder: Path) -> None:
    dataset = folders_dataset(folder)
    assert class_names(dataset.manifest) == ("a", "b")
    assert set(dataset.manifest["image"]) == {f"{c}/{n}" for c in "ab" for n in ("s1_0.png", "deep/s1_1.jpg", "s2_0.bmp")}
    assert list(dataset.manifest["group"]) == list(dataset.manifest["image"])
    assert not dataset.synthetic


def test_group_pattern_takes_the_bracketed_part_and_a_group_spans_classes(folder: Path) -> None:
    groups = folders_dataset(folder, group_pattern=r"(s\d)_\d+").manifest.set_index("image")["group"]
    assert groups["a/s1_0.png"] == groups["a/deep/s1_1.jpg"] == groups["b/s1_0.png"] == "s1"
    assert groups["a/s2_0.bmp"] == "s2"
    assert groups_in_several_classes(folders_dataset(folder, group_pattern=r"(s\d)_\d+").manifest) == ["s1", "s2"]


@pytest.mark.parametrize(
    ("pattern", "message"), [(r"(slide\d+)", "does not match the image"), ("(", "not a regular expression"), (r"s(x?)", "empty group")]
)
def test_bad_group_pattern_is_named(folder: Path, pattern: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        folders_dataset(folder, group_pattern=pattern)


def test_masks_are_found_beside_or_below(folder: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    (masks / "b").mkdir(parents=True)
    Image.new("1", (10, 12), 1).save(masks / "s2_0_segmentation.png")  # of class a: the other has its own in its folder
    Image.new("1", (10, 12), 1).save(masks / "b" / "s2_0.png")
    found = folders_dataset(folder, mask_dir=masks).manifest.set_index("image")["mask_lesion"]
    assert found["a/s1_0.png"] == ""
    assert (folder / found["a/s2_0.bmp"]).resolve() == (masks / "s2_0_segmentation.png").resolve()
    assert (folder / found["b/s2_0.bmp"]).resolve() == (masks / "b" / "s2_0.png").resolve()
    with pytest.raises(UsageError, match="no mask is named like an image"):
        folders_dataset(folder, mask_dir=folder / "__MACOSX")


def test_missing_single_and_empty_classes_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        folders_dataset(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="at least two classes, found none"):
        folders_dataset(folder / "a" / "deep")
    with pytest.raises(UsageError, match="found only deep"):
        folders_dataset(folder / "a")
    (folder / "c").mkdir()
    with pytest.raises(UsageError, match="class folder c holds no images that are read"):
        folders_dataset(folder)


def test_a_slide_with_cells_of_two_classes_stays_on_one_side(tmp_path: Path) -> None:
    for slide in range(20):
        for label in "ab":
            for cell in range(3):
                path = tmp_path / label / f"slide{slide:02}_{cell}.png"
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(path)
    manifest = folders_dataset(tmp_path, r"(slide\d+)_").manifest
    split = grouped_split(manifest, (0.6, 0.2, 0.2), 0)
    assert (split.groupby("group")["split"].nunique() == 1).all() and split["group"].nunique() == 20
    assert leakage(split)["test"]["shared"] == 0


def test_what_lies_beside_the_images_is_counted(folder: Path) -> None:
    (folder / "b" / "x.xyz").touch()
    (folder / "stray.png").touch()
    assert folders_dataset(folder).left_out == {".xyz files": 1, ".txt files": 1, "hidden files": 1, "images outside the class folders": 1}


def test_a_class_of_other_files_says_what_they_are(folder: Path) -> None:
    (folder / "c").mkdir()
    for number in range(5):
        (folder / "c" / f"{number}.xyz").touch()
    with pytest.raises(UsageError, match="class folder c holds no images that are read; it holds 5 .xyz files"):
        folders_dataset(folder)


@pytest.mark.parametrize("names", [("train", "test"), ("Training", "val", "test")])
def test_a_download_that_is_split_already_is_asked_about(folder: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        shutil.copytree(folder, tmp_path / "split" / name)
    with pytest.raises(UsageError, match="look like a split, not like classes: each holds a, b; expected one folder per class"):
        folders_dataset(tmp_path / "split")


def test_classes_that_are_called_test_are_classes(folder: Path) -> None:
    (folder / "a").rename(folder / "test")
    assert class_names(folders_dataset(folder).manifest) == ("b", "test")


def test_class_folders_that_are_not_utf8_have_a_name_that_can_be_written(folder: Path) -> None:
    os.rename(os.fsencode(folder / "a"), os.fsencode(folder) + b"/k\xe9ratose")
    dataset = folders_dataset(folder)
    assert class_names(dataset.manifest) == ("b", "kératose")
    assert all((dataset.data_dir / name).is_file() for name in dataset.manifest["image"])
    assert as_text("ke\u0301ratose") == "kératose"
