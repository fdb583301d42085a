"""Manifest: anyone's folders, the fingerprint, unreadable files."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.data.images import cached_images, read_image
from common.data.manifest import Dataset, check_readable, class_names, fingerprint, folders_dataset, unreadable
from common.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, "b" and "a", of three images each: s1_0, s1_1, s2_0."""
    rng = np.random.default_rng(0)
    for label in ("b", "a"):
        (tmp_path / "data" / label / "deep").mkdir(parents=True)
        for name in ("s1_0.png", "deep/s1_1.jpg", "s2_0.bmp"):
            Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(tmp_path / "data" / label / name)
    (tmp_path / "data" / "a" / "notes.txt").write_text("not an image")
    (tmp_path / "data" / "a" / "._s1_0.png").write_bytes(b"left by macOS")
    (tmp_path / "data" / "__MACOSX").mkdir()
    return tmp_path / "data"


def test_folders_are_classes_and_images_lie_at_any_depth(folder: Path) -> None:
    dataset = folders_dataset(folder)
    assert class_names(dataset.manifest) == ("a", "b")
    assert set(dataset.manifest["image"]) == {f"{c}/{n}" for c in "ab" for n in ("s1_0.png", "deep/s1_1.jpg", "s2_0.bmp")}
    assert list(dataset.manifest["group"]) == list(dataset.manifest["image"])
    assert not dataset.synthetic


def test_group_pattern_takes_the_bracketed_part_within_the_class(folder: Path) -> None:
    groups = folders_dataset(folder, group_pattern=r"(s\d)_\d+").manifest.set_index("image")["group"]
    assert groups["a/s1_0.png"] == groups["a/deep/s1_1.jpg"] == "a/s1"
    assert groups["b/s1_0.png"] == "b/s1"
    assert groups["a/s2_0.bmp"] == "a/s2"


