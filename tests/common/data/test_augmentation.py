"""Augmented copies: pure functions of (seed, name, copy), the notebook's groups, the cached array."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.data import augmentation_coded as coded
from common.data.augmentation import MAX_COPIES, _described_operations, augmented_copy, augmented_images
from common.data.dataset import Dataset
from common.data.images import resize
from common.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]

DRAW = coded.OPERATIONS


def _cell(height: int = 40, width: int = 30) -> np.ndarray:
    """A dark disc on a light ground with some texture, not symmetric."""
    rows, columns = np.mgrid[:height, :width]
    inside = (rows - 15) ** 2 + (columns - 12) ** 2 < 64
    image = np.where(inside[..., None], (90, 30, 120), (220, 180, 200)) + (rows + 2 * columns)[..., None] % 17
    return image.astype(np.uint8)


@pytest.mark.parametrize("kind", ["described", "coded"])
def test_a_copy_is_a_function_of_seed_name_and_number(kind) -> None:
    image = _cell()
    copies = [augmented_copy(image, "a.png", copy, kind, 0) for copy in range(1, MAX_COPIES + 1)]
    for copy in reversed(range(1, MAX_COPIES + 1)):  # another order, other calls between
        augmented_copy(image, "z.png", copy, kind, 3)
        np.testing.assert_array_equal(augmented_copy(image, "a.png", copy, kind, 0), copies[copy - 1])
    for copy in copies:
        assert copy.shape == image.shape and copy.dtype == np.uint8
    assert any((augmented_copy(image, "b.png", c, kind, 0) != copies[c - 1]).any() for c in range(1, MAX_COPIES + 1))
    assert any((augmented_copy(image, "a.png", c, kind, 1) != copies[c - 1]).any() for c in range(1, MAX_COPIES + 1))
    assert sum((first != second).any() for first, second in zip(copies, copies[1:], strict=False)) == MAX_COPIES - 1


@pytest.mark.parametrize("kind", ["described", "coded"])
def test_a_copy_is_the_same_in_another_process(kind, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", _cell())
    code = (
        "import sys, numpy as np; from common.data.augmentation import augmented_copy\n"
        f"image = np.load(r'{tmp_path}/in.npy')\n"
        f"np.save(r'{tmp_path}/out.npy', np.stack([augmented_copy(image, 'a.png', c, '{kind}', 5) for c in range(1, 7)]))\n"
        "assert not {'tensorflow', 'jax', 'keras'} & set(sys.modules), 'augmentation needs no deep-learning library'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)
    here = np.stack([augmented_copy(_cell(), "a.png", c, kind, 5) for c in range(1, 7)])
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), here)


def test_described_copies_vary_geometry_and_pixels() -> None:
    """Over many copies: some keep the ground's level at the border, some bring in black; brightness goes both ways."""
    image = _cell()
    copies = [augmented_copy(image, f"{i}.png", 1, "described", 0) for i in range(60)]
    corners = np.array([copy[[0, 0, -1, -1], [0, -1, 0, -1]].mean() for copy in copies])
    assert (corners < 60).sum() > 10 and (corners > 150).sum() > 5
    means = np.array([copy.mean() for copy in copies])
    assert means.min() < 0.8 * image.mean() and means.max() > 1.02 * image.mean()


@pytest.mark.parametrize("group", range(6))
def test_every_operation_of_every_group_works_on_odd_sizes(group: int) -> None:
    for operation in coded.GROUPS[group][0]:
        for size in ((48, 62), (9, 5), (64, 31)):
            image = resize(_cell(), size)
            result = operation(image, np.random.default_rng(1))
            assert result.shape == image.shape and result.dtype == np.uint8
            np.testing.assert_array_equal(operation(image, np.random.default_rng(1)), result)


def test_groups_are_those_of_the_notebook() -> None:
    assert [(len(operations), number) for operations, number in coded.GROUPS] == [(6, 2), (6, 2), (2, 1), (2, 1), (5, 1), (3, 1)]


