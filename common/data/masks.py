"""Masks: which file belongs to which image, what its values mean, and whether it fits its image."""

import os
import unicodedata
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from common.data.cache import cached_array, for_each, keep_note, noted
from common.data.dataset import Dataset
from common.data.fingerprint import content_key
from common.data.images import resize
from common.data.outlines import read_outline_mask
from common.data.pixels import check_kind, opened, read_header, upright, white_is_zero
from common.data.walk import is_outline, walk
from common.errors import UsageError

_ENDINGS = ("_segmentation", "_mask")
PRESENT, EMPTY = "present", "empty"
_EXPECTED = "expected black outside and one other value (or colour) inside, or grey from 0 to full with the region above one half"


def find_masks(root: Path, images: Sequence[str], mask_dir: Path, *, every_mask: bool = False) -> tuple[list[str], dict[str, int]]:
    """For each image its mask below `mask_dir`, as a path relative to `root` ("" where there is none); and what was passed over, by reason.

    A mask is named like its image, alone or with `_segmentation` or `_mask`. Its folders count first: `<class>/<image>`, then the path
    inside the class; a mask that lies in none of the images' folders may go by its name alone, when one image only has that name. Capitals
    and Unicode's two spellings of an accent do not matter where the exact name finds nothing.

    Args:
        every_mask: each mask must have its image.

    Raises:
        UsageError: missing folder; no mask of any image; a mask that fits two images, or two masks for one; with `every_mask` masks that
            are named like no image.
    """
    if not mask_dir.is_dir():
        raise UsageError(f"--mask-dir {mask_dir}: no such folder")
    found = walk(mask_dir, "--mask-dir")
    masks = list(found.images)
    taken = _pair(list(images), masks, mask_dir)
    if not taken:
        raise UsageError(f"--mask-dir {mask_dir}: no mask is named like an image (expected <image>.png or <image>_segmentation.png)")
    used = set(taken.values())
    strangers = [mask for mask in masks if mask not in used]
    if strangers and every_mask:
        more = f" and {len(strangers) - 3} more" if len(strangers) > 3 else ""
        raise UsageError(
            f"--mask-dir {mask_dir}: masks of unknown images: {', '.join(strangers[:3])}{more}; expected <image>.png or "
            "<image>_segmentation.png for an image of --data-dir"
        )
    # Both ends resolved: `..` behind a link leads elsewhere.
    away = Path(os.path.relpath(mask_dir.resolve(), root.resolve())).as_posix()
    left_out = {f"{reason} beside the masks": number for reason, number in found.reasons().items()}
    left_out |= {f"masks named like no image (first: {strangers[0]})": len(strangers)} if strangers else {}
    return ["" if image not in taken else taken[image] if away == "." else f"{away}/{taken[image]}" for image in images], left_out


def _pair(images: list[str], masks: list[str], mask_dir: Path) -> dict[str, str]:
    """Image -> mask; UsageError for one that fits several."""
    parents = {folder for image in images for path in (image, _inside(image)) for folder in PurePosixPath(path).parents}
    folders = {_loose(str(folder)) for folder in parents}

    def by_name(path: str) -> str:
        # A mask in one of the images' folders belongs to an image of that folder, or to none.
        return "" if _loose(path.rpartition("/")[0]) in folders else _name(path)

    keys: tuple[tuple[Callable[[str], str], Callable[[str], str]], ...] = (
        (str, str),
        (_inside, str),
        (_class_and_name, _class_and_name),
        (_name, by_name),
    )
    taken: dict[str, str] = {}
    spellings: tuple[Callable[[str], str], ...] = (str, _loose)
    for (of_image, of_mask), spelled in product(keys, spellings):
        used = set(taken.values())
        wanted = _by_key({image: spelled(_stem(of_image(image))) for image in images if image not in taken})
        offered = _by_key({mask: _image_stem(spelled(_stem(of_mask(mask))), wanted) for mask in masks if mask not in used})
        for key, found in offered.items():
            fitting = wanted.get(key, [])
            if len(fitting) > 1:
                raise UsageError(
                    f"--mask-dir {mask_dir}: the mask {found[0]} fits {len(fitting)} images ({fitting[0]}, {fitting[1]}); "
                    "expected masks in folders like the images'"
                )
            if fitting and len(found) > 1:
                raise UsageError(f"--mask-dir {mask_dir}: the image {fitting[0]} has {len(found)} masks: {found[0]}, {found[1]}")
            if fitting:
                taken[fitting[0]] = found[0]
    return taken


