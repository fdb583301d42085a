"""The dermoscopy collections as distributed -> manifest: ISIC 2018 Task 1/2, ISIC 2019, HAM10000, all with ISIC 2019's class names.

Each takes `(data_dir, labels_csv, mask_dir, skip_missing)`. UsageError: labels without images (unless `skip_missing`: those are left out
and counted), no image at all, an image or mask that is there twice, a mask of an unknown image.
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd

from common.data import dermoscopy
from common.data.dataset import Dataset
from common.data.dermoscopy import ISIC_CLASSES, RENAMED, read_lesions, sort_files
from common.data.walk import walk
from common.errors import UsageError

# Eight classes in the order of Table 3.1.
CLASSES = ISIC_CLASSES
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
    looked up as it is and with `_downsampled`, and which of the two was there is noted in the column `overlap`. Groups are lesions where
    the ISIC 2019 metadata CSV beside the labels knows them (708 images, 12 lesions with more than one), otherwise each image is one.
    """
    del skip_missing  # every image that is there is read; one without a diagnosis is left out and counted
    images, left_out = _images(data_dir, "*Training_Input*")
    labels_file = _labels_file(data_dir, labels_csv, "ISIC 2018 itself has no diagnoses")
    labels, lesions = read_labels(labels_file), read_lesions(labels_file)
    keys = {name: next((key for key in (name, name + RENAMED) if labels.get(key)), None) for name in images}
    known = {name: key for name, key in keys.items() if key is not None}
    if not known:
        raise UsageError(f"{data_dir}: none of the {len(images)} images has a diagnosis in the labels file; expected ISIC 2019's ids")
    if len(known) < len(images):
        left_out["images without a diagnosis"] = len(images) - len(known)
    manifest = _manifest(
        images, {name: labels[key] for name, key in known.items()}, {name: lesions.get(key) for name, key in known.items()}
    )
    manifest["overlap"] = ["same" if key == name else "renamed" for name, key in known.items()]
    # The official archives lie side by side: masks of the validation and test images are no mistake, they are only not ours.
    others = {p.stem for part in ("Validation", "Test") for p in Path(data_dir).glob(f"*{part}_Input*/*.jpg")}
    return _dataset("isic2018", data_dir, manifest, mask_dir or data_dir, {*images, *others}, ISIC2018_COUNTS, left_out)


def isic2019(data_dir: Path, labels_csv: Path | None = None, mask_dir: Path | None = None, skip_missing: bool = False) -> Dataset:
    """ISIC 2019 training images (25,331; `ISIC_2019_Training_Input/` or `images/`) with its ground truth, groups lesions where known."""
    labels_file = _labels_file(data_dir, labels_csv, "ISIC 2019 keeps its labels in a CSV")
    labels = {name: label for name, label in sorted(read_labels(labels_file).items()) if label}
    images, left_out = _images(data_dir, "*Training_Input*")
    labels = _present(labels, images, data_dir, skip_missing, left_out)
    manifest = _manifest(images, labels, read_lesions(labels_file))
    return _dataset("isic2019", data_dir, manifest, mask_dir, images, ISIC2019_COUNTS, left_out)


def ham10000(data_dir: Path, labels_csv: Path | None = None, mask_dir: Path | None = None, skip_missing: bool = False) -> Dataset:
    """HAM10000 (10,015; `HAM10000_metadata.csv`, `images/` or `HAM10000_images_part_*`), groups are lesions, masks where present.

    Its `akiec` becomes AK, and SCC stays empty, unless the ISIC 2019 ground truth is given (`labels_csv`): it tells AK and SCC apart.
    """
    table_file = next(iter(sorted(Path(data_dir).glob("*etadata*.csv"))), None)
    if table_file is None:
        raise UsageError(f"{data_dir}: HAM10000_metadata.csv is missing; expected HAM10000 as distributed")
    dermoscopy.read_table(table_file, ("lesion_id", "image_id", "dx"))
    finer = read_labels(Path(labels_csv)) if labels_csv is not None else {}
    own = dermoscopy.read_labels(table_file).sort_index()
    labels = {str(name): finer.get(str(name)) or _HAM_TO_ISIC[dx] for name, dx in own.items()}
    images, left_out = _images(data_dir, "HAM10000_images_part_*")
    labels = _present(labels, images, data_dir, skip_missing, left_out)
    manifest = _manifest(images, labels, read_lesions(table_file))
    return _dataset("ham10000", data_dir, manifest, mask_dir or data_dir, images, None if finer else HAM10000_COUNTS, left_out)