def test_described_operations_are_the_papers_list_with_the_notebooks_ranges() -> None:
    # paper III-A: rotation, translation, scaling, shear, zoom, flips, padding; noise, contrast, brightness, pixel values (colour, gamma).
    geometry, pixels = _described_operations()
    rotation, translation, scaling, shear, zoom = (operation.get_transform_init_args() for operation in geometry[:5])
    assert [type(operation).__name__ for operation in geometry] == ["Affine"] * 5 + ["HorizontalFlip", "VerticalFlip", "CropAndPad"]
    still = {"rotate": (0, 0), "translate_percent": (0, 0), "scale": (1, 1), "shear": (0, 0)}
    given = {"rotate": (-90, 90), "translate_percent": (-0.15, 0.15), "scale": (0.5, 0.9), "shear": (-2, 2)}  # facts 1.2, groups 0
    for found, moved in ((rotation, "rotate"), (translation, "translate_percent"), (scaling, "scale"), (shear, "shear"), (zoom, "zoom")):
        for name in still:
            expected = (1, 1.25) if (moved, name) == ("zoom", "scale") else given[name] if moved == name else still[name]
            assert found[name] == (expected if name == "rotate" else {"x": expected, "y": expected}), (moved, name)
    assert zoom["keep_ratio"] and not scaling["keep_ratio"] and rotation["fill"] == 0
    assert geometry[7].get_transform_init_args()["percent"] == (0.05, 0.25)
    noise, contrast, brightness, colour, gamma = (operation.get_transform_init_args() for operation in pixels)
    names = ["GaussNoise", "RandomBrightnessContrast", "MultiplicativeNoise", "HueSaturationValue", "RandomGamma"]
    assert [type(operation).__name__ for operation in pixels] == names
    assert noise["std_range"] == (0, 0.111)
    assert (contrast["contrast_limit"], contrast["brightness_limit"]) == ((-0.25, 0.5), (0, 0))
    assert brightness["multiplier"] == (0.35, 1.65) and not brightness["per_channel"] and not brightness["elementwise"]
    assert (colour["hue_shift_limit"], colour["sat_shift_limit"], colour["val_shift_limit"]) == ((-35, 35), (-50, 50), (0, 0))
    assert gamma["gamma_limit"] == (50, 200)  # exponents 0.5 to 2
    assert all(operation.p == 1 for operation in (*geometry, *pixels))


