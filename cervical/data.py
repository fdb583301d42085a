"""SIPaKMeD (or anyone's folders, or the drawn sample) from disk to the arrays that training reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import pandas as pd

from cervical.experiments.base import BETHESDA, CLASSES, CellSource, CellTraining
from common.data.dataset import Dataset, class_names
from common.data.images import Filter, cached_images
from common.data.pipeline import Augment
from common.data.readable import check_readable
from common.data.splits import by_field, grouped_split, limit_per_class
from common.data.walk import OUTLINES, walk
from common.errors import UsageError

# facts 1.1: counts printed by the notebook, equal to the official ones. (Paper and thesis print 813 and 727 for the last two: typos.)
OFFICIAL_COUNTS = dict(zip(CLASSES, (813, 825, 793, 787, 831), strict=True))
# Cells that SIPaKMeD shows twice, one pair for each two of its cluster images that overlap: found by their perceptual hashes (at most 60 of
# 256 bits differ, see `common.data.near_copies`), each looked at. Three pairs have two classes.
SAME_CELLS = Path(__file__).parent / "sipakmed_same_cells.csv"
# The shares of 80/20, then 80/20 again (thesis 4.2), for the grouped split.
FRACTIONS = (0.64, 0.16, 0.20)
# The authors' random views (facts 1.6): flip, rotation by 0.02 of a turn, width and height within a fifth.
ROTATION, SCALING = 0.02 * 360, 0.2


def sipakmed_dataset(data_dir: Path | str) -> Dataset:
    """SIPaKMeD as distributed: `im_<Class>/im_<Class>/CROPPED/<cluster image>_<cell>.bmp`; also flat `im_<Class>/` or `<Class>/`; jpg, png.

    Where a class has a CROPPED folder only its images are cells; cluster images and their .dat outlines are counted as left out. Outlines
    beside cells (`<cell>_cyt.dat`, `<cell>_nuc.dat`) are their masks, `mask_cytoplasm` and `mask_nucleus`.
    The group is `<Class>/<cluster image>`; slide and patient are not in the names.

    Raises:
        UsageError: a class's folder is missing or holds no image.
    """
    root, rows, left_out = Path(data_dir), [], Counter()
    for label in CLASSES:
        folder = next((root / name for name in (f"im_{label}", label) if (root / name).is_dir()), None)
        if folder is None:
            raise UsageError(f"--data-dir {root}: expected SIPaKMeD's folder im_{label} (or {label}) in it")
        found = walk(folder)
        # Re-packed on another system the folder is `cropped`: overlooked, whole cluster images would count as cells.
        cropped = [name for name in found.images if "cropped" in name.lower().split("/")[:-1]]
        cells = cropped if cropped or any(folder.rglob("[Cc][Rr][Oo][Pp][Pp][Ee][Dd]")) else list(found.images)
        if not cells:
            raise UsageError(f"--data-dir {root}: no image of a cell in {folder.name}")
        left_out.update(found.reasons())
        left_out["cluster images"] += len(found.images) - len(cells)
        for name in cells:
            slide = PurePosixPath(name).stem.rsplit("_", 1)[0]
            outlines = {f"mask_{part}": str(PurePosixPath(name).with_suffix("")) + ending for part, ending in OUTLINES.items()}
            masks = {part: f"{folder.name}/{mask}" if (folder / mask).is_file() else "" for part, mask in outlines.items()}
            left_out[".dat files"] -= sum(map(bool, masks.values()))
            rows.append({"image": f"{folder.name}/{name}", "label": label, "group": f"{label}/{slide}", **masks})
    manifest = pd.DataFrame(rows)
    empty = [name for name in manifest if name.startswith("mask_") and (manifest[name] == "").all()]
    return Dataset("sipakmed", root, manifest.drop(columns=empty), official_counts=OFFICIAL_COUNTS, left_out=dict(+left_out))


def cric_dataset(data_dir: Path | str) -> Dataset:
    """CRIC Cervix's cells (Rezende et al. 2021), `<Bethesda class>/<image>_<cell>.jpg`: one class per folder, the group the image.

    An image is one field of a slide and holds cells of several classes: groups span classes.

    Raises:
        UsageError: a folder's name is no Bethesda class, there are fewer than two, or one holds no image.
    """
    from common.data.folders import folders_dataset  # here: SIPaKMeD needs none of it

    found = folders_dataset(data_dir)
    others = sorted(set(found.manifest["label"]) - set(BETHESDA))
    if others:
        raise UsageError(f"--data-dir {data_dir}: the folder {others[0]} is no Bethesda class; expected {', '.join(BETHESDA)}")
    groups = [Path(name).stem.rsplit("_", 1)[0] for name in found.manifest["image"]]
    return replace(found, name="cric", manifest=found.manifest.assign(group=groups))


# Known sets as distributed, (data_dir, labels_csv) -> Dataset, for `validate --dataset`; their folders are their labels.
LOADERS = {"sipakmed": lambda data_dir, _: sipakmed_dataset(data_dir), "cric": lambda data_dir, _: cric_dataset(data_dir)}


def with_fields(dataset: Dataset) -> Dataset:
    """SIPaKMeD with the column `field`: its groups, those joined that show the same cell (966 cluster images become 854 fields).

    `group` stays the cluster image, which the documents and the leakage speak of; the grouped split and the intervals keep fields whole.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = pd.read_csv(SAME_CELLS)[["cell", "same_cell"]].map(lambda cell: cell.rsplit("_", 1)[0])
    names = np.unique(dataset.manifest["group"].to_numpy().astype(str))
    place = {name: number for number, name in enumerate(names)}
    known = pairs[pairs.isin(names).all(axis=1)].map(place.__getitem__).to_numpy(int).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(known)), known.T), shape=(len(names), len(names)))
    part = connected_components(graph, directed=False)[1]
    field = {name: names[np.argmax(part == part[number])] for name, number in place.items()}
    return replace(dataset, manifest=dataset.manifest.assign(field=dataset.manifest["group"].map(field)))


