"""The dermoscopy collections as distributed -> manifest: ISIC 2018 Task 1/2, ISIC 2019, HAM10000, all with ISIC 2019's class names."""

import os
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from common.data import dermoscopy
from common.data.dataset import Dataset
from common.data.dermoscopy import ISIC_CLASSES, RENAMED, read_lesions, sort_files
from common.data.walk import walk
from common.errors import UsageError

# Eight classes in the order of Table 3.1.
CLASSES = ISIC_CLASSES
ATTRIBUTES = ("globules", "milia_like_cyst", "negative_network", "pigment_network", "streaks")
ISIC2019_COUNTS = dict(zip(CLASSES, (4522, 12875, 3323, 867, 2624, 239, 253, 628), strict=True))
ISIC2018_COUNTS = {"MEL": 519, "NV": 1866, "BKL": 208}
HAM10000_COUNTS = {"NV": 6705, "MEL": 1113, "BKL": 1099, "BCC": 514, "akiec": 327, "VASC": 142, "DF": 115}
_HAM_TO_ISIC = {"mel": "MEL", "nv": "NV", "bcc": "BCC", "akiec": "AK", "bkl": "BKL", "df": "DF", "vasc": "VASC"}


def read_labels(path: Path) -> dict[str, str]:
    """Image id -> class from a ground-truth CSV of ISIC 2019 (`image,MEL,NV,…,UNK`, one column is 1). "" for UNK or an empty row.

    Raises:
        UsageError: as `dermoscopy.read_labels`; a class that is none of the eight.
    """
    labels = dermoscopy.read_labels(path, "--labels-csv")
    unknown = sorted(set(labels) - {*CLASSES, ""})
    if unknown:
        raise UsageError(f"--labels-csv {path}: the class {unknown[0]} is none of {', '.join(CLASSES)} (ISIC 2019 ground truth)")
    return labels.to_dict()


def isic2018(data_dir: Path, labels_csv: Path | None = None, mask_dir: Path | None = None, skip_missing: bool = False) -> Dataset:
    """ISIC 2018 Task 1/2 training images (2594) with their attribute masks, or lesion masks when those are all there is.

    Layouts: the official folders (`ISIC2018_Task1-2_Training_Input`, `ISIC2018_Task2_Training_GroundTruth_v3`,
    `ISIC2018_Task1_Training_GroundTruth`) or `images/` beside `lesion_masks/`. Diagnoses come from the ISIC 2019 ground truth; an id is
    looked up as it is and with `_downsampled`, and which of the two was found is noted in the column `overlap`. Groups are lesions where
    the ISIC 2019 metadata CSV beside the labels knows them (708 images, 12 lesions with more than one), otherwise each image is one.
    """
    del skip_missing  # every image that is there is read; one without a diagnosis is left out and counted
    data_dir = Path(data_dir)
    folder, images, left_out = _images(data_dir, "*Training_Input*")
    labels_file = _labels_file(data_dir, labels_csv, "ISIC 2018 itself has no diagnoses")
    labels, lesions = read_labels(labels_file), read_lesions(labels_file)
    rows, unlabelled = [], 0
    for name, path in images.items():
        found = next((key for key in (name, name + RENAMED) if labels.get(key)), None)
        unlabelled += found is None
        if found is not None:
            overlap = "same" if found == name else "renamed"
            rows.append({"image": path, "label": labels[found], "group": lesions.get(found, name), "overlap": overlap,
                         "id": name})  # fmt: skip
    if not rows:
        raise UsageError(f"{folder}: none of the {len(images)} images has a diagnosis in the labels file; expected ISIC 2019's ids")
    # The official archives lie side by side: masks of the validation and test images are no mistake, they are only not ours.
    others = {p.stem for part in ("Validation", "Test") for p in data_dir.glob(f"*{part}_Input*/*.jpg")}
    manifest = _with_masks(pd.DataFrame(rows), Path(mask_dir) if mask_dir else data_dir, data_dir, set(images) | others)
    left_out |= {"images without a diagnosis": unlabelled} if unlabelled else {}
    return Dataset("isic2018", data_dir, manifest.drop(columns="id"), False, ISIC2018_COUNTS, left_out)


def isic2019(data_dir: Path, labels_csv: Path | None = None, mask_dir: Path | None = None, skip_missing: bool = False) -> Dataset:
    """ISIC 2019 training images (25,331; `ISIC_2019_Training_Input/` or `images/`) with its ground truth; groups are lesions where known.

    Raises:
        UsageError: labels without images (unless `skip_missing`: then those are left out and counted), or no image at all.
    """
    data_dir = Path(data_dir)
    labels_file = _labels_file(data_dir, labels_csv, "ISIC 2019 keeps its labels in a CSV")
    labels = {name: label for name, label in read_labels(labels_file).items() if label}
    folder, images, left_out = _images(data_dir, "*Training_Input*")
    missing = [name for name in labels if name not in images]
    if missing and not skip_missing:
        raise UsageError(
            f"{folder}: {len(missing)} of {len(labels)} labelled images are missing (first: {missing[0]}); --skip-unreadable: go on"
        )
    lesions = read_lesions(labels_file)
    rows = [
        {"image": images[name], "label": label, "group": lesions.get(name, name), "overlap": "same", "id": name}
        for name, label in sorted(labels.items())
        if name in images
    ]
    if not rows:
        raise UsageError(f"{folder}: no image of the labels file is there")
    manifest = pd.DataFrame(rows)
    if mask_dir is not None:
        manifest = _with_masks(manifest, Path(mask_dir), data_dir, set(images))
    # All of ISIC 2019 is the base's own data: the column means nothing here, and the rule of section 5.2 must not act on it.
    manifest["overlap"] = ""
    left_out |= {"labelled images that are missing": len(missing)} if missing else {}
    return Dataset("isic2019", data_dir, manifest.drop(columns="id"), False, ISIC2019_COUNTS, left_out)


