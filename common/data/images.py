"""Image files to arrays: decoding, resizing, and the uint8 cache."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from common.data.cache import cached_array, digest, for_each
from common.errors import UsageError

if TYPE_CHECKING:
    from common.data.manifest import Dataset

IMAGE_SUFFIXES = (".bmp", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
Filter = Literal["nearest", "bilinear", "bicubic", "lanczos"]
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def is_image(path: Path) -> bool:
    """Whether the name looks like an image of ours: known suffix, not hidden (macOS leaves `._x.jpg` files in
    archives).
    """
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def read_image(path: Path | str) -> np.ndarray:
    """Decode a file to RGB, `(height, width, 3)` uint8, 0..255.

    Grey is repeated, transparency dropped, CMYK converted, 16-bit grey reduced to its high byte (Pillow does the same
    to 16-bit colour); the EXIF rotation is ignored, as Keras and the authors' loaders do. UsageError when the file is
    missing, truncated or not an image.
    """
    image = _decode(path)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        return np.repeat((np.clip(values, 0, 65535) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_mask(path: Path | str) -> np.ndarray:
    """Decode a mask to `(height, width)` bool: what lies above half of the range is inside, where the range is 0..1,
    0..255 or 0..65535.
    """
    image = _decode(path)
    values = np.asarray(image if image.mode.startswith("I") else image.convert("L")).astype(np.int64)
    highest = int(values.max())
    top = next(top for top in (1, 255, 65535, highest) if highest <= top)
    return values * 2 > top


def _decode(path: Path | str) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode == "F":
                raise UsageError(f"cannot read image {path}: floating-point pixels have no agreed range; save it with 8 bits")
            return image
    except FileNotFoundError:
        raise UsageError(f"image not found: {path}") from None
    except Image.UnidentifiedImageError:
        raise UsageError(f"cannot read image {path}: not an image file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"cannot read image {path}: {error}") from None


def resize(image: np.ndarray, size: int | tuple[int, int], filter: Filter = "bilinear") -> np.ndarray:
    """Resize `(h, w)` or `(h, w, 3)` uint8, or `(h, w)` float32, to `size` (one number, or height and width) with
    Pillow; the aspect is not kept.

    "nearest" gives the pixels of `keras.utils.load_img`'s default, which the cervical authors used.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if filter not in _FILTERS:
        raise UsageError(f"resize filter {filter!r}: expected one of {', '.join(_FILTERS)}")
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), _FILTERS[filter]))


def content_key(data_dir: Path, names: Sequence[str], *settings: object) -> str:
    """A key that changes with the names, their order, each file's size and time of change, and the settings, but not
    with labels or splits.
    """
    parts: list[object] = list(settings)
    for name in names:
        if not name:
            parts.append("")
            continue
        try:
            status = (data_dir / name).stat()
        except FileNotFoundError:
            raise UsageError(f"image not found: {data_dir / name}") from None
        parts.append(f"{name}:{status.st_size}:{status.st_mtime_ns}")
    return digest(parts)


def fill_rows(
    dataset: "Dataset", names: list[str], write: Callable[[np.ndarray, int], None], title: str, progress: bool
) -> Callable[[np.ndarray], None]:
    """A `fill(array)` that runs `write(array, row)` for every name and reports all unreadable files in one UsageError."""

    def fill(array: np.ndarray) -> None:
        errors: list[str] = []

        def work(row: int) -> None:
            try:
                write(array, row)
            except UsageError as error:
                errors.append(str(error))

        for_each(work, len(names), f"{dataset.name}: {title}", progress)
        if errors:
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            raise UsageError(f"{sorted(errors)[0]}{more}; --skip-unreadable goes on without unreadable images")

    return fill


def cached_images(
    dataset: "Dataset", size: int, filter: Filter = "bilinear", cache_dir: Path | str = ".cache", progress: bool = False
) -> np.ndarray:
    """All images of the manifest, row by row, `(n, size, size, 3)` uint8 RGB, read-only and memory-mapped.

    The first call decodes and resizes (all cores), later ones open the file. Any change to the list of images, to a
    file, the size or the filter makes another cache file. Index whole batches (`images[rows]`), or give `Batches` the
    array and its row numbers.
    """
    names = [str(name) for name in dataset.manifest["image"]]
    key = content_key(dataset.data_dir, names, "images", size, filter)

    def write(array: np.ndarray, row: int) -> None:
        array[row] = resize(read_image(dataset.data_dir / names[row]), size, filter)

    path = Path(cache_dir) / "images" / f"{dataset.name}-{size}-{filter}-{key}.npy"
    return cached_array(path, (len(names), size, size, 3), fill_rows(dataset, names, write, f"reading images at {size} px", progress))


def cached_masks(dataset: "Dataset", column: str, size: int, cache_dir: Path | str = ".cache", progress: bool = False) -> np.ndarray:
    """The masks of `column` (such as "mask_lesion"), row by row, `(n, size, size)` uint8 in {0, 1}; no mask gives
    zeros. Nearest neighbour.
    """
    if column not in dataset.manifest:
        raise UsageError(f"the data set {dataset.name} has no {column.removeprefix('mask_')} masks; --mask-dir names their folder")
    names = [str(name) for name in dataset.manifest[column]]
    key = content_key(dataset.data_dir, names, "masks", column, size)

    def write(array: np.ndarray, row: int) -> None:
        # Blocks reserved on disk read as zeros, so a missing mask needs no writing.
        if names[row]:
            array[row] = resize(read_mask(dataset.data_dir / names[row]).astype(np.uint8), size, "nearest")

    path = Path(cache_dir) / "masks" / f"{dataset.name}-{column}-{size}-{key}.npy"
    return cached_array(path, (len(names), size, size), fill_rows(dataset, names, write, f"reading {column} at {size} px", progress))