def find(source: CellSource) -> Dataset:
    """The data set that the settings name, as it lies on disk. UsageError for a missing folder, an empty class and the like."""
    if source.dataset == "folders":
        from common.data.folders import folders_dataset

        return folders_dataset(source.data_dir or "", source.group_pattern, source.mask_dir)
    if source.dataset == "cric":
        return cric_dataset(source.data_dir or "")
    if source.dataset == "sample":
        from common.data.sample import ensure_sample  # here: real cells need none

        drawn = sipakmed_dataset(ensure_sample("sipakmed", source.cache_dir))
        return replace(drawn, name="sample", synthetic=True, official_counts=None)
    return with_fields(sipakmed_dataset(source.data_dir or ""))


def load(source: CellSource, limit: int | None = None, pixels: tuple[int, Filter] | None = None) -> Dataset:
    """The data set with every image readable (or dropped, with --skip-unreadable) and, with `limit`, thinned out.

    With `pixels` (side, filter) the check leaves the pixels of all images in the cache that `prepare` opens.
    """
    dataset = check_readable(find(source), source.skip_unreadable, source.cache_dir, pixels if limit is None else None)
    if limit is not None:
        dataset = replace(dataset, manifest=limit_per_class(dataset.manifest, limit).reset_index(drop=True))
    return dataset


def load_for_training(settings: CellTraining) -> Dataset:
    """`load` for a training, whose pixels are decoded on the way."""
    return load(settings, settings.limit, (settings.image_size, settings.resize_filter))


def paper_split(manifest: pd.DataFrame, seed: int = 42) -> pd.DataFrame:
    """The printed split: in each class 20 % test, then 20 % of the rest validation (thesis 4.2; the paper words it wrongly).

    scikit-learn's train_test_split on the class's sorted names with random_state `seed`, as the notebook has it but for the sorting
    (42 there). 4049 cells become 2589, 648 and 812. Returns the rows in the order given with the column `split`.

    Raises:
        UsageError: a class of fewer than three images.
    """
    from sklearn.model_selection import train_test_split

    split = pd.Series("train", index=range(len(manifest)), dtype=object)
    place = {image: position for position, image in enumerate(manifest["image"])}
    for label, part in manifest.groupby("label"):
        names = sorted(part["image"])
        if len(names) < 3:
            raise UsageError(f"the class {label} has only {len(names)} image(s); the split needs at least 3 of every class")
        rest, test = train_test_split(names, test_size=0.2, random_state=seed)
        _, validation = train_test_split(rest, test_size=0.2, random_state=seed)
        split[[place[name] for name in test]] = "test"
        split[[place[name] for name in validation]] = "validation"
    return manifest.assign(split=split.to_numpy().astype(str))


def split_manifest(manifest: pd.DataFrame, how: str, seed: int) -> pd.DataFrame:
    """The split "paper" or "grouped" (whole groups on one side, and whole fields where the manifest has them)."""
    if how != "grouped":
        return paper_split(manifest, seed)
    return manifest.assign(split=grouped_split(by_field(manifest), FRACTIONS, seed)["split"])


@dataclass(frozen=True)
class Part:
    """Images `(n, size, size, 3)` uint8 with rows to use, and integer labels aligned with the images."""

    images: np.ndarray
    labels: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class Cells:
    """Everything that training needs of the data."""

    dataset: Dataset
    manifest: pd.DataFrame
    classes: tuple[str, ...]
    train: Part
    validation: Part
    test: Part

    @property
    def test_rows(self) -> pd.DataFrame:
        return self.manifest[self.manifest["split"] == "test"]

    @property
    def class_counts(self) -> np.ndarray:
        """`(K,)` training images a class, copies not counted."""
        labels = self.manifest.loc[self.manifest["split"] == "train", "label"]
        return np.array([(labels == name).sum() for name in self.classes])