def ham10000(data_dir: Path, labels_csv: Path | None = None, mask_dir: Path | None = None, skip_missing: bool = False) -> Dataset:
    """HAM10000 (10,015; `HAM10000_metadata.csv`, `images/` or `HAM10000_images_part_*`), groups are lesions, masks where present.

    Its `akiec` becomes AK, and SCC stays empty, unless the ISIC 2019 ground truth is given (`labels_csv`): it tells AK and SCC apart.
    """
    data_dir = Path(data_dir)
    table_file = next(iter(sorted([*data_dir.glob("HAM10000_metadata*"), *data_dir.glob("*etadata*.csv")])), None)
    if table_file is None:
        raise UsageError(f"{data_dir}: HAM10000_metadata.csv is missing; expected HAM10000 as distributed")
    dermoscopy.read_table(table_file, ("lesion_id", "image_id", "dx"))
    labels, lesions = dermoscopy.read_labels(table_file), read_lesions(table_file)
    _, images, left_out = _images(data_dir, "HAM10000_images_part_*")
    finer = read_labels(Path(labels_csv)) if labels_csv is not None else {}
    rows = [
        {"image": images[name], "label": finer.get(name) or _HAM_TO_ISIC[dx], "group": lesions.get(name, name), "overlap": "", "id": name}
        for name, dx in labels.sort_index().items()
        if name in images
    ]
    missing = sorted(set(labels.index) - set(images))
    if not rows or (missing and not skip_missing):
        raise UsageError(f"{data_dir}: {len(missing)} of {len(labels)} images are missing (first: {missing[0] if missing else 'all'})")
    manifest = _with_masks(pd.DataFrame(rows), Path(mask_dir) if mask_dir else data_dir, data_dir, set(images))
    left_out |= {"listed images that are missing": len(missing)} if missing else {}
    counts = HAM10000_COUNTS if not finer else None
    return Dataset("ham10000", data_dir, manifest.drop(columns="id"), False, counts, left_out)


def _with_masks(manifest: pd.DataFrame, mask_dir: Path, data_dir: Path, known: set[str]) -> pd.DataFrame:
    """Add `mask_<attribute>` and `mask_lesion` columns; "" where an image has none. UsageError for a mask of an unknown image."""
    if not mask_dir.is_dir():
        raise UsageError(f"{mask_dir}: no such folder of masks")
    # Both ends resolved: `..` behind a link leads elsewhere.
    away = Path(os.path.relpath(mask_dir.resolve(), data_dir.resolve())).as_posix()
    paths = (name for name in walk(mask_dir, "--mask-dir").images if not re.search("Validation|Test", name.rpartition("/")[0]))
    masks = sort_files((name if away == "." else f"{away}/{name}" for name in paths), mask_dir, images=False).masks
    for kind, by_id in masks.items():
        for name, path in by_id.items():
            if name not in known:
                raise UsageError(f"{data_dir / path}: feedback for an unknown image; there is no image {name}")
        manifest[f"mask_{kind}"] = [by_id.get(name, "") for name in manifest["id"]]
    return manifest[[name for name in manifest if not name.startswith("mask_")] + sorted(n for n in manifest if n.startswith("mask_"))]


def _labels_file(data_dir: Path, labels_csv: Path | None, why: str) -> Path:
    if labels_csv is not None:
        return Path(labels_csv)
    found = sorted(data_dir.glob("*GroundTruth*.csv"))
    if not found:
        raise UsageError(f"{data_dir}: no labels; {why}, give ISIC_2019_Training_GroundTruth.csv with --labels-csv")
    return found[0]


def _images(data_dir: Path, pattern: str) -> tuple[Path, dict[str, str], dict[str, int]]:
    """Where the images lie, image id -> path relative to `data_dir`, and what was passed over there, by reason.

    UsageError for no image, or two files of one id.
    """
    parts = [folder for folder in sorted(data_dir.glob(pattern)) if folder.is_dir()]
    for folders in ([data_dir / "images"], parts, [data_dir]):
        found = {folder: walk(folder) for folder in folders if folder.is_dir()}
        paths = [(folder / name).relative_to(data_dir).as_posix() for folder, there in found.items() for name in there.images]
        images = sort_files(paths, data_dir).images
        if images:
            left_out: Counter[str] = Counter()
            for there in found.values():
                left_out.update(there.reasons())
            return folders[0], images, dict(left_out)
    raise UsageError(f"{data_dir}: no images found; expected {pattern.strip('*')} or images/ in it")
