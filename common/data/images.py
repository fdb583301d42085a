"""Images at the size a network takes: resizing, and the uint8 cache."""

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from common.data.cache import cached_array
from common.data.dataset import Dataset
from common.data.fingerprint import content_key
from common.data.pixels import read_image as read_image
from common.errors import UsageError

Filter = Literal["nearest", "bilinear", "bicubic", "lanczos"]
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# Of 1,200 images each of SIPaKMeD, HAM10000, ISIC 2018 and ODIR-5K none deviates by less than 4.7 grey levels; of crops that miss their
# cells, background mostly, 9 % deviate by less than 4.
FLAT = 4.0


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


def is_flat(image: np.ndarray) -> bool:
    """Whether an image (h, w, 3) uint8 is nearly of one colour: its grey levels, averaged to 32 x 32 pixels, deviate by less than `FLAT`.

    The average takes out a camera's noise, which is all that an empty background has.
    """
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return float(cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).std()) < FLAT


def cached_images(
    dataset: Dataset, size: int, filter: Filter = "bilinear", cache_dir: Path | str = ".cache", progress: bool = False
) -> np.ndarray:
    """All images of the manifest, row by row, `(n, size, size, 3)` uint8 RGB, read-only and memory-mapped.

    The first call decodes and resizes (all cores), later ones open the file. Any change to the list of images, to a
    file, the size or the filter makes another cache file. Index whole batches (`images[rows]`), or give `Batches` the
    array and its row numbers.
    """
    return _pixels(dataset, size, filter, cache_dir, progress, {})


def cache_pixels(dataset: Dataset, size: int, filter: Filter, cache_dir: Path | str, progress: bool = False) -> dict[str, str]:
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


def _pixels(dataset: Dataset, size: int, filter: Filter, cache_dir: Path | str, progress: bool, bad: dict[str, str]) -> np.ndarray:
    names = [str(name) for name in dataset.manifest["image"]]
    key = content_key(dataset.data_dir, names, cache_dir, "images", size, filter)

    def fill(row: int, out: np.ndarray) -> None:
        try:
            out[:] = resize(read_image(f"{dataset.data_dir}/{names[row]}"), size, filter)
        except UsageError as error:
            bad[names[row]] = str(error)
            raise

    path = Path(cache_dir) / "images" / f"{dataset.name}-{size}-{filter}-{key}.npy"
    return cached_array(path, (len(names), size, size, 3), fill, f"{dataset.name}: reading images at {size} px", progress)
