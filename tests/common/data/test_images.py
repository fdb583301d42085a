"""Resizing, and the cache."""

import multiprocessing
import shutil
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.data import cache
from common.data.dataset import Dataset
from common.data.images import cached_images, read_image, resize
from common.data.masks import cached_masks
from common.errors import UsageError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)


def _save(path: Path, pixels: np.ndarray = PIXELS, mode: str | None = None, **options) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def test_nearest_takes_the_very_pixels_that_pillow_takes() -> None:
    """One row whose three channels spell the column's number, at many widths: any other choice of pixel would show."""
    for width in (*range(1, 260), *range(260, 1500, 37)):
        columns = np.arange(width)
        row = np.stack([columns % 256, columns // 256, columns % 7], axis=-1).astype(np.uint8)[None]
        for size in (8, 64, 96, 110, 112, 224, 227, 256):
            expected = np.asarray(Image.fromarray(row).resize((size, 1), Image.Resampling.NEAREST))
            np.testing.assert_array_equal(resize(row, (1, size), "nearest"), expected, err_msg=f"{width} to {size}")
    tall = RNG.integers(0, 256, (57, 33), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(tall).resize((20, 31), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(resize(tall, (31, 20), "nearest"), expected)


def test_resize_refuses_unknown_filters() -> None:
    with pytest.raises(UsageError, match="'area': expected one of nearest, bilinear, bicubic, lanczos"):
        resize(PIXELS, 4, "area")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    names = [f"{i}.png" for i in range(40)]
    (tmp_path / "data").mkdir()
    for name in names:
        _save(tmp_path / "data" / name, RNG.integers(0, 256, (13, 17, 3), dtype=np.uint8))
    _save(tmp_path / "data" / "mask.png", (np.arange(13 * 17).reshape(13, 17) % 2).astype(bool))
    masks = ["mask.png"] + [""] * 39
    manifest = pd.DataFrame({"image": names, "label": "a", "group": names, "mask_lesion": masks})
    return Dataset("mine", tmp_path / "data", manifest)


def test_cache_holds_the_resized_pixels_in_row_order(dataset: Dataset, tmp_path: Path) -> None:
    backwards = replace(dataset, manifest=dataset.manifest.iloc[::-1])
    for data in (dataset, backwards):
        found = cached_images(data, 8, "bilinear", tmp_path / "cache")
        assert found.shape == (40, 8, 8, 3) and found.dtype == np.uint8
        for row in (0, 17, 39):
            expected = resize(read_image(data.data_dir / data.manifest["image"].iloc[row]), 8, "bilinear")
            np.testing.assert_array_equal(found[row], expected)
        with pytest.raises(ValueError, match="read-only"):
            found[0] = 0
    file = next((tmp_path / "cache" / "images").glob("*.npy"))
    assert file.stat().st_size <= 40 * 8 * 8 * 3 + 256  # a quarter of float32


def test_cache_is_made_once_and_again_when_a_file_changes(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cached_images(dataset, 8, "nearest", tmp_path / "cache").copy()
    relabelled = replace(dataset, manifest=dataset.manifest.assign(label="b"))
    with monkeypatch.context() as patch:
        patch.setattr("common.data.images.read_image", None)  # nothing may be decoded again, not even for other labels
        np.testing.assert_array_equal(cached_images(relabelled, 8, "nearest", tmp_path / "cache"), first)
    _save(dataset.data_dir / "3.png", np.zeros((13, 17, 3), dtype=np.uint8))
    assert not cached_images(dataset, 8, "nearest", tmp_path / "cache")[3].any()


def test_masks_are_cached_as_zeros_and_ones(dataset: Dataset, tmp_path: Path) -> None:
    masks = cached_masks(dataset, "mask_lesion", 8, tmp_path / "cache")
    assert masks.shape == (40, 8, 8) and masks.dtype == np.uint8
    assert set(np.unique(masks[0])) == {0, 1} and not masks[1:].any()
    with pytest.raises(UsageError, match="no streaks masks"):
        cached_masks(dataset, "mask_streaks", 8, tmp_path / "cache")


def test_a_broken_image_leaves_no_cache_behind(dataset: Dataset, tmp_path: Path) -> None:
    (dataset.data_dir / "5.png").write_bytes(b"broken")
    (dataset.data_dir / "6.png").write_bytes(b"broken")
    with pytest.raises(UsageError, match=r"5\.png.*and 1 more"):
        cached_images(dataset, 8, "nearest", tmp_path / "cache")
    assert {path.suffix for path in (tmp_path / "cache" / "images").iterdir()} == {".lock"}


def test_too_little_disk_is_found_out_before_writing(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UsageError, match="--cache-dir .* free some space"):
        cached_images(dataset, 8, "nearest", tmp_path / "cache")


def test_a_disk_that_fills_up_is_a_usage_error(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "pwrite", full)
    with pytest.raises(UsageError, match="the disk is full"):
        cached_images(dataset, 8, "nearest", tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.partial*"))


def test_a_cache_folder_that_is_a_file_is_a_usage_error(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--cache-dir: cannot make the folder"):
        cached_images(dataset, 8, "nearest", tmp_path / "file")


def _build(folder: str, log: str) -> None:
    def fill(row: int, out: np.ndarray) -> None:
        if row == 0:
            with open(log, "a") as handle:
                handle.write("filled\n")
        out[:] = 7

    array = cache.cached_array(Path(folder) / "x.npy", (1000, 1000), fill)
    assert (array == 7).all()


def _stall(folder: str) -> None:
    def fill(row: int, out: np.ndarray) -> None:
        (Path(folder) / "begun").touch()
        time.sleep(60)

    cache.cached_array(Path(folder) / "c" / "x.npy", (1000, 1000), fill)


def test_a_killed_process_leaves_neither_a_half_array_nor_a_lock(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_stall, args=(str(tmp_path),))
    process.start()
    while not (tmp_path / "begun").exists():
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join(60)
    assert {path.name.rpartition("-")[0] or path.name for path in (tmp_path / "c").iterdir()} == {"x.lock", f"x.partial-{process.pid}"}
    _build(str(tmp_path / "c"), str(tmp_path / "log"))
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"x.lock", "x.npy"}


def test_of_two_processes_one_writes_and_both_read(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_build, args=(str(tmp_path / "c"), str(tmp_path / "log"))) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "filled\n"
