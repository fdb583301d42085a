"""Lesion images with a diagnosis and a region on disk -> manifest; the thesis's split, its balanced variants, and the feedback masks.

Two roles: the base classifier learns from ISIC 2019 or HAM10000 (or anyone's folders), the simulation takes ISIC 2018's 2594 images with
the dermatologists' masks, or any other set here that has masks.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from common.data import masks
from common.data.dataset import Dataset, class_names
from common.data.dermoscopy import image_id
from common.data.folders import folders_dataset
from common.data.images import Filter
from common.data.masks import cached_masks
from common.data.readable import check_readable
from common.data.sample import ensure_sample
from common.data.splits import grouped_split, limit_per_class
from common.errors import UsageError
from feedback.isic import CLASSES, ham10000, isic2018, isic2019

log = logging.getLogger(__name__)

FRACTIONS = (0.8, 0.1, 0.1)
LOADERS = {"isic2018": isic2018, "isic2019": isic2019, "ham10000": ham10000}


def load(options, role: str, pixels: tuple[int, Filter] | None = None) -> Dataset:
    """The data set of a command's options, checked and limited (`read` says what is in it).

    `pixels`: side and filter of the images that training will ask for; the check leaves them in the cache.

    Raises:
        UsageError: as `read`; images that cannot be decoded; masks of another size or no mask at all (simulation).
    """
    data = read(options, role)
    if options.limit is not None:  # class-balanced
        data = replace(data, manifest=limit_per_class(data.manifest, options.limit).reset_index(drop=True))
    data = check_readable(data, options.skip_unreadable, options.cache_dir, pixels)
    if role == "simulation":
        check_masks(data, options.cache_dir)
    return data


def read(options, role: str) -> Dataset:
    """The data set of a command's options as it lies on disk.

    Args:
        options: settings with dataset, data_dir, labels_csv, group_pattern, skip_unreadable, cache_dir, and mask_dir where masks are read.
        role: "base" (images with a diagnosis) or "simulation" (images with a diagnosis and masks).

    Returns:
        Data set whose manifest has `image`, `label`, `group`, `overlap` ("same", "renamed" or "": whether the ISIC 2019 labels hold the
        same image) and `mask_<name>` columns. Unlabelled images are left out and counted in `left_out`.

    Raises:
        UsageError: missing files, labels outside the classes, masks of unknown images.
    """
    if options.dataset == "folders":
        # A mask is feedback: one that belongs to no image is a mistake, and must not be lost without a word.
        data = folders_dataset(options.data_dir, options.group_pattern, getattr(options, "mask_dir", None), every_mask=True)
        data = replace(data, manifest=data.manifest.assign(overlap=""))
    elif options.dataset == "sample":
        data = _sample(role, getattr(options, "reading", "described"), options.cache_dir)
    else:
        mask_dir = getattr(options, "mask_dir", None)
        data = LOADERS[options.dataset](options.data_dir, options.labels_csv, mask_dir, skip_missing=options.skip_unreadable)
    return data


def _sample(role: str, reading: str, cache_dir: Path) -> Dataset:
    """The drawn data: as in the thesis ISIC 2019 for the base (HAM10000 when `corrected`), and ISIC 2018 for the simulation."""
    simulation = ensure_sample("isic2018", cache_dir)
    if role == "simulation":
        found = isic2018(simulation)
    elif reading == "corrected":
        # The ground truth drawn with ISIC 2018 tells this sample's AK and SCC apart, as the real file does.
        found = ham10000(ensure_sample("ham10000", cache_dir), simulation / "ISIC_2019_Training_GroundTruth.csv")
    else:
        found = isic2019(ensure_sample("isic2019", cache_dir))
    return replace(found, name=f"sample-{found.name}", synthetic=True, official_counts=None)


def classes_of(data: Dataset) -> tuple[str, ...]:
    """The class order of a model's outputs: the eight of ISIC 2019 in the thesis's order, or a folder data set's own, sorted."""
    names = class_names(data.manifest)
    return CLASSES if set(names) <= set(CLASSES) else names


