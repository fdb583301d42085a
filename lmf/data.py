"""The four data sets of the LMF paper in their official layouts, anyone's folders, the drawn sample; and the paper's split.

| name | files expected in `--data-dir` | classes | group |
|---|---|---|---|
| ham10000 | HAM10000_metadata.csv; images/ or HAM10000_images_part_1/ and _part_2/ | dx | lesion_id |
| odir5k | full_df.csv (one row an eye, one label a row); preprocessed_images/ | N D G C A H M O | patient ID |
| isic2019 | ISIC_2019_Training_GroundTruth.csv, ISIC_2019_Training_Metadata.csv; ISIC_2019_Training_Input/ or images/ | 8 | lesion_id |
| covid_radiography | COVID/images/, Lung_Opacity/images/, Normal/images/, Viral Pneumonia/images/ | folders | the image |

HAM10000's `lesion_masks/` (`<image>_segmentation.png`), where it lies beside the images, becomes the column `mask_lesion`: no loss uses
it, `explain` measures the maps against it.

`--labels-csv` puts another table of labels in place of a set's own: `image` and one column a class (ISIC 2018 and 2019 ground
truths), or the columns of HAM10000_metadata.csv. So HAM10000's images get ISIC 2019's eight classes.
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from common.data.dataset import Dataset, class_names
from common.data.dermoscopy import listed, read_labels, read_lesions, read_table, sort_files
from common.data.folders import folders_dataset
from common.data.images import Filter
from common.data.masks import find_masks
from common.data.readable import check_readable
from common.data.splits import grouped_split, limit_per_class, limit_proportional, split_by_counts
from common.data.walk import walk
from common.errors import UsageError

log = logging.getLogger(__name__)

HELD_OUT = 0.15  # Table 1: 70:15:15
OFFICIAL_COUNTS = {
    "ham10000": {"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142},
    "odir5k": {"A": 266, "C": 293, "D": 1608, "G": 284, "H": 128, "M": 232, "N": 2873, "O": 708},
    "isic2019": {"AK": 867, "BCC": 3323, "BKL": 2624, "DF": 239, "MEL": 4522, "NV": 12875, "SCC": 628, "VASC": 253},
    "covid_radiography": {"COVID": 3616, "Lung_Opacity": 6012, "Normal": 10192, "Viral Pneumonia": 1345},
}
_HAM_FOLDERS = ("images", "HAM10000_images_part_1", "HAM10000_images_part_2", "ham10000_images_part_1", "ham10000_images_part_2")
_ISIC_FOLDERS = ("ISIC_2019_Training_Input", "ISIC_2019_Training_Input/ISIC_2019_Training_Input", "images")


def load(options, pixels: tuple[int, Filter] | None = None) -> Dataset:
    """The data set that the options (`experiments.base.LmfSource`) name: labelled, readable, and cut down to `--limit` images when that
    is given (in the classes' own shares, or with `--balanced-limit` as many of each).

    `pixels`: side and filter of the images that training will ask for; without `--limit` the check leaves them in the cache.

    UsageError for anything that is not as expected: missing or extra images (listed), a row without exactly one label, unreadable files.
    """
    dataset = check_readable(found(options), options.skip_unreadable, options.cache_dir, pixels if options.limit is None else None)
    if options.limit is None:
        return dataset
    limit = limit_per_class if getattr(options, "balanced_limit", False) else limit_proportional
    return replace(dataset, manifest=limit(dataset.manifest, options.limit).reset_index(drop=True))


def name_of(settings) -> str:
    """Name of the data set that settings or a recipe (`config.json`) ask for: a drawn one is "sample-<what it imitates>"."""
    values = settings if isinstance(settings, dict) else vars(settings)
    return f"sample-{values['sample']}" if values["dataset"] == "sample" else str(values["dataset"])


def found(options) -> Dataset:
    """The data set that the options name, before any image is opened."""
    name, root = options.dataset, options.data_dir
    if name == "sample":
        from common.data.sample import ensure_sample

        kind = options.sample
        return replace(LOADERS[kind](ensure_sample(kind, options.cache_dir), None), name=f"sample-{kind}", synthetic=True)
    if name == "folders":
        return folders_dataset(root, options.group_pattern, options.mask_dir)
    loaded = LOADERS[name](root, options.labels_csv)
    return loaded if options.labels_csv is not None else replace(loaded, official_counts=OFFICIAL_COUNTS[name])


def ham10000(data_dir: Path, labels_csv: Path | None = None) -> Dataset:
    """HAM10000: 10,015 dermoscopic images, 7 classes, several images of one lesion share `lesion_id`."""
    files, left_out = image_files(data_dir, _HAM_FOLDERS)
    table = pd.DataFrame({"name": sorted(files)})
    path = data_dir / "HAM10000_metadata.csv"
    if path.is_file():
        read_table(path, ("image_id", "dx", "lesion_id"))
        own, lesions = read_labels(path), read_lesions(path)
        table = pd.DataFrame({"name": own.index, "label": own.to_numpy(), "group": [lesions.get(name, name) for name in own.index]})
    elif labels_csv is None:
        raise UsageError(f"{path}: no such file; expected HAM10000's metadata, or --labels-csv with the labels")
    else:
        log.warning("%s is missing: every image counts as its own lesion, so a grouped split separates nothing", path.name)
        table["group"] = table["name"]
    check_images(path.name, table["name"], files, data_dir)
    if labels_csv is not None:
        labels = read_labels(labels_csv, "--labels-csv")
        absent = sorted(set(table["name"]) - set(labels.index))
        if absent:
            raise UsageError(f"--labels-csv {labels_csv}: no label for {len(absent)} images of {data_dir.name}: {listed(absent)}")
        table["label"] = table["name"].map(labels)
        others = len(set(labels.index) - set(table["name"]))
        left_out |= {f"rows of {labels_csv.name} without an image here": others} if others else {}
    return with_lesion_masks(as_dataset("ham10000", data_dir, table, files, left_out))


def with_lesion_masks(dataset: Dataset) -> Dataset:
    """The data set with the column `mask_lesion` ("" = none) where a folder `lesion_masks/` holds masks of its images.

    No loss uses them, so a run's identity knows nothing of them.
    """
    folder = dataset.data_dir / "lesion_masks"
    if not folder.is_dir():
        return dataset
    try:
        found, beside = find_masks(dataset.data_dir, list(dataset.manifest["image"]), folder)
    except UsageError as error:
        log.warning("%s; left out", error)
        return dataset
    return replace(dataset, manifest=dataset.manifest.assign(mask_lesion=found), left_out=dataset.left_out | beside)


def odir5k(data_dir: Path, labels_csv: Path | None = None) -> Dataset:
    """ODIR-5K as the paper uses it: 6392 fundus photographs, one label an eye out of 8; both eyes of a patient share `ID`."""
    path = labels_csv or data_dir / "full_df.csv"
    table = read_table(path, ("ID", "labels", "filename"))
    labels = [re.findall(r"'([^']+)'", text) or [text] for text in table["labels"]]
    several = [
        f"{name} ({'+'.join(found)})" for name, found in zip(table["filename"], labels, strict=True) if len(found) != 1 or not found[0]
    ]
    if several:
        raise UsageError(f"{path}: expected one label a row, but {len(several)} rows have none or several: {listed(several)}")
    by_stem, left_out = image_files(data_dir, ("preprocessed_images", "Training Images", "images"))
    files = {Path(file).name: file for file in by_stem.values()}
    check_images(path.name, table["filename"], files, data_dir)
    rows = pd.DataFrame({"name": table["filename"], "label": [found[0] for found in labels], "group": table["ID"]})
    return as_dataset("odir5k", data_dir, rows, files, left_out)


def isic2019(data_dir: Path, labels_csv: Path | None = None) -> Dataset:
    """ISIC 2019: 25,331 dermoscopic images, 8 classes (UNK is empty in the training data); `lesion_id` where the metadata has one."""
    path = labels_csv or data_dir / "ISIC_2019_Training_GroundTruth.csv"
    labels = read_labels(path, "--labels-csv" if labels_csv else "")
    left_out: dict[str, int] = {}
    try:
        files, left_out = image_files(data_dir, _ISIC_FOLDERS)
    except UsageError:
        files = {}
    try:
        check_images(path.name, labels.index, files, data_dir)
    except UsageError as error:
        raise UsageError(
            f"{error}; isic2019 needs all {len(labels)} images. With HAM10000's alone use --dataset ham10000 --labels-csv {path.name}, "
            "which gives them ISIC 2019's classes"
        ) from None
    table = pd.DataFrame({"name": labels.index, "label": labels.to_numpy(), "group": labels.index})
    lesions = read_lesions(data_dir / "ISIC_2019_Training_GroundTruth.csv")
    if lesions:
        table["group"] = [lesions.get(name, name) for name in table["name"]]
    else:
        log.warning("no ISIC_2019_Training_Metadata.csv: every image counts as its own lesion, so a grouped split separates nothing")
    return as_dataset("isic2019", data_dir, table, files, left_out)


def covid_radiography(data_dir: Path, labels_csv: Path | None = None) -> Dataset:
    """COVID-19 Radiography: chest X-rays in `<Class>/images/`, 4 classes. The set names no patients, so each image is its own group."""
    if labels_csv is not None:
        raise UsageError(f"--labels-csv {labels_csv}: covid_radiography has its labels in its folders and takes no such file")
    nested = data_dir / "COVID-19_Radiography_Dataset"
    root = nested if nested.is_dir() else data_dir
    expected = tuple(OFFICIAL_COUNTS["covid_radiography"])
    present = [name for name in expected if (root / name).is_dir()]
    if len(present) < 2:
        raise UsageError(f"--data-dir {root}: expected the folders {', '.join(expected)}, found {', '.join(present) or 'none of them'}")
    if len(present) < len(expected):
        log.warning("covid_radiography: without %s; this is not the paper's problem", ", ".join(sorted(set(expected) - set(present))))
    rows: list[dict[str, str]] = []
    files: dict[str, str] = {}
    left_out: dict[str, int] = {}
    for label in present:
        # Older releases have the images beside the masks' folder, not in images/.
        folder = f"{label}/images" if (root / label / "images").is_dir() else label
        found, passed = image_files(root, (folder,))
        if not found:
            raise UsageError(f"--data-dir {root}: the class folder {label} holds no images")
        left_out = {reason: left_out.get(reason, 0) + passed.get(reason, 0) for reason in {**left_out, **passed}}
        files |= {f"{label}/{name}": path for name, path in found.items()}
        rows += [{"name": f"{label}/{name}", "label": label, "group": found[name]} for name in sorted(found)]
    return as_dataset("covid_radiography", root, pd.DataFrame(rows), files, left_out)


LOADERS = {"ham10000": ham10000, "odir5k": odir5k, "isic2019": isic2019, "covid_radiography": covid_radiography}


def paper_split(manifest: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Table 1's split: of each class's n images, round(0.15 n) for validation, as many for test, the rest for training.

    It gives all 27 training counts of Table 5. The paper names no seed and no grouping. Returns the rows in the order given with the
    column `split` (train, validation, test). UsageError for a class too small to reach all three parts.
    """

    def counts(n: int) -> tuple[int, int, int]:
        held = round(HELD_OUT * n)
        return n - 2 * held, held, held

    for label, n in manifest["label"].value_counts().items():
        if min(counts(int(n))) < 1:
            raise UsageError(f"the class {label} has {n} images, too few for a 70:15:15 split; expected at least 4")
    return split_by_counts(manifest, counts, seed)


def groups_known(manifest: pd.DataFrame) -> bool:
    """Whether `group` names lesions or patients, that is anything but each image's own name; where not, leakage cannot be seen."""
    pairs = zip(manifest["group"], manifest["image"], strict=True)
    return any(group not in (image, Path(image).stem) for group, image in pairs)


def split(manifest: pd.DataFrame, how: str, seed: int) -> pd.DataFrame:
    """`paper` or `grouped` (70:15:15, no lesion or patient on two sides); UsageError when a class is left without training images."""
    if how == "grouped" and not groups_known(manifest):
        log.warning("the data name no lesions or patients: a grouped split of them keeps nothing apart, and leakage stays unknown")
    manifest = paper_split(manifest, seed) if how == "paper" else grouped_split(manifest, (0.7, HELD_OUT, HELD_OUT), seed)
    classes = class_names(manifest)
    empty = [name for name, n in zip(classes, train_counts(manifest, classes), strict=True) if n == 0]
    if empty:
        raise UsageError(f"no training image of the class {', '.join(empty)} with --split {how}; the losses need at least one of each")
    return manifest


def train_counts(manifest: pd.DataFrame, classes: Iterable[str]) -> list[int]:
    """Training images of each class, in the order of `classes`: what the losses' margins and weights are made from."""
    counts = manifest.loc[manifest["split"] == "train", "label"].value_counts()
    return [int(counts.get(name, 0)) for name in classes]


def as_dataset(name: str, data_dir: Path, table: pd.DataFrame, files: dict[str, str], left_out: dict[str, int] | None = None) -> Dataset:
    """`table` (name, label, group) with each name's file from `files`, as a data set sorted by image."""
    manifest = pd.DataFrame({"image": table["name"].map(files), "label": table["label"].astype(str), "group": table["group"].astype(str)})
    if (manifest["label"] == "").any():
        unlabelled = manifest["image"][manifest["label"] == ""]
        raise UsageError(f"{data_dir}: {len(unlabelled)} images have no label: {listed(sorted(unlabelled))}")
    return Dataset(name, data_dir, manifest.sort_values("image").reset_index(drop=True), left_out=left_out or {})


def image_files(root: Path, folders: Iterable[str]) -> tuple[dict[str, str], dict[str, int]]:
    """File stem -> posix path relative to `root`, for the images below those of `folders` that exist; and what was passed over."""
    present = [name for name in folders if (root / name).is_dir()]
    if not present:
        raise UsageError(f"--data-dir {root}: expected the images in {' or '.join(f'{name}/' for name in folders)}")
    # A folder may hold another of them (ISIC 2019's archive holds itself): each file once.
    outer = [name for name in present if not any(name.startswith(f"{other}/") for other in present)]
    found = {folder: walk(root / folder) for folder in outer}
    images = sort_files((f"{folder}/{name}" for folder in outer for name in found[folder].images), root).images
    reasons = {reason for folder in outer for reason in found[folder].reasons()}
    return images, {reason: sum(found[folder].reasons().get(reason, 0) for folder in outer) for reason in sorted(reasons)}


def check_images(table: str, names: Iterable[str], files: dict[str, str], data_dir: Path) -> None:
    """UsageError that lists what the table names without a file, and what lies there without a row."""
    names = list(names)
    missing, extra = sorted(set(names) - set(files)), sorted(set(files) - set(names))
    problems = []
    if missing:
        problems.append(f"{len(missing)} of the {len(names)} images of {table} are missing: {listed(missing)}")
    if extra:
        problems.append(f"{len(extra)} images are not in {table}: {listed(extra)}")
    if problems:
        raise UsageError(f"{data_dir}: {'; '.join(problems)}")
