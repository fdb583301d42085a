"""The dermoscopy collections as distributed -> manifest: ISIC 2018 Task 1/2, ISIC 2019, HAM10000, all with ISIC 2019's class names."""

import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from common.data.images import is_image
from common.data.manifest import Dataset
from common.errors import UsageError

# Eight classes in the order of Table 3.1.
CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
ATTRIBUTES = ("globules", "milia_like_cyst", "negative_network", "pigment_network", "streaks")
ISIC2019_COUNTS = dict(zip(CLASSES, (4522, 12875, 3323, 867, 2624, 239, 253, 628), strict=True))
ISIC2018_COUNTS = {"MEL": 519, "NV": 1866, "BKL": 208}
HAM10000_COUNTS = {"NV": 6705, "MEL": 1113, "BKL": 1099, "BCC": 514, "akiec": 327, "VASC": 142, "DF": 115}
_HAM_TO_ISIC = {"mel": "MEL", "nv": "NV", "bcc": "BCC", "akiec": "AK", "bkl": "BKL", "df": "DF", "vasc": "VASC"}
RENAMED = "_downsampled"


def read_labels(path: Path) -> dict[str, str]:
    """Image id -> class from a ground-truth CSV of ISIC 2019 (`image,MEL,NV,…,UNK`, one column is 1). "" for UNK or an empty row.

    Raises:
        UsageError: not such a file, or a class that is none of the eight.
    """
    table = _table(path, f"--labels-csv {path}")
    if "image" not in table.columns or not set(CLASSES) & set(table.columns):
        raise UsageError(f"--labels-csv {path}: expected the columns image, {', '.join(CLASSES)} (ISIC 2019 ground truth)")
    names = [name for name in table.columns if name not in ("image", "UNK")]
    unknown = sorted(set(names) - set(CLASSES))
    if unknown:
        raise UsageError(f"--labels-csv {path}: the class {unknown[0]} is none of {', '.join(CLASSES)}")
    try:
        values = table[names].to_numpy(dtype=float)
    except ValueError as error:
        raise UsageError(f"--labels-csv {path}: expected 0 or 1 in the class columns ({error})") from None
    labels = [names[row.argmax()] if row.max() > 0 else "" for row in values]
    return dict(zip(table["image"].astype(str), labels, strict=True))


def isic2018(data_dir: Path, labels_csv: Path | None = None, mask_dir: Path | None = None, skip_missing: bool = False) -> Dataset:
    """ISIC 2018 Task 1/2 training images (2594) with their attribute masks, or lesion masks when those are all there is.

    Layouts: the official folders (`ISIC2018_Task1-2_Training_Input`, `ISIC2018_Task2_Training_GroundTruth_v3`,
    `ISIC2018_Task1_Training_GroundTruth`) or `images/` beside `lesion_masks/`. Diagnoses come from the ISIC 2019 ground truth; an id is
    looked up as it is and with `_downsampled`, and which of the two was found is noted in the column `overlap`. Groups are lesions where
    the ISIC 2019 metadata CSV beside the labels knows them (708 images, 12 lesions with more than one), otherwise each image is one.
    """
    del skip_missing  # every image that is there is read; one without a diagnosis is left out and counted
    data_dir = Path(data_dir)
    folder = _image_folder(data_dir, "*Training_Input*")
    images = _by_id(path for path in sorted(folder.iterdir()) if is_image(path))
    labels_file = _labels_file(data_dir, labels_csv, "ISIC 2018 itself has no diagnoses")
    labels, lesions = read_labels(labels_file), _lesions(labels_file)
    rows, unlabelled = [], 0
    for name, path in images.items():
        found = next((key for key in (name, name + RENAMED) if labels.get(key)), None)
        unlabelled += found is None
        if found is not None:
            overlap = "same" if found == name else "renamed"
            rows.append({"image": _relative(path, data_dir), "label": labels[found], "group": lesions.get(found, name), "overlap": overlap,
                         "id": name})  # fmt: skip
    if not rows:
        raise UsageError(f"{folder}: none of the {len(images)} images has a diagnosis in the labels file; expected ISIC 2019's ids")
    # The official archives lie side by side: masks of the validation and test images are no mistake, they are only not ours.
    others = {p.stem for part in ("Validation", "Test") for p in data_dir.glob(f"*{part}_Input*/*.jpg")}
    manifest = _with_masks(pd.DataFrame(rows), Path(mask_dir) if mask_dir else data_dir, data_dir, set(images) | others)
    left_out = {"images without a diagnosis": unlabelled} if unlabelled else {}
    return Dataset("isic2018", data_dir, manifest.drop(columns="id"), False, ISIC2018_COUNTS, left_out)