def prepare(dataset: Dataset, settings: CellTraining) -> Cells:
    """Split, decode, resize and copy (all cached): training images with their copies, validation and test images without."""
    manifest, cache_dir = split_manifest(dataset.manifest, settings.split, settings.split_seed), settings.cache_dir
    classes = class_names(manifest)
    labels = manifest["label"].map({name: index for index, name in enumerate(classes)}).to_numpy().astype("int32")
    images = cached_images(dataset, settings.image_size, settings.resize_filter, cache_dir, progress=True)
    rows = {name: np.flatnonzero((manifest["split"] == name).to_numpy()) for name in ("train", "validation", "test")}
    train = Part(images, labels, rows["train"])
    if settings.copies:
        from common.data.augmentation import augmented_images

        training = replace(dataset, manifest=manifest.iloc[rows["train"]].reset_index(drop=True))
        copied = augmented_images(
            training, settings.copies, settings.copies_kind, settings.seed, settings.image_size, settings.resize_filter, cache_dir, True
        )
        flat = copied.reshape(-1, *copied.shape[2:])
        train = Part(flat, np.repeat(labels[rows["train"]], 1 + settings.copies), np.arange(len(flat)))
    return Cells(dataset, manifest, classes, train, Part(images, labels, rows["validation"]), Part(images, labels, rows["test"]))


def random_views(images: np.ndarray, targets: Any, rng: np.random.Generator) -> tuple[np.ndarray, Any]:
    """The authors' random views of a batch `(n, h, w, 3)` uint8 -> the same (for `Batches(augment=…)`).

    Horizontal flip, rotation within ±7.2°, width and height scaled within ±20 %, borders reflected. The authors resize whole batches to
    88..132 pixels; here every image is scaled by its own two factors inside its frame, so the shape stays fixed (see DEVIATIONS.md).
    """
    return _turned(images, rng, ROTATION, SCALING), targets


def free_views(images: np.ndarray, targets: Any, rng: np.random.Generator) -> tuple[np.ndarray, Any]:
    """As `random_views`, but turned by any angle and scaled within 10 %: a cell has no upright position. Not of the documents (--views)."""
    return _turned(images, rng, 180.0, 0.1), targets


def soft_labels(
    images: np.ndarray, labels: np.ndarray, rng: np.random.Generator, *, classes: int, views: Augment | None, smoothing: float, mixup: float
) -> tuple[np.ndarray, np.ndarray]:
    """A batch with shares of classes as labels, `(n, classes)` float32 with rows summing to 1, for `Batches(augment=…)`.

    views: applied to the images first. mixup: lambda ~ Beta(mixup, mixup) for the batch, x = lambda x_i + (1 - lambda) x_j and the labels
    alike, j a permutation of the batch (Zhang et al. 2018, eq. in section 2); 0 leaves the images as they are. smoothing: y becomes
    (1 - smoothing) y + smoothing / classes (Szegedy et al. 2016, section 7).
    """
    if views is not None:
        images, _ = views(images, labels, rng)
    shares = np.eye(classes, dtype="float32")[labels]
    if mixup:
        weight, partner = np.float32(rng.beta(mixup, mixup)), rng.permutation(len(images))
        images = weight * images + (1 - weight) * images[partner]
        shares = weight * shares + (1 - weight) * shares[partner]
    return images, (1 - smoothing) * shares + smoothing / classes


def _turned(images: np.ndarray, rng: np.random.Generator, rotation: float, scaling: float) -> np.ndarray:
    number, height, width = images.shape[:3]
    angles = np.deg2rad(rng.uniform(-rotation, rotation, number))
    scales = rng.uniform(1 - scaling, 1 + scaling, (number, 2))
    flips = np.where(rng.random(number) < 0.5, -1.0, 1.0)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    cosine, sine = np.cos(angles), np.sin(angles)
    # From output to input coordinates, about the centre; `(n, 2, 2)`.
    turns = np.stack([cosine, -sine, sine, cosine], axis=1).reshape(-1, 2, 2) / scales[:, None, :]
    turns[:, :, 0] *= flips[:, None]
    matrices = np.concatenate([turns, (centre - turns @ centre)[:, :, None]], axis=2)
    result = np.empty_like(images)
    for image, matrix, target in zip(images, matrices, result, strict=True):
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cv2.warpAffine(image, matrix, (width, height), dst=target, flags=flags, borderMode=cv2.BORDER_REFLECT)
    return result


def channel_statistics(part: Part, block: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each channel over the part's images, `(3,)` float64 each, in the scale 0..255; read block by block."""
    count, total, squares = 0, np.zeros(3), np.zeros(3)
    for start in range(0, len(part.rows), block):
        pixels = part.images[part.rows[start : start + block]].reshape(-1, 3)
        count += len(pixels)
        for channel in range(3):
            # Sums over a histogram of the 256 values are exact and several times faster than over floats.
            histogram = np.bincount(pixels[:, channel], minlength=256)
            total[channel] += histogram @ np.arange(256)
            squares[channel] += histogram @ np.arange(256) ** 2
    mean = total / count
    return mean, squares / count - mean**2