@pytest.mark.parametrize(
    ("pattern", "message"), [(r"(slide\d+)", "does not match the image"), ("(", "not a regular expression"), (r"s(x?)", "empty group")]
)
def test_bad_group_pattern_is_named(folder: Path, pattern: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        folders_dataset(folder, group_pattern=pattern)


def test_masks_are_found_beside_or_below(folder: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    (masks / "b").mkdir(parents=True)
    Image.new("1", (10, 12), 1).save(masks / "s2_0_segmentation.png")
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
    with pytest.raises(UsageError, match="class folder c holds no images"):
        folders_dataset(folder)


def test_an_image_may_be_listed_once_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="x.png is listed more than once"):
        Dataset("d", tmp_path, pd.DataFrame({"image": ["x.png"] * 2, "label": "a", "group": "g"}))


def test_fingerprint_ignores_row_order_and_sees_labels_groups_and_sizes(folder: Path) -> None:
    dataset = folders_dataset(folder)
    first = fingerprint(dataset)
    assert len(first) == 16 and int(first, 16) >= 0
    shuffled = replace(dataset, manifest=dataset.manifest.sample(frac=1, random_state=1))
    assert fingerprint(shuffled) == first
    assert fingerprint(replace(dataset, manifest=dataset.manifest.assign(group="g"))) != first
    assert fingerprint(replace(dataset, manifest=dataset.manifest.iloc[1:])) != first
    with open(folder / "a" / "s1_0.png", "ab") as handle:
        handle.write(b"x")
    assert fingerprint(dataset) != first


def test_unreadable_images_are_listed_or_left_out(folder: Path, tmp_path: Path) -> None:
    dataset = folders_dataset(folder)
    assert check_readable(dataset) is dataset
    whole = (folder / "b" / "s1_0.png").read_bytes()
    (folder / "b" / "s1_0.png").write_bytes(whole[: len(whole) // 2])
    (folder / "a" / "s2_0.bmp").write_bytes(b"not an image")
    assert list(unreadable(dataset)) == ["a/s2_0.bmp", "b/s1_0.png"]
    with pytest.raises(UsageError, match=r"cannot read 2 image\(s\): a/s2_0.bmp, b/s1_0.png; --skip-unreadable"):
        check_readable(dataset, cache_dir=tmp_path / "cache")
    kept = check_readable(dataset, skip_unreadable=True, cache_dir=tmp_path / "cache")  # from the note of the call before
    assert set(dataset.manifest["image"]) - set(kept.manifest["image"]) == {"a/s2_0.bmp", "b/s1_0.png"}
    assert kept.left_out == {"unreadable images": 2}


def test_a_replaced_file_of_the_same_size_is_looked_at_again(folder: Path, tmp_path: Path) -> None:
    dataset = folders_dataset(folder)
    assert check_readable(dataset, cache_dir=tmp_path / "cache") is dataset
    path = folder / "b" / "s1_0.png"
    path.write_bytes(b"x" * path.stat().st_size)
    os.utime(path, ns=(1, 1))
    with pytest.raises(UsageError, match=r"cannot read 1 image\(s\): b/s1_0.png"):
        check_readable(dataset, cache_dir=tmp_path / "cache")


def test_the_check_leaves_the_pixels_so_that_every_image_is_decoded_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = folders_dataset(folder)
    expected = np.array(cached_images(dataset, 24, "nearest", tmp_path / "apart"))
    decoded: list[str] = []

    def counted(path: Path | str) -> np.ndarray:
        decoded.append(str(path))
        return read_image(path)

    monkeypatch.setattr("common.data.images.read_image", counted)
    cache = tmp_path / "cache"
    assert check_readable(dataset, cache_dir=cache, pixels=(24, "nearest")) is dataset
    assert sorted(decoded) == sorted(f"{folder}/{name}" for name in dataset.manifest["image"])
    np.testing.assert_array_equal(cached_images(dataset, 24, "nearest", cache), expected)
    assert check_readable(dataset, cache_dir=cache, pixels=(24, "nearest")) is dataset
    assert len(decoded) == len(dataset.manifest)


def test_broken_images_found_while_caching_are_listed_and_leave_no_cache(folder: Path, tmp_path: Path) -> None:
    dataset, cache = folders_dataset(folder), tmp_path / "cache"
    (folder / "a" / "s2_0.bmp").write_bytes(b"not an image")
    whole = (folder / "b" / "s1_0.png").read_bytes()
    (folder / "b" / "s1_0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"cannot read 2 image\(s\): a/s2_0.bmp, b/s1_0.png; --skip-unreadable"):
        check_readable(dataset, cache_dir=cache, pixels=(24, "bilinear"))
    assert not list((cache / "images").glob("*.npy")) and not list((cache / "images").glob("*.partial"))
    kept = check_readable(dataset, skip_unreadable=True, cache_dir=cache, pixels=(24, "bilinear"))
    assert len(kept.manifest) == len(dataset.manifest) - 2
    assert len(cached_images(kept, 24, "bilinear", cache)) == len(kept.manifest)


def test_a_missing_file_is_listed_with_the_broken_ones(folder: Path, tmp_path: Path) -> None:
    dataset = folders_dataset(folder)
    (folder / "a" / "s2_0.bmp").unlink()
    with pytest.raises(UsageError, match=r"cannot read 1 image\(s\): a/s2_0.bmp; --skip-unreadable"):
        check_readable(dataset, cache_dir=tmp_path / "cache", pixels=(24, "bilinear"))
    assert len(check_readable(dataset, True, tmp_path / "cache", (24, "bilinear")).manifest) == len(dataset.manifest) - 1


def test_a_full_disk_is_not_taken_for_unreadable_images(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.data.cache.SPARE_BYTES", 2**62)
    with pytest.raises(UsageError, match="the image cache needs"):
        check_readable(folders_dataset(folder), skip_unreadable=True, cache_dir=tmp_path, pixels=(24, "nearest"))
    assert not list((tmp_path / "checked").glob("*"))


def test_a_class_without_a_readable_image_is_an_error(folder: Path) -> None:
    for path in (folder / "a").rglob("s*"):
        path.write_bytes(b"broken")
    with pytest.raises(UsageError, match="no readable image is left of the class a"):
        check_readable(folders_dataset(folder), skip_unreadable=True)
