"""Decoding of every kind of file we may meet, resizing, and the cache."""

import multiprocessing
import shutil
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.data import cache, images
from common.data.images import cached_images, cached_masks, read_image, read_mask, resize
from common.data.manifest import Dataset
from common.errors import UsageError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)


def _save(path: Path, pixels: np.ndarray = PIXELS, mode: str | None = None, **options) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def test_plain_colour_is_exact(tmp_path: Path) -> None:
    for suffix in (".png", ".bmp", ".tif"):
        image = read_image(_save(tmp_path / f"x{suffix}"))
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, PIXELS)


def test_jpeg_pixels_are_those_of_keras(tmp_path: Path) -> None:
    path = _save(tmp_path / "x.jpg")
    np.testing.assert_array_equal(read_image(path), np.asarray(keras.utils.load_img(path)))
    for name, keras_name in (("nearest", "nearest"), ("bilinear", "bilinear"), ("bicubic", "bicubic"), ("lanczos", "lanczos")):
        expected = np.asarray(keras.utils.load_img(path, target_size=(5, 11), interpolation=keras_name))
        np.testing.assert_array_equal(resize(read_image(path), (5, 11), name), expected)


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}, {"quality": 30, "optimize": True}])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_quick_way_through_jpeg_files_gives_pillows_pixels(tmp_path: Path, options: dict, channels: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for number, size in enumerate([(64, 48), (33, 17), (8, 8), (101, 150)]):
        smooth = Image.fromarray(RNG.integers(0, 256, (7, 5, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
        path = tmp_path / f"{number}.jpg"
        (smooth if channels == 3 else smooth.convert("L")).save(path, exif=exif if number % 2 else b"", **options)
        assert images._plain_jpeg(path) is not None
        with Image.open(path) as image:
            np.testing.assert_array_equal(read_image(path), np.asarray(image.convert("RGB")))


def test_the_quick_way_leaves_odd_jpeg_files_to_pillow(tmp_path: Path) -> None:
    whole = _save(tmp_path / "x.jpg").read_bytes()
    _save(tmp_path / "cmyk.jpg", mode="CMYK")
    (tmp_path / "longer.jpg").write_bytes(whole + b"trailing")
    (tmp_path / "head.jpg").write_bytes(b"\xff\xd8\xff\xd9")
    for name in ("cmyk.jpg", "longer.jpg", "head.jpg", "missing.jpg"):
        assert images._plain_jpeg(tmp_path / name) is None
    np.testing.assert_array_equal(read_image(tmp_path / "longer.jpg"), read_image(tmp_path / "x.jpg"))


def test_grey_alpha_palette_and_one_bit(tmp_path: Path) -> None:
    grey = PIXELS[..., 0]
    np.testing.assert_array_equal(read_image(_save(tmp_path / "g.png", grey)), np.repeat(grey[..., None], 3, axis=2))
    alpha = np.dstack([PIXELS, grey])
    np.testing.assert_array_equal(read_image(_save(tmp_path / "a.png", alpha)), PIXELS)
    few = PIXELS // 128 * 255
    np.testing.assert_array_equal(read_image(_save(tmp_path / "p.png", few, mode="P")), few)
    palette = Image.fromarray(few).convert("P")
    palette.save(tmp_path / "t.png", transparency=bytes(range(8)))
    np.testing.assert_array_equal(read_image(tmp_path / "t.png"), few)
    bits = np.repeat((grey > 127)[..., None], 3, axis=2) * np.uint8(255)
    Image.fromarray(grey > 127).save(tmp_path / "1.png")
    np.testing.assert_array_equal(read_image(tmp_path / "1.png"), bits)


def test_sixteen_bits_keep_their_high_byte(tmp_path: Path) -> None:
    deep = PIXELS[..., 0].astype(np.uint16) * 256 + 77
    for suffix in (".png", ".tif"):
        np.testing.assert_array_equal(read_image(_save(tmp_path / f"d{suffix}", deep))[..., 1], PIXELS[..., 0])


def test_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    flat = np.full((16, 16, 3), (200, 60, 30), dtype=np.uint8)
    image = read_image(_save(tmp_path / "c.jpg", flat, mode="CMYK", quality=95))
    assert image.shape == (16, 16, 3)
    np.testing.assert_allclose(image.reshape(-1, 3).mean(axis=0), (200, 60, 30), atol=6)


def test_exif_rotation_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "e.png"
    Image.fromarray(PIXELS).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(path), PIXELS)


def test_unreadable_files_raise_one_clear_line(tmp_path: Path) -> None:
    whole = _save(tmp_path / "x.jpg", RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.png").touch()
    for name in ("cut.jpg", "text.jpg", "empty.png", "missing.png"):
        with pytest.raises(UsageError, match=name) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)
    _save(tmp_path / "f.tif", np.zeros((4, 4), dtype=np.float32))
    with pytest.raises(UsageError, match="floating-point"):
        read_image(tmp_path / "f.tif")


def test_masks_of_every_range(tmp_path: Path) -> None:
    inside = PIXELS[..., 0] > 127
    for name, values in (
        ("bits", inside),
        ("bytes", inside * np.uint8(255)),
        ("ones", inside.astype(np.uint8)),
        ("deep", inside * np.uint16(65535)),
    ):
        mask = read_mask(_save(tmp_path / f"{name}.png", values))
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, inside)
    assert not read_mask(_save(tmp_path / "none.png", np.zeros((4, 4), dtype=np.uint8))).any()
    assert read_mask(_save(tmp_path / "all.png", np.full((4, 4), 255, dtype=np.uint8))).all()
    # A few grey levels of JPEG noise are not a lesion.
    assert not read_mask(_save(tmp_path / "noise.png", np.full((4, 4), 3, dtype=np.uint8))).any()


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
    assert not list((tmp_path / "cache").rglob("*.partial"))


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
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"x.lock", "x.partial"}
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