def _by_key(keys: dict[str, str]) -> dict[str, list[str]]:
    """Path -> key, turned round; paths without a key ("") left out."""
    result: dict[str, list[str]] = {}
    for path, key in keys.items():
        result.setdefault(key, []).append(path)
    result.pop("", None)
    return result


def _stem(path: str) -> str:
    return path and PurePosixPath(path).with_suffix("").as_posix()


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _inside(image: str) -> str:
    """The path below the class folder."""
    return image.partition("/")[2]


def _class_and_name(path: str) -> str:
    return f"{path.partition('/')[0]}/{_name(path)}" if "/" in path else ""


def _image_stem(stem: str, wanted: dict[str, list[str]]) -> str:
    """`stem` without the mask's ending, unless an image is really called so."""
    for ending in _ENDINGS:
        if stem.lower().endswith(ending) and stem not in wanted:
            return stem[: -len(ending)]
    return stem


def _loose(text: str) -> str:
    """One spelling for capitals and for accents written as one character or as two (macOS)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def read_mask(path: Path | str) -> np.ndarray:
    """Decode a mask to upright `(height, width)` bool: True inside.

    The one place where masks are cut. Black (or transparent) is outside; inside is the one other value or colour, whatever it is (1, 2,
    100, 255, red), or what an expert's outline (`.dat`) surrounds. Values between count as
    shares of full (1, 255 or 65535) and are cut at one half, if most lie near the two ends.

    An outline (`walk.is_outline`) is filled.

    Raises:
        UsageError: as `read_image` or `read_outline_mask`; several regions, other values. The message names the file and what it holds.
    """
    if is_outline(path):
        return read_outline_mask(path)
    try:
        with opened(path) as image:
            turned = check_kind(image, path, any_range=True)
            grey = image.mode in ("1", "L", "F") or image.mode.startswith("I")
            if image.mode == "P":
                image = image.convert("RGBA" if "transparency" in image.info else "RGB")
            if image.mode == "LA":
                image = image.convert("RGBA")
            if not grey and image.mode not in ("RGB", "RGBA"):
                image = image.convert("RGB")
            values = np.asarray(image)
            if white_is_zero(image):
                values = 65535 - values
    except UsageError as error:
        raise UsageError(str(error).replace("image", "mask", 1)) from None
    try:
        marked = _grey(values) if values.ndim == 2 else _coloured(values)
    except ValueError as error:
        raise UsageError(f"cannot read mask {path}: it holds {error}; {_EXPECTED}") from None
    return upright(marked, turned)


def _grey(values: np.ndarray) -> np.ndarray:
    if values.dtype == bool:
        return values
    low, high = values.min(), values.max()
    tops = (1,) if values.dtype.kind == "f" else (1, 255, 65535)
    if not np.isfinite(values).all() or low < 0 or high > tops[-1]:
        raise ValueError(f"values from {low} to {high}")
    if low == high:
        if high == 0 or high in tops:
            return np.full(values.shape, bool(high))
        raise ValueError(f"nothing but the value {high}")
    found = np.flatnonzero(np.bincount(values.ravel(), minlength=256)) if values.dtype == np.uint8 else np.unique(values)
    if len(found) == 2 and low == 0:
        return values == high
    top = next(top for top in tops if high <= top)
    shares = values / top
    if high < 0.9 * top or low > 0.1 * top or ((shares > 0.1) & (shares < 0.9)).mean() > 0.5:
        raise ValueError(f"{len(found)} values from {low} to {high}")
    return shares > 0.5


def _coloured(values: np.ndarray) -> np.ndarray:
    """`(h, w, 3 or 4)` uint8."""
    colours = values[..., :3]
    if values.shape[2] == 4 and values[..., 3].min() != values[..., 3].max():
        drawn = _grey(values[..., 3])
        if len(_distinct(colours[drawn])) <= 1:
            return drawn  # one colour on transparent ground
        colours = colours * drawn[..., None]
    if (colours == colours[..., :1]).all():
        return _grey(np.ascontiguousarray(colours[..., 0]))
    found = _distinct(colours)
    if len(found) != 2 or found[0] != 0:
        raise ValueError(f"{len(found)} colours")
    return np.asarray(colours.any(axis=2))


def _distinct(colours: np.ndarray) -> np.ndarray:
    """The different colours as numbers, black first."""
    return np.unique(colours.reshape(-1, 3).astype(np.int64) @ np.array([65536, 256, 1]))


def mask_states(dataset: Dataset, cache_dir: Path | None, columns: Sequence[str] | None = None) -> dict[str, str]:
    """Mask path -> "present", "empty" or one line that says what is wrong with it; every mask is decoded once, the verdicts are kept.

    Wrong are masks that are missing, cannot be understood, or are not of their image's size.
    """
    names = [str(name) for name in dataset.manifest if str(name).startswith("mask_")] if columns is None else list(columns)
    rows = [(image, mask) for name in names for image, mask in zip(dataset.manifest["image"], dataset.manifest[name], strict=True) if mask]
    note = None
    if cache_dir is not None:
        files = [name for row in rows for name in row]
        key = content_key(dataset.data_dir, files, cache_dir, "mask states", missing="")
        note = Path(cache_dir) / "checked" / f"masks-{dataset.name}-{key}.json"
        if (known := noted(note)) is not None:
            return known
    found = [""] * len(rows)

    def work(index: int) -> None:
        image, mask = rows[index]
        found[index] = _state(dataset.data_dir / image, dataset.data_dir / mask)

    for_each(work, len(rows), f"{dataset.name}: checking masks", progress=True)
    states = {mask: state for (_, mask), state in zip(rows, found, strict=True)}
    keep_note(note, states)
    return states


def _state(image: Path, mask: Path) -> str:
    try:
        marked = read_mask(mask)
    except UsageError as error:
        return str(error)
    try:
        header = read_header(image)
    except UsageError:
        return PRESENT if marked.any() else EMPTY  # the image is what is broken: `check_readable` and the audit name it
    if marked.shape != (header.height, header.width):
        return (
            f"{mask}: the mask is {marked.shape[1]}x{marked.shape[0]} pixels, its image {image.name} {header.width}x{header.height}; "
            "expected the same size"
        )
    return PRESENT if marked.any() else EMPTY


def check_masks(dataset: Dataset, cache_dir: Path | None, columns: Sequence[str] | None = None) -> dict[str, str]:
    """As `mask_states`; UsageError with the first that are wrong."""
    states = mask_states(dataset, cache_dir, columns)
    problems = [state for state in states.values() if state not in (PRESENT, EMPTY)]
    if problems:
        raise UsageError("; ".join(problems[:3]) + (f"; and {len(problems) - 3} more masks" if len(problems) > 3 else ""))
    return states


def mask_presence(manifest: pd.DataFrame, states: dict[str, str]) -> pd.DataFrame:
    """One bool column an indicator, `(n,)`: whether the image's mask marks anything."""
    columns = [name for name in manifest if name.startswith("mask_")]
    return pd.DataFrame({name.removeprefix("mask_"): [states.get(mask) == PRESENT for mask in manifest[name]] for name in columns})


def cached_masks(dataset: Dataset, column: str, size: int, cache_dir: Path | str = ".cache", progress: bool = False) -> np.ndarray:
    """The masks of `column` (such as "mask_lesion"), row by row, `(n, size, size)` uint8 in {0, 1}.

    A row without a mask is all zeros. Resized by nearest neighbour.
    """
    if column not in dataset.manifest:
        raise UsageError(f"the data set {dataset.name} has no {column.removeprefix('mask_')} masks; --mask-dir names their folder")
    names = [str(name) for name in dataset.manifest[column]]
    key = content_key(dataset.data_dir, names, cache_dir, "masks", column, size)

    def fill(row: int, out: np.ndarray) -> None:
        if names[row]:
            out[:] = resize(read_mask(dataset.data_dir / names[row]).astype(np.uint8), size, "nearest")

    path = Path(cache_dir) / "masks" / f"{dataset.name}-{column}-{size}-{key}.npy"
    return cached_array(path, (len(names), size, size), fill, f"{dataset.name}: reading {column} at {size} px", progress)