def _present(
    labels: dict[str, str], images: Mapping[str, str], where: Path, skip_missing: bool, left_out: dict[str, int]
) -> dict[str, str]:
    """The labels whose image is there; how many are not goes into `left_out`."""
    missing = [name for name in labels if name not in images]
    if missing and not skip_missing:
        raise UsageError(
            f"{where}: {len(missing)} of {len(labels)} labelled images are missing (first: {missing[0]}); --skip-unreadable: go on"
        )
    if len(missing) == len(labels):
        raise UsageError(f"{where}: no image of the labels file is there")
    left_out |= {"labelled images that are missing": len(missing)} if missing else {}
    return {name: label for name, label in labels.items() if name in images}


def _manifest(images: Mapping[str, str], labels: Mapping[str, str], lesions: Mapping[str, str]) -> pd.DataFrame:
    """A row for each label. `overlap` is empty: only ISIC 2018 is compared with ISIC 2019 (section 5.2)."""
    rows = [{"image": images[name], "label": label, "group": lesions.get(name) or name} for name, label in labels.items()]
    return pd.DataFrame(rows).assign(overlap="", id=list(labels))


def _dataset(
    name: str, data_dir: Path, manifest: pd.DataFrame, mask_dir: Path | None, known: Collection[str], counts: dict[str, int] | None,
    left_out: dict[str, int],
) -> Dataset:  # fmt: skip
    """With `mask_<attribute>` and `mask_lesion` columns of the masks in `mask_dir`, "" where an image has none.

    UsageError for a mask of an image that is not `known`.
    """
    data_dir = Path(data_dir)
    masks: dict[str, dict[str, str]] = {}
    if mask_dir is not None:
        if not mask_dir.is_dir():
            raise UsageError(f"{mask_dir}: no such folder of masks")
        # Both ends resolved: `..` behind a link leads elsewhere.
        away = Path(os.path.relpath(mask_dir.resolve(), data_dir.resolve())).as_posix()
        paths = (path for path in walk(mask_dir, "--mask-dir").images if not re.search("Validation|Test", path.rpartition("/")[0]))
        masks = sort_files((path if away == "." else f"{away}/{path}" for path in paths), mask_dir, images=False).masks
    for kind, by_id in sorted(masks.items()):
        for image in by_id.keys() - set(known):
            raise UsageError(f"{data_dir / by_id[image]}: feedback for an unknown image; there is no image {image}")
        manifest[f"mask_{kind}"] = [by_id.get(image, "") for image in manifest["id"]]
    return Dataset(name, data_dir, manifest.drop(columns="id"), False, counts, left_out)


def _labels_file(data_dir: Path, labels_csv: Path | None, why: str) -> Path:
    found = [Path(labels_csv)] if labels_csv is not None else sorted(Path(data_dir).glob("*GroundTruth*.csv"))
    if not found:
        raise UsageError(f"{data_dir}: no labels; {why}, give ISIC_2019_Training_GroundTruth.csv with --labels-csv")
    return found[0]


def _images(data_dir: Path, pattern: str) -> tuple[dict[str, str], dict[str, int]]:
    """Image id -> path relative to `data_dir`, and what was passed over there, by reason. UsageError for no image, or two of one id."""
    data_dir = Path(data_dir)
    parts = [folder for folder in sorted(data_dir.glob(pattern)) if folder.is_dir()]
    for folders in ([data_dir / "images"], parts, [data_dir]):
        there = {folder: walk(folder) for folder in folders if folder.is_dir()}
        paths = [(folder / name).relative_to(data_dir).as_posix() for folder, one in there.items() for name in one.images]
        images = sort_files(paths, data_dir).images
        if images:
            left_out: Counter[str] = Counter()
            for one in there.values():
                left_out.update(one.reasons())
            return images, dict(left_out)
    raise UsageError(f"{data_dir}: no images found; expected {pattern.strip('*')} or images/ in it")