def isic2019(data_dir: Path, labels_csv: Path | None = None, mask_dir: Path | None = None, skip_missing: bool = False) -> Dataset:
    """ISIC 2019 training images (25,331; `ISIC_2019_Training_Input/` or `images/`) with its ground truth; groups are lesions where known.

    Raises:
        UsageError: labels without images (unless `skip_missing`: then those are left out and counted), or no image at all.
    """
    data_dir = Path(data_dir)
    labels_file = _labels_file(data_dir, labels_csv, "ISIC 2019 keeps its labels in a CSV")
    labels = {name: label for name, label in read_labels(labels_file).items() if label}
    folder = _image_folder(data_dir, "*Training_Input*")
    images = _by_id(path for path in sorted(folder.iterdir()) if is_image(path))
    missing = [name for name in labels if name not in images]
    if missing and not skip_missing:
        raise UsageError(
            f"{folder}: {len(missing)} of {len(labels)} labelled images are missing (first: {missing[0]}); --skip-unreadable: go on"
        )
    lesions = _lesions(labels_file)
    rows = [
        {"image": _relative(images[name], data_dir), "label": label, "group": lesions.get(name, name), "overlap": "same", "id": name}
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
    left_out = {"labelled images that are missing": len(missing)} if missing else {}
    return Dataset("isic2019", data_dir, manifest.drop(columns="id"), False, ISIC2019_COUNTS, left_out)


def ham10000(data_dir: Path, labels_csv: Path | None = None, mask_dir: Path | None = None, skip_missing: bool = False) -> Dataset:
    """HAM10000 (10,015; `HAM10000_metadata.csv`, `images/` or `HAM10000_images_part_*`), groups are lesions, masks where present.

    Its `akiec` becomes AK, and SCC stays empty, unless the ISIC 2019 ground truth is given (`labels_csv`): it tells AK and SCC apart.
    """
    data_dir = Path(data_dir)
    table_file = next(iter(sorted([*data_dir.glob("HAM10000_metadata*"), *data_dir.glob("*etadata*.csv")])), None)
    if table_file is None:
        raise UsageError(f"{data_dir}: HAM10000_metadata.csv is missing; expected HAM10000 as distributed")
    table = _table(table_file, str(table_file), dtype=str, keep_default_na=False)
    if not {"lesion_id", "image_id", "dx"} <= set(table.columns):
        raise UsageError(f"{table_file}: expected the columns lesion_id, image_id and dx")
    parts = sorted(data_dir.glob("HAM10000_images_part_*"))
    images = _by_id(p for folder in (parts or [_image_folder(data_dir, "*images*")]) for p in sorted(folder.iterdir()) if is_image(p))
    finer = read_labels(Path(labels_csv)) if labels_csv is not None else {}
    rows, missing = [], []
    for row in table.sort_values("image_id").itertuples():
        if row.dx not in _HAM_TO_ISIC:
            raise UsageError(f"{table_file}: the diagnosis {row.dx} of {row.image_id} is none of {', '.join(_HAM_TO_ISIC)}")
        if row.image_id not in images:
            missing.append(row.image_id)
            continue
        label = finer.get(row.image_id) or _HAM_TO_ISIC[row.dx]
        path = _relative(images[row.image_id], data_dir)
        rows.append({"image": path, "label": label, "group": row.lesion_id, "overlap": "", "id": row.image_id})
    if not rows or (missing and not skip_missing):
        raise UsageError(f"{data_dir}: {len(missing)} of {len(table)} images are missing (first: {missing[0] if missing else 'all'})")
    manifest = _with_masks(pd.DataFrame(rows), Path(mask_dir) if mask_dir else data_dir, data_dir, set(images))
    left_out = {"listed images that are missing": len(missing)} if missing else {}
    counts = HAM10000_COUNTS if not finer else None
    return Dataset("ham10000", data_dir, manifest.drop(columns="id"), False, counts, left_out)


def _with_masks(manifest: pd.DataFrame, mask_dir: Path, data_dir: Path, known: set[str]) -> pd.DataFrame:
    """Add `mask_<attribute>` and `mask_lesion` columns; "" where an image has none. UsageError for a mask of an unknown image."""
    columns: dict[str, dict[str, str]] = {}
    if not mask_dir.is_dir():
        raise UsageError(f"{mask_dir}: no such folder of masks")
    folders = [mask_dir] + [f for f in sorted(mask_dir.iterdir()) if f.is_dir() and not re.search("Validation|Test", f.name)]
    for path in (p for folder in folders for p in sorted(folder.glob("*.png"))):
        match = re.fullmatch(r"(.+)_(?:attribute_(\w+)|(segmentation))", path.stem)
        if match is None:
            continue
        if match[1] not in known:
            raise UsageError(f"{path}: feedback for an unknown image; there is no image {match[1]}")
        columns.setdefault(f"mask_{match[2] or 'lesion'}", {})[match[1]] = _relative(path, data_dir)
    for column in sorted(columns):
        manifest[column] = [columns[column].get(name, "") for name in manifest["id"]]
    return manifest


def _table(path: Path, name: str, **options: Any) -> pd.DataFrame:
    """A CSV file. UsageError, beginning with `name`, when it is none."""
    try:
        return pd.read_csv(path, **options)
    except (OSError, ValueError) as error:  # pandas' and Unicode's errors are ValueErrors
        raise UsageError(f"{name}: cannot be read as a CSV ({(str(error).splitlines() or ['empty'])[0]})") from None


def _lesions(labels_file: Path) -> dict[str, str]:
    """Image id -> lesion from the metadata CSV beside the labels, where both are known."""
    for path in sorted(labels_file.parent.glob("*Metadata*.csv")):
        table = _table(path, str(path), dtype=str)
        if {"image", "lesion_id"} <= set(table.columns):
            known = table.dropna(subset=["lesion_id"])
            return dict(zip(known["image"].astype(str), known["lesion_id"].astype(str), strict=True))
    return {}


def _labels_file(data_dir: Path, labels_csv: Path | None, why: str) -> Path:
    if labels_csv is not None:
        return Path(labels_csv)
    found = sorted(data_dir.glob("*GroundTruth*.csv"))
    if not found:
        raise UsageError(f"{data_dir}: no labels; {why}, give ISIC_2019_Training_GroundTruth.csv with --labels-csv")
    return found[0]


def _image_folder(data_dir: Path, pattern: str) -> Path:
    for folder in [data_dir / "images", *sorted(data_dir.glob(pattern)), data_dir]:
        if folder.is_dir() and any(is_image(path) for path in folder.iterdir()):
            return folder
    raise UsageError(f"{data_dir}: no images found; expected {pattern.strip('*')} or images/ in it")


def _by_id(paths: Iterable[Path]) -> dict[str, Path]:
    """Image id -> file; superpixel and mask files of the official archives are no images of ours."""
    return {p.stem: p for p in paths if not re.search(r"_(superpixels|segmentation|attribute_\w+)$", p.stem)}


@cache
def _folder(parent: Path, root: Path) -> str:
    relative = Path(os.path.relpath(parent, root)).as_posix()
    return "" if relative == "." else f"{relative}/"


def _relative(path: Path, root: Path) -> str:
    return _folder(path.parent, root) + path.name
