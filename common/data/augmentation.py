"""Augmented copies, made once and at original resolution; each a pure function of (seed, image name, copy number)."""

import hashlib
import os
import random
import threading
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from common.data.augmentation_coded import GROUPS, coded_copy
from common.data.cache import cached_array, digest
from common.data.dataset import Dataset
from common.data.fingerprint import content_key
from common.data.images import Filter, read_image, resize
from common.errors import UsageError

Kind = Literal["described", "coded"]
MAX_COPIES = len(GROUPS)
_REVISION = 2  # of the operations below and of the notebook's groups: another number makes new copies instead of reusing old ones
_local = threading.local()


def generator(seed: int, name: str, copy: int) -> np.random.Generator:
    """The random generator of one copy: the name enters by SHA-256, so which other images there are does not matter."""
    words = np.frombuffer(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:16], dtype=np.uint32)
    return np.random.default_rng([seed, copy, *words.tolist()])


def _described_operations() -> tuple[list[Any], list[Any]]:
    """The cervical paper's list (its data section; thesis chapter 4): operations of geometry, and of pixel values.

    The text gives no ranges: they are those of the notebook (including operations it defines and never uses), and what
    comes in from outside is black. One set a thread, since each operation keeps its random state.
    """
    if not hasattr(_local, "operations"):
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no question to a server about newer versions
        import albumentations as A

        still = {"rotate": 0, "translate_percent": 0, "scale": 1, "shear": 0, "p": 1}
        geometry = [
            A.Affine(**{**still, "rotate": (-90, 90)}),
            A.Affine(**{**still, "translate_percent": (-0.15, 0.15)}),
            A.Affine(**{**still, "scale": (0.5, 0.9)}),  # scaling, each axis on its own
            A.Affine(**{**still, "shear": (-2, 2)}),
            A.Affine(**{**still, "scale": (1.0, 1.25)}, keep_ratio=True),  # zoom in
            A.HorizontalFlip(p=1),
            A.VerticalFlip(p=1),
            A.CropAndPad(percent=(0.05, 0.25), keep_size=True, p=1),  # padding
        ]
        pixels = [
            A.GaussNoise(std_range=(0.0, 0.111), p=1),
            A.RandomBrightnessContrast(brightness_limit=0, contrast_limit=(-0.25, 0.5), p=1),
            A.MultiplicativeNoise(multiplier=(0.35, 1.65), per_channel=False, elementwise=False, p=1),  # brightness
            A.HueSaturationValue(hue_shift_limit=35, sat_shift_limit=50, val_shift_limit=0, p=1),
            A.RandomGamma(gamma_limit=(50, 200), p=1),
        ]
        _local.operations = geometry, pixels
    return _local.operations


def described_copy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One copy by the paper's list: two different geometric operations in random order, then one on pixel values.

    `image` and result `(h, w, 3)` uint8 RGB. The paper does not say how many operations a copy gets; two is what the
    notebook's geometric group takes.
    """
    geometry, pixels = _described_operations()
    chosen = [geometry[i] for i in rng.choice(len(geometry), size=2, replace=False)] + [pixels[int(rng.integers(len(pixels)))]]
    for operation in chosen:
        # One stream for all: albumentations' own seeding would start every operation with the same draws.
        operation.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        image = operation(image=image)["image"]
    return image


def augmented_copy(image: np.ndarray, name: str, copy: int, kind: Kind, seed: int) -> np.ndarray:
    """Copy number 1..6 of the image called `name`, `(h, w, 3)` uint8 in and out.

    "described": by the paper's list; "coded": copy k by the notebook's group k - 1.
    """
    if not 1 <= copy <= MAX_COPIES:
        raise ValueError(f"copy {copy}: expected 1 to {MAX_COPIES}")
    rng = generator(seed, name, copy)
    if kind == "coded":
        return coded_copy(image, copy - 1, rng)
    if kind == "described":
        return described_copy(image, rng)
    raise ValueError(f"kind {kind!r}: expected described or coded")


def augmented_images(
    dataset: Dataset,
    copies: int,
    kind: Kind,
    seed: int,
    size: int,
    filter: Filter = "bilinear",
    cache_dir: Path | str = ".cache",
    progress: bool = False,
) -> np.ndarray:
    """Every image of the manifest and its copies, `(n, 1 + copies, size, size, 3)` uint8, read-only and memory-mapped.

    `[:, 0]` is the image itself. Give it the training rows only (`replace(dataset, manifest=…)`). `result.reshape(-1, size, size, 3)` with
    `np.repeat(labels, 1 + copies)` is the training set and costs no memory: 2589 images and 6 copies are the paper's
    18,123.
    """
    if not 0 <= copies <= MAX_COPIES:
        raise UsageError(f"--copies {copies}: expected 0 to {MAX_COPIES}")
    names = [str(name) for name in dataset.manifest["image"]]
    versions = _REVISION, metadata.version("albumentations"), cv2.__version__
    key = digest([content_key(dataset.data_dir, names, cache_dir, "copies", size, filter), kind, seed, copies, *versions])

    def fill(row: int, out: np.ndarray) -> None:
        image = read_image(dataset.data_dir / names[row])
        out[0] = resize(image, size, filter)
        for copy in range(1, copies + 1):
            out[copy] = resize(augmented_copy(image, names[row], copy, kind, seed), size, filter)

    path = Path(cache_dir) / "copies" / f"{dataset.name}-{kind}{copies}-seed{seed}-{size}-{filter}-{key}.npy"
    title = f"{dataset.name}: making {copies} {kind} copies of each image at {size} px"
    return cached_array(path, (len(names), 1 + copies, size, size, 3), fill, title, progress)
