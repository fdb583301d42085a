"""Image files to arrays: decoding, resizing, and the uint8 cache."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from PIL import Image

from common.data.cache import cached_array, digest
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
    """Whether the name is an image's: known suffix, not hidden (macOS leaves `._x.jpg` files in archives)."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def read_image(path: Path | str) -> np.ndarray:
    """Decode a file to RGB, `(height, width, 3)` uint8, 0..255.

    Grey is repeated, transparency dropped, CMYK converted, 16-bit grey reduced to its high byte (Pillow does the same
    to 16-bit colour); the EXIF rotation is ignored, as Keras and the authors' loaders do. UsageError when the file is
    missing, truncated or not an image.
    """
    plain = _plain_jpeg(path)
    if plain is not None:
        return plain
    image = _decode(path)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        return np.repeat((np.clip(values, 0, 65535) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_mask(path: Path | str) -> np.ndarray:
    """Decode a mask to `(height, width)` bool: inside is what lies above half of the range 0..1, 0..255 or 0..65535."""
    image = _decode(path)
    values = np.asarray(image if image.mode.startswith("I") else image.convert("L")).astype(np.int64)
    highest = int(values.max())
    top = next(top for top in (1, 255, 65535, highest) if highest <= top)
    return values * 2 > top


def _plain_jpeg(path: Path | str) -> np.ndarray | None:
    """The pixels of a complete grey or three-channel 8-bit JPEG, or None, which leaves the file to Pillow.

    OpenCV gives Pillow's pixels in half the time (same library underneath), but takes a truncated file for a whole one
    and knows no CMYK.
    """
    try:
        with open(path, "rb", buffering=0) as handle:
            data = handle.read()
    except OSError:
        return None
    if data[:2] != b"\xff\xd8" or data[-2:] != b"\xff\xd9":
        return None
    # Walk the segments to the frame header (SOF0 to SOF2): marker, length (2 bytes), precision (1), height and width
    # (4), number of components (1).
    place = 2
    while place + 9 < len(data) and data[place] == 0xFF and 0xC2 < data[place + 1] < 0xFF:
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    header = data[place : place + 10]
    if len(header) < 10 or header[0] != 0xFF or not 0xC0 <= header[1] <= 0xC2 or header[4] != 8 or header[9] not in (1, 3):
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None


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
    """Resize `(h, w)` or `(h, w, 3)` uint8, or `(h, w)` float32, to `size` (one number, or height and width).

    The pixels are Pillow's; the aspect is not kept. "nearest" gives the pixels of `keras.utils.load_img`'s default, which the
    cervical authors used.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if filter not in _FILTERS:
        raise UsageError(f"resize filter {filter!r}: expected one of {', '.join(_FILTERS)}")
    if image.shape[:2] == (height, width):
        return image
    if filter == "nearest":  # the same pixels as Pillow's, several times faster
        return cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(Image.fromarray(image).resize((width, height), _FILTERS[filter]))


def content_key(data_dir: Path, names: Sequence[str], *settings: object) -> str:
    """A key that changes with the names, their order, each file's size and time of change, and the settings.

    Not with labels or splits: those may change without decoding anything again.
    """
    parts: list[object] = list(settings)
    for name in names:
        if not name:
            parts.append("")
            continue
        try:
            status = os.stat(f"{data_dir}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            raise UsageError(f"image not found: {data_dir / name}") from None
        parts.append(f"{name}:{status.st_size}:{status.st_mtime_ns}")
    return digest(parts)


def cached_images(
    dataset: "Dataset", size: int, filter: Filter = "bilinear", cache_dir: Path | str = ".cache", progress: bool = False
) -> np.ndarray:
    """All images of the manifest, row by row, `(n, size, size, 3)` uint8 RGB, read-only and memory-mapped.

    The first call decodes and resizes (all cores), later ones open the file. Any change to the list of images, to a
    file, the size or the filter makes another cache file. Index whole batches (`images[rows]`), or give `Batches` the
    array and its row numbers.
    """
    return _pixels(dataset, size, filter, cache_dir, progress, {})


def cache_pixels(dataset: "Dataset", size: int, filter: Filter, cache_dir: Path | str, progress: bool = False) -> dict[str, str]:
    """Fill the cache that `cached_images` opens; name -> reason for images that cannot be read, sorted by name.

    Nothing is kept when there is one: without it the list of images, and so the cache, is another.
    """
    bad: dict[str, str] = {}
    try:
        _pixels(dataset, size, filter, cache_dir, progress, bad)
    except UsageError:
        if not bad:  # a full disk, a folder that cannot be made
            raise
    return dict(sorted(bad.items()))


def _pixels(dataset: "Dataset", size: int, filter: Filter, cache_dir: Path | str, progress: bool, bad: dict[str, str]) -> np.ndarray:
    names = [str(name) for name in dataset.manifest["image"]]
    key = content_key(dataset.data_dir, names, "images", size, filter)

    def fill(row: int, out: np.ndarray) -> None:
        try:
            out[:] = resize(read_image(f"{dataset.data_dir}/{names[row]}"), size, filter)
        except UsageError as error:
            bad[names[row]] = str(error)
            raise

    path = Path(cache_dir) / "images" / f"{dataset.name}-{size}-{filter}-{key}.npy"
    return cached_array(path, (len(names), size, size, 3), fill, f"{dataset.name}: reading images at {size} px", progress)


def cached_masks(dataset: "Dataset", column: str, size: int, cache_dir: Path | str = ".cache", progress: bool = False) -> np.ndarray:
    """The masks of `column` (such as "mask_lesion"), row by row, `(n, size, size)` uint8 in {0, 1}.

    A row without a mask is all zeros. Resized by nearest neighbour.
    """
    if column not in dataset.manifest:
        raise UsageError(f"the data set {dataset.name} has no {column.removeprefix('mask_')} masks; --mask-dir names their folder")
    names = [str(name) for name in dataset.manifest[column]]
    key = content_key(dataset.data_dir, names, "masks", column, size)

    def fill(row: int, out: np.ndarray) -> None:
        if names[row]:
            out[:] = resize(read_mask(dataset.data_dir / names[row]).astype(np.uint8), size, "nearest")

    path = Path(cache_dir) / "masks" / f"{dataset.name}-{column}-{size}-{key}.npy"
    return cached_array(path, (len(names), size, size), fill, f"{dataset.name}: reading {column} at {size} px", progress)
