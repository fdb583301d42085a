"""Decoding of every kind of file we may meet: the picture as a person sees it, or one line that names it."""

from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image, ImageOps

from common.data import pixels
from common.data.images import resize
from common.data.pixels import read_header, read_image
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
        assert pixels._plain_jpeg(path) is not None
        with Image.open(path) as image:
            np.testing.assert_array_equal(read_image(path), np.asarray(ImageOps.exif_transpose(image).convert("RGB")))


def test_the_quick_way_leaves_odd_jpeg_files_to_pillow(tmp_path: Path) -> None:
    whole = _save(tmp_path / "x.jpg").read_bytes()
    _save(tmp_path / "cmyk.jpg", mode="CMYK")
    (tmp_path / "longer.jpg").write_bytes(whole + b"trailing")
    (tmp_path / "head.jpg").write_bytes(b"\xff\xd8\xff\xd9")
    for name in ("cmyk.jpg", "head.jpg", "missing.jpg"):
        assert pixels._plain_jpeg(tmp_path / name) is None
    np.testing.assert_array_equal(read_image(tmp_path / "longer.jpg"), read_image(tmp_path / "x.jpg"))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_damaged_in_the_middle_is_refused_by_name(tmp_path: Path, mode: str) -> None:
    """Cut in the middle with an end marker set (ultralytics/yolov5#916), and zeros in the middle."""
    whole = _save(tmp_path / "x.jpg", RNG.integers(0, 256, (200, 200, 3), dtype=np.uint8), mode=mode).read_bytes()
    middle = len(whole) // 2
    (tmp_path / "cut.jpg").write_bytes(whole[:middle] + b"\xff\xd9")
    (tmp_path / "zeros.jpg").write_bytes(whole[:middle] + bytes(400) + whole[middle + 400 :])
    assert read_image(tmp_path / "x.jpg").shape == (200, 200, 3)
    for name in ("cut.jpg", "zeros.jpg"):
        with pytest.raises(UsageError, match=f"cannot read image .*{name}: Corrupt JPEG data"):
            read_image(tmp_path / name)


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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_pictures_are_read_as_a_viewer_shows_them(tmp_path: Path, orientation: int, suffix: str) -> None:
    """Pillow's exif_transpose is the outside value; the header gives the same size without decoding."""
    path, exif = tmp_path / f"e{suffix}", Image.Exif()
    exif[0x0112] = orientation
    how = {".tif": {"tiffinfo": {274: orientation}, "compression": "tiff_lzw"}, ".webp": {"lossless": True, "exif": exif}}
    Image.fromarray(PIXELS).save(path, **how.get(suffix, {"exif": exif}))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_image(path), expected)
    header = read_header(path)
    assert (header.height, header.width, header.orientation) == (*expected.shape[:2], orientation)


def test_a_turned_tiff_that_pillow_would_garble_is_refused(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "t.tif", tiffinfo={274: 6})
    with pytest.raises(UsageError, match="turned rows; save it upright"):
        read_image(tmp_path / "t.tif")


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


def _grey(height: int = 9, width: int = 7) -> np.ndarray:
    return (np.arange(height * width).reshape(height, width) * 255 // (height * width - 1)).astype(np.uint16)


@pytest.mark.parametrize(
    ("values", "how", "message"),
    [
        (_grey() * 16, {}, "16-bit pixels that stay below 4081, as 12-bit files do"),
        (_grey().astype(np.int16) * 8 - 1024, {}, "signed 16-bit pixels"),
        (_grey().astype(np.int8) - 10, {}, "signed 8-bit pixels"),
        (_grey().astype(np.int32), {}, "signed 32-bit pixels"),
        (_grey().astype(np.uint32), {}, "32-bit pixels"),
        (_grey().astype(np.float32) / 255, {}, "floating-point pixels"),
        (np.stack([_grey() * 257] * 3), {"photometric": "rgb", "planarconfig": "separate"}, "16-bit colour in planes"),
        (np.stack([_grey() * 16] * 3, axis=2), {"photometric": "rgb"}, "16-bit pixels that stay below 4096"),
        (np.stack([_grey().astype(np.uint8)] * 3), {"photometric": "minisblack"}, "holds several pages or frames"),
    ],
)
def test_pixels_without_an_agreed_range_are_named(tmp_path: Path, values: np.ndarray, how: dict, message: str) -> None:
    """python-pillow/Pillow#2610, #452, #5991, #3622: read as black, inverted or garbled, in silence."""
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "x.tif", values, **how)
    with pytest.raises(UsageError, match=f"x.tif: {message}"):
        read_image(tmp_path / "x.tif")


def test_white_is_zero_and_sixteen_bits_are_the_picture(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    grey, expected = _grey(), np.repeat(_grey().astype(np.uint8)[..., None], 3, axis=2)
    tifffile.imwrite(tmp_path / "white16.tif", 65535 - grey * 257, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "white8.tif", (255 - grey).astype(np.uint8), photometric="miniswhite")
    tifffile.imwrite(tmp_path / "planes8.tif", np.stack([grey.astype(np.uint8)] * 3), photometric="rgb", planarconfig="separate")
    for name in ("white16.tif", "white8.tif", "planes8.tif"):
        np.testing.assert_array_equal(read_image(tmp_path / name), expected)


def test_smaller_copies_of_a_page_are_no_second_page(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as file:
        file.write(PIXELS, photometric="rgb")
        file.write(PIXELS[::2, ::2].copy(), photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "pyramid.tif"), PIXELS)


def test_moving_pictures_are_no_picture(tmp_path: Path) -> None:
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    for suffix in (".gif", ".webp", ".png"):
        frames[0].save(tmp_path / f"m{suffix}", save_all=True, append_images=frames[1:])
        with pytest.raises(UsageError, match="several pages or frames"):
            read_image(tmp_path / f"m{suffix}")


def test_large_pictures_and_other_formats_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in (".png", ".jpg"):
        _save(tmp_path / f"x{suffix}")
    Image.fromarray(PIXELS).save(tmp_path / "x.eps")
    (tmp_path / "x.eps").rename(tmp_path / "eps.png")
    with pytest.raises(UsageError, match="eps.png: not an image file"):
        read_image(tmp_path / "eps.png")
    monkeypatch.setattr(pixels, "MOST_PIXELS", 62)
    for suffix in (".png", ".jpg"):
        with pytest.raises(UsageError, match=f"x{suffix}: 7 x 9 pixels; at most 62 are opened"):
            read_image(tmp_path / f"x{suffix}")
