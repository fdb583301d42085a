"""Unreadable files are listed, or left out on request; each image is decoded once."""

import os
from pathlib import Path

import numpy as np
import pytest

from common.data.folders import folders_dataset
from common.data.images import cached_images, read_image
from common.data.readable import check_readable, passed_over, unreadable
from common.errors import UsageError


def test_unreadable_images_are_listed_or_left_out(folder: Path, tmp_path: Path) -> None:
    dataset = folders_dataset(folder)
    assert check_readable(dataset).manifest.equals(dataset.manifest)
    whole = (folder / "b" / "s1_0.png").read_bytes()
    (folder / "b" / "s1_0.png").write_bytes(whole[: len(whole) // 2])
    (folder / "a" / "s2_0.bmp").write_bytes(b"not an image")
    assert list(unreadable(dataset)) == ["a/s2_0.bmp", "b/s1_0.png"]
    with pytest.raises(
        UsageError, match=r"cannot read 2 image\(s\): a/s2_0.bmp, b/s1_0.png \(a/s2_0.bmp: not an image file\); --skip-unreadable"
    ):
        check_readable(dataset, cache_dir=tmp_path / "cache")
    kept = check_readable(dataset, skip_unreadable=True, cache_dir=tmp_path / "cache")  # from the note of the call before
    assert set(dataset.manifest["image"]) - set(kept.manifest["image"]) == {"a/s2_0.bmp", "b/s1_0.png"}
    assert kept.left_out["unreadable images"] == 2


def test_a_replaced_file_of_the_same_size_is_looked_at_again(folder: Path, tmp_path: Path) -> None:
    dataset = folders_dataset(folder)
    assert check_readable(dataset, cache_dir=tmp_path / "cache").manifest.equals(dataset.manifest)
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
    assert check_readable(dataset, cache_dir=cache, pixels=(24, "nearest")).manifest.equals(dataset.manifest)
    assert sorted(decoded) == sorted(f"{folder}/{name}" for name in dataset.manifest["image"])
    np.testing.assert_array_equal(cached_images(dataset, 24, "nearest", cache), expected)
    assert check_readable(dataset, cache_dir=cache, pixels=(24, "nearest")).manifest.equals(dataset.manifest)
    assert len(decoded) == len(dataset.manifest)


def test_broken_images_found_while_caching_are_listed_and_leave_no_cache(folder: Path, tmp_path: Path) -> None:
    dataset, cache = folders_dataset(folder), tmp_path / "cache"
    (folder / "a" / "s2_0.bmp").write_bytes(b"not an image")
    whole = (folder / "b" / "s1_0.png").read_bytes()
    (folder / "b" / "s1_0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        UsageError, match=r"cannot read 2 image\(s\): a/s2_0.bmp, b/s1_0.png \(a/s2_0.bmp: not an image file\); --skip-unreadable"
    ):
        check_readable(dataset, cache_dir=cache, pixels=(24, "bilinear"))
    assert not list((cache / "images").glob("*.npy")) and not list((cache / "images").glob("*.partial*"))
    kept = check_readable(dataset, skip_unreadable=True, cache_dir=cache, pixels=(24, "bilinear"))
    assert len(kept.manifest) == len(dataset.manifest) - 2
    assert len(cached_images(kept, 24, "bilinear", cache)) == len(kept.manifest)


def test_a_missing_file_is_listed_with_the_broken_ones(folder: Path, tmp_path: Path) -> None:
    dataset = folders_dataset(folder)
    (folder / "a" / "s2_0.bmp").unlink()
    with pytest.raises(UsageError, match=r"cannot read 1 image\(s\): a/s2_0.bmp \(image not found: a/s2_0.bmp\); --skip-unreadable"):
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


def test_what_was_passed_over_is_said_before_training(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    check_readable(folders_dataset(folder))
    assert "folders: 6 images; passed over: 1 .txt files, 1 hidden files" in caplog.text
    assert passed_over({f"{name} files": 1 for name in "abcdefgh"}).endswith("1 f files, 2 others")


def test_a_verdict_that_was_cut_off_is_made_again(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = folders_dataset(folder)
    check_readable(dataset, cache_dir=tmp_path)
    note = next((tmp_path / "checked").iterdir())
    for damage in ("", "[", "[]"):
        note.write_text(damage)
        check_readable(dataset, cache_dir=tmp_path)
        assert "was cut off and is made again" in caplog.text and note.read_text() == "{}"
        caplog.clear()