def paper_split(manifest: pd.DataFrame, seed: int) -> pd.DataFrame:
    """80/10/10 in each class, drawn from `seed` (sections 3.2.1, 5.3): column `split`, rows in the order given.

    Validation and test are floor(n / 10) of a class each and training is the rest: ISIC 2019's class counts then give exactly the printed
    20,273 / 2529 / 2529. Where the manifest has a column `overlap`, rows marked "same" (the image is in ISIC 2019 under the same id)
    stay in training, as section 5.2 says. Rows without a label get no split ("").

    Raises:
        UsageError: a class with fewer than three images.
    """
    split = pd.Series("", index=range(len(manifest)), dtype=object)
    rows = pd.DataFrame({"image": manifest["image"].to_numpy(), "label": manifest["label"].to_numpy()})
    rows["fixed"] = manifest["overlap"].eq("same").to_numpy() if "overlap" in manifest else False
    generator = np.random.default_rng(seed)
    for label in class_names(manifest):
        members = rows[rows["label"] == label].sort_values("image")
        if len(members) < 3:
            raise UsageError(f"the class {label} has {len(members)} image(s); a split into three parts needs at least 3")
        free = members.index[~members["fixed"]].to_numpy()
        held = min(max(1, len(members) // 10), len(free) // 2)
        drawn = generator.permutation(free.copy())  # an empty index is read-only
        split[members.index] = "train"
        split[drawn[:held]] = "test"
        split[drawn[held : 2 * held]] = "validation"
    return manifest.assign(split=split.to_numpy())


def split_rows(manifest: pd.DataFrame, kind: str, seed: int, keep_overlap_in_training: bool) -> pd.DataFrame:
    """The split of a setting: "paper" (with or without the thesis's rule for overlaps) or "grouped" (no lesion on two sides)."""
    if kind == "grouped":
        return grouped_split(manifest, FRACTIONS, seed)
    if keep_overlap_in_training or "overlap" not in manifest:
        return paper_split(manifest, seed)
    return paper_split(manifest.drop(columns="overlap"), seed).assign(overlap=manifest["overlap"].to_numpy())[[*manifest.columns, "split"]]


def balanced(manifest: pd.DataFrame, balance: str, seed: int) -> pd.DataFrame:
    """The training set made even; validation and test rows keep their images (sections 5.6 to 5.8).

    - "none", "batches": as it is (the latter balances each batch while training).
    - "reduced": the two largest classes only, the larger cut to the smaller's size (437 MEL and 437 NV in the thesis); the other classes
      leave validation and test too, as Table 5.2 tests MEL and NV only.
    - "upsampled": smaller classes copied at random up to the largest. Only training rows are copied: copies made before the split,
      as the thesis may have done, would reach the test set.

    Returns:
        Rows with `split`; copies repeat a row and have a number above 0 in the column `copy`.
    """
    manifest = manifest.reset_index(drop=True).assign(copy=0)
    if balance in ("none", "batches"):
        return manifest
    generator = np.random.default_rng((seed, 1))
    train = manifest[manifest["split"] == "train"].sort_values("image")
    sizes = train["label"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    if balance == "reduced":
        kept = list(sizes.index[:2])
        size = int(sizes.iloc[:2].min())
        keep = [row for name in kept for row in generator.permutation(train.index[train["label"] == name].to_numpy())[:size]]
        held = manifest.index[(manifest["split"] != "train") & manifest["label"].isin(kept)]
        return manifest.loc[sorted([*keep, *held])].reset_index(drop=True)
    if balance != "upsampled":
        raise ValueError(f"balance {balance!r}: expected none, reduced or upsampled")
    parts = [manifest]
    for name, size in sizes.items():
        rows = train.index[train["label"] == name].to_numpy()
        drawn = generator.choice(rows, int(sizes.max()) - size, replace=True)
        extra = manifest.loc[drawn]
        parts.append(extra.assign(copy=extra.groupby("image").cumcount() + 1))
    return pd.concat(parts, ignore_index=True)


def mask_columns(manifest: pd.DataFrame) -> list[str]:
    """The attribute masks where there are any, otherwise the lesion mask; empty when the manifest has no masks."""
    columns = [name for name in manifest.columns if name.startswith("mask_")]
    return [name for name in columns if name != "mask_lesion"] or columns


def check_masks(data: Dataset, cache_dir: Path | None = None) -> None:
    """Every mask must be readable and of its image's size, and at least one must exist. UsageError names the first wrong files."""
    columns = mask_columns(data.manifest)
    if not columns or not any(data.manifest[name].ne("").any() for name in columns):
        raise UsageError(
            f"{data.data_dir}: no masks found; the simulation needs attribute or lesion masks (official layout, or --mask-dir)"
        )
    masks.check_masks(data, cache_dir, columns)


def feedback_masks(data: Dataset, size: int, cache_dir: Path, form: str = "union") -> np.ndarray:
    """What the simulated user marks, `(n, size, size)` uint8 0..255 aligned with the manifest; an image without a mask is all zeros.

    Args:
        form: "union" of the attribute masks, 0 or 255 (section 4.3, figure 5.2); "graded": the share of the image's attributes that mark a
            pixel where there are attribute masks, otherwise the distance to the lesion's edge, divided by its largest value.

    Raises:
        UsageError: all masks are empty.
    """
    layers = [cached_masks(data, column, size, cache_dir) for column in mask_columns(data.manifest)]
    counts = np.zeros((len(data.manifest), size, size), np.uint8)
    for layer in layers:
        counts += layer
    if not counts.any():
        raise UsageError(f"{data.data_dir}: all masks are empty; there is no region to learn from")
    if form == "union":
        return (counts > 0).astype(np.uint8) * 255
    if len(layers) == 1:
        from scipy.ndimage import distance_transform_edt

        depths = (distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1] for mask in counts)
        return np.stack([_scaled(depth) for depth in depths])
    return np.stack([_scaled(count) for count in counts])


def _scaled(values: np.ndarray) -> np.ndarray:
    peak = values.max()
    return np.round(255 * (values / peak)).astype(np.uint8) if peak else np.zeros(values.shape, np.uint8)


def overlap_counts(manifest: pd.DataFrame) -> dict[str, dict[str, int | None]]:
    """Per split: `images`, and how many of them ISIC 2019 holds under the same id (`same_id`) or a changed one (`renamed`).

    None for both where nothing was compared (the column `overlap` is empty: every set but ISIC 2018): not known is not zero.
    """
    known = "overlap" in manifest and bool(manifest["overlap"].ne("").any())
    counts: dict[str, dict[str, int | None]] = {}
    for split, rows in _split_parts(manifest):
        kinds = {key: int((rows["overlap"] == value).sum()) if known else None for key, value in _OVERLAPS.items()}
        counts[split] = {"images": len(rows), **kinds}
    return counts


_OVERLAPS = {"same_id": "same", "renamed": "renamed"}


def seen_by_base(manifest: pd.DataFrame, base: Path) -> dict[str, int] | None:
    """Per split of a simulation: images whose id is among the training images of the base's run folder, ISIC 2019's ending `_downsampled`
    taken off both. None when that folder holds no manifest.csv (a published run)."""
    if not (base / "manifest.csv").is_file():
        return None
    table = pd.read_csv(base / "manifest.csv", keep_default_na=False, dtype=str, encoding_errors="surrogateescape")
    known = {image_id(name) for name in table.loc[table["split"] == "train", "image"]}
    return {split: sum(image_id(name) in known for name in rows["image"]) for split, rows in _split_parts(manifest)}


def _split_parts(manifest: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Train, validation and test rows; copies of up-sampled images left out."""
    for split in ("train", "validation", "test"):
        yield split, manifest[(manifest["split"] == split) & (manifest["copy"] == 0 if "copy" in manifest else True)]


def class_counts(labels: Sequence[str], classes: Sequence[str]) -> dict[str, int]:
    """Images of each class, classes without any included."""
    found = pd.Series(list(labels), dtype=object).value_counts()
    return {name: int(found.get(name, 0)) for name in classes}