class _Highest:
    """A generator that notes each range asked for and always draws its upper end."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []

    def uniform(self, low: float, high: float, size: int | None = None) -> np.ndarray | float:
        self.asked.append((low, high))
        return high if size is None else np.full(size, high)

    def integers(self, low: int, high: int, size: int | tuple | None = None) -> np.ndarray | int:
        self.asked.append((low, high - 1))
        return high - 1 if size is None else np.full(size, high - 1)

    def choice(self, values: tuple) -> int:
        self.asked.append(tuple(values))
        return values[-1]

    def permutation(self, count: int) -> np.ndarray:
        return np.arange(count)[::-1]


def _drawn(operation: coded.Operation, image: np.ndarray) -> tuple[np.ndarray, list[tuple]]:
    rng = _Highest()
    return operation(image, rng), rng.asked  # type: ignore[arg-type]


def _pixel(*values: int) -> np.ndarray:
    return np.full((1, 1, 3), values, dtype=np.uint8)


def test_coded_geometry_by_hand() -> None:  # facts 1.2, group 0
    square = _cell(31, 31)
    turned, asked = _drawn(DRAW["rotate"], square)
    np.testing.assert_array_equal(turned, np.rot90(square, -1))
    assert asked == [(-90, 90)]
    assert _drawn(DRAW["scale"], square)[1] == [(0.5, 0.9)]
    image = _cell(40, 20)
    moved, asked = _drawn(DRAW["translate"], image)  # 15 % of 20 columns and 40 rows
    np.testing.assert_array_equal(moved[6:, 3:], image[:-6, :-3])
    assert not moved[:6].any() and not moved[:, :3].any() and asked == [(-0.15, 0.15)]
    white = np.zeros((201, 21, 3), dtype=np.uint8)
    white[:, 10] = 255
    slanted, asked = _drawn(DRAW["shear"], white)  # tan 2 degrees: 100 rows from the centre a line has moved by 3.49 columns
    assert asked == [(-2, 2)] and slanted[100, :, 0].argmax() == 10
    places = (slanted[..., 0] * np.arange(21)).sum(axis=1) / slanted[..., 0].sum(axis=1)
    assert abs(places[200] - places[0]) == pytest.approx(2 * 100 * np.tan(np.deg2rad(2)), abs=0.1)


def test_coded_local_contrast_by_hand() -> None:  # facts 1.2, group 1; clip 0.1..8 and tiles 3..12 are imgaug's defaults
    image = _cell(60, 60)
    for operation, clip, tiles in (
        (DRAW["clahe"], (0.1, 8), (3, 12)),
        (DRAW["clahe_clip"], (1, 10), (3, 12)),
        (DRAW["clahe_tiles"], (0.1, 8), (3, 21)),
    ):
        found, asked = _drawn(operation, image)
        assert asked == [clip, tiles]
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
        lab[..., 0] = cv2.createCLAHE(float(clip[1]), (tiles[1], tiles[1])).apply(np.ascontiguousarray(lab[..., 0]))
        np.testing.assert_array_equal(found, cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))
    for operation, clip in ((DRAW["clahe_all"], (0.1, 8)), (DRAW["clahe_all_clip"], (1, 10))):
        found, asked = _drawn(operation, image)
        assert asked == [clip, (3, 12)]
        green = cv2.createCLAHE(float(clip[1]), (12, 12)).apply(np.ascontiguousarray(image[..., 1]))
        np.testing.assert_array_equal(found[..., 1], green)
    found, asked = _drawn(DRAW["gamma"], _pixel(0, 128, 255))
    assert asked == [(0.5, 2)] and found.ravel().tolist() == [0, 64, 255]  # 255 (128 / 255)^2 = 64.25


def test_coded_edges_by_hand() -> None:  # facts 1.2, groups 2 and 3
    dot = np.zeros((7, 7, 3), dtype=np.uint8)
    dot[3, 3] = 200
    found, asked = _drawn(DRAW["edges"], dot)
    assert asked == [(0, 0.7)]
    assert found[2:5, 2:5, 0].tolist() == [[0, 140, 0], [140, 0, 140], [0, 140, 0]]  # 0.7 times 200 beside it; 0.3 - 2.8 < 0 on it
    found, asked = _drawn(coded._directed_edges, dot)  # a whole turn: to the top
    assert asked == [(0, 0.7), (0, 1)]
    weights = np.array([1, 2 * 0.75**4, 2 * 0.5**4, 2 * 0.25**4])
    assert found[4, 3, 0] == round(0.7 * 200 / weights.sum()) and found[2, 3, 0] == 0
    image = _cell(60, 60)
    for operation, alpha, apertures in (
        (DRAW["canny_any"], (0, 1), (3, 5, 7)),
        (DRAW["canny_strong"], (0.5, 1), (3, 7)),
    ):
        found, asked = _drawn(operation, image)
        assert asked == [alpha, (60, 140), (160, 240), apertures, (0, 255)]
        np.testing.assert_array_equal(found, 255)  # alpha 1: nothing but the two colours, both drawn white here
    rng = np.random.default_rng(3)
    assert len(np.unique(coded._canny(image, rng, 1.0, (3,)).reshape(-1, 3), axis=0)) == 2


def test_coded_colours_by_hand() -> None:  # facts 1.2, group 4
    np.testing.assert_array_equal(_drawn(DRAW["shuffle_channels"], _cell())[0], _cell()[..., ::-1])
    assert _drawn(DRAW["grey"], _pixel(200, 100, 50))[0].ravel().tolist() == [124, 124, 124]  # 59.8 + 58.7 + 5.7
    colour = cv2.cvtColor(_pixel(100, 100, 200), cv2.COLOR_HSV2RGB_FULL)
    for operation, asked in (
        (DRAW["multiply_hue_saturation"], (0.5, 1.5)),
        (DRAW["add_hue_saturation"], (-50, 50)),
    ):
        found, ranges = _drawn(operation, colour)
        assert ranges == [asked]
        assert cv2.cvtColor(found, cv2.COLOR_RGB2HSV_FULL).ravel().astype(int) == pytest.approx([150, 150, 200], abs=2)
    assert coded._few_colours(_cell(), np.random.default_rng(0)).shape == _cell().shape


def test_coded_contrast_and_brightness_by_hand() -> None:  # facts 1.2, group 5
    found, asked = _drawn(DRAW["contrast"], _pixel(0, 127, 157))
    assert asked == [(0.75, 1.5)] and found.ravel().tolist() == [0, 127, 172]
    found, asked = _drawn(DRAW["brightness"], _pixel(10, 100, 200))
    assert asked == [(0.35, 1.65)] and found.ravel().tolist() == [16, 165, 255]


def test_flips_and_translations_are_exact() -> None:
    image, rng = _cell(), np.random.default_rng(0)
    np.testing.assert_array_equal(DRAW["flip_horizontally"](image, rng), image[:, ::-1])
    np.testing.assert_array_equal(DRAW["flip_vertically"](image, rng), image[::-1])
    moved = coded._affine(image, shift=(0.1, 0.0))  # 3 of 30 columns, black from outside
    np.testing.assert_array_equal(moved[:, 3:], image[:, :-3])
    assert not moved[:, :3].any()
    square = _cell(31, 31)
    np.testing.assert_array_equal(coded._affine(square, angle=90), np.rot90(square, -1))


def test_scaling_stays_between_half_and_nine_tenths() -> None:
    white = np.full((101, 101, 3), 255, dtype=np.uint8)
    for seed in range(20):
        result = DRAW["scale"](white, np.random.default_rng(seed))[..., 0] > 127
        for covered in (result.any(axis=1).sum(), result.any(axis=0).sum()):
            assert 49 <= covered <= 93


def test_edge_kernels_blend_between_image_and_edges() -> None:
    flat = np.full((20, 20, 3), 100, dtype=np.uint8)
    identity = np.zeros((3, 3))
    identity[1, 1] = 1
    np.testing.assert_array_equal(coded._blend_kernel(_cell(), identity, 0.5), _cell())
    # On a flat image both edge kernels are zero, so what is left is (1 - alpha) of the image, alpha at most 0.7.
    for operation in coded.GROUPS[2][0]:
        for seed in range(10):
            result = operation(flat, np.random.default_rng(seed))
            assert 29 <= result.min() == result.max() <= 100


def test_few_colours_leaves_at_most_sixteen() -> None:
    for seed in range(5):
        result = coded._few_colours(_cell(64, 64), np.random.default_rng(seed))
        assert 2 <= len(np.unique(result.reshape(-1, 3), axis=0)) <= 16


def test_nearest_centre_equals_the_full_distance_table() -> None:
    rng = np.random.default_rng(0)
    points, centres = rng.uniform(0, 255, (500, 3)).astype(np.float32), rng.uniform(0, 255, (7, 3)).astype(np.float32)
    table = ((points[:, None] - centres[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(coded._nearest(points, centres), table.argmin(axis=1))


def test_brightness_per_channel_multiplies_each_channel() -> None:
    image = _cell()
    rng = np.random.default_rng(2)
    factors = rng.uniform(0.5, 1.5, 3) if rng.uniform() < 0.75 else None
    assert factors is not None
    expected = np.clip(np.rint(image * factors), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(coded._brightness_per_channel(image, np.random.default_rng(2)), expected)


def test_colour_operations_run_on_swapped_channels_and_jpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        seen.append(image.copy())
        return image

    monkeypatch.setattr(coded, "GROUPS", (((spy,), 1),))
    image = _cell()
    result = coded.coded_copy(image, 0, np.random.default_rng(0))
    np.testing.assert_array_equal(seen[0], image[..., ::-1])
    expected = cv2.imdecode(cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1], cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(result, expected)
    assert 0 < np.abs(result.astype(int) - image).mean() < 12


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    names = [f"{i}.png" for i in range(5)]
    for i, name in enumerate(names):
        Image.fromarray(_cell(40 + i, 30 + 2 * i)).save(tmp_path / name)
    return Dataset("mine", tmp_path, pd.DataFrame({"image": names, "label": "a", "group": names}))


def test_cached_array_holds_each_image_and_its_copies_made_before_resizing(dataset: Dataset, tmp_path: Path) -> None:
    array = augmented_images(dataset, 3, "coded", 0, 16, "nearest", tmp_path / "cache")
    assert array.shape == (5, 4, 16, 16, 3) and array.dtype == np.uint8
    image = _cell(42, 34)
    np.testing.assert_array_equal(array[2, 0], resize(image, 16, "nearest"))
    for copy in (1, 2, 3):
        np.testing.assert_array_equal(array[2, copy], resize(augmented_copy(image, "2.png", copy, "coded", 0), 16, "nearest"))
    assert len(array.reshape(-1, 16, 16, 3)) == 20
    assert np.shares_memory(array.reshape(-1, 16, 16, 3), array)


def test_cached_array_is_made_once_for_each_setting(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    six = augmented_images(dataset, 6, "described", 0, 16, cache_dir=tmp_path / "cache")
    two = augmented_images(dataset, 2, "described", 0, 16, cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(six[:, :3], two)  # a copy does not depend on how many there are
    assert (augmented_images(dataset, 2, "described", 1, 16, cache_dir=tmp_path / "cache") != two).any()
    monkeypatch.setattr("common.data.augmentation.augmented_copy", None)
    np.testing.assert_array_equal(augmented_images(dataset, 6, "described", 0, 16, cache_dir=tmp_path / "cache"), six)


def test_bad_numbers_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--copies 7: expected 0 to 6"):
        augmented_images(dataset, 7, "coded", 0, 16, cache_dir=tmp_path / "cache")
    with pytest.raises(ValueError, match="expected described or coded"):
        augmented_copy(_cell(), "a.png", 1, "other", 0)
