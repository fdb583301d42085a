"""The tables and file names of the dermoscopy collections (ISIC 2016 to 2019, HAM10000), read once for every study, strictly."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from common.errors import UsageError

ISIC_CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
HAM_CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
RENAMED = "_downsampled"
_UNKNOWN = "UNK"
_KNOWN = {*ISIC_CLASSES, "AKIEC", _UNKNOWN}
# `ISIC_x_attribute_streaks`, `ISIC_x_segmentation`: masks; `ISIC_x_superpixels`: neither image nor mask.
_BESIDE = re.compile(r"(?P<image>.+)_(?:attribute_(?P<attribute>\w+)|(?P<lesion>segmentation)|superpixels)$", re.IGNORECASE)


def image_id(name: str) -> str:
    """Id of an image or of its renamed copy: no folder, no suffix, no `_downsampled` (ISIC 2019 renamed 1821 images so)."""
    return PurePosixPath(name).stem.removesuffix(RENAMED)


def is_beside(name: str) -> bool:
    """Whether a file's stem is a mask's or a superpixel map's, which lie among the images of the official archives."""
    return _BESIDE.match(PurePosixPath(name).stem) is not None


@dataclass(frozen=True)
class Files:
    """Images and masks by image name (stem), paths as given: `images[name]`, `masks["lesion"][name]`, `masks["streaks"][name]`."""

    images: dict[str, str] = field(default_factory=dict)
    masks: dict[str, dict[str, str]] = field(default_factory=dict)


def sort_files(paths: Iterable[str], where: Path | str, images: bool = True) -> Files:
    """Images (unless `images` is False) apart from masks, by the official names. UsageError for an image or a mask that is there twice."""
    found = Files()
    for path in paths:
        stem = PurePosixPath(path).stem
        match = _BESIDE.match(stem)
        if match is None and not images:
            continue
        if match is None:
            kind, name, table = "image", stem, found.images
        elif match["attribute"] or match["lesion"]:
            kind = (match["attribute"] or "lesion").lower()
            name, table = match["image"], found.masks.setdefault(kind, {})
            kind += " mask of"
        else:
            continue
        if table.setdefault(name, path) != path:
            raise UsageError(f"{where}: the {kind} {name} is there twice: {table[name]}, {path}")
    return found


def read_table(path: Path, columns: Iterable[str] = (), option: str = "") -> pd.DataFrame:
    """A CSV as text, cells and headers without blanks around them, empty cells "".

    Raises:
        UsageError: it is missing, unreadable or lacks one of `columns`; the message begins with `option` and the path.
    """
    name = f"{option} {path}".strip()
    columns = tuple(columns)
    if not path.is_file():
        raise UsageError(f"{name}: no such file; expected a CSV" + (f" with the columns {', '.join(columns)}" if columns else ""))
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # pandas' parser errors and wrong encodings are ValueErrors
        raise UsageError(f"{name}: not a readable CSV ({(str(error).strip().splitlines() or ['empty'])[-1][:120]})") from None
    table.columns = [str(column).strip() for column in table.columns]
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise UsageError(f"{name}: has the column {twice[0]} twice")
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise UsageError(f"{name}: lacks the column {missing[0]}; expected {', '.join(columns)}")
    return table.map(str.strip)


def read_labels(path: Path, option: str = "") -> pd.Series:
    """Image name -> class name; "" where the table says that it is not known (no class set, or UNK).

    From `image` and one 0/1 column a class (ground truths of ISIC 2018 and 2019: names in capitals) or from `image_id` and `dx`
    (HAM10000's metadata: names in small letters). Capitals and blanks of class names do not matter.

    Raises:
        UsageError: not such a table; a value other than 0 and 1, two classes in a row, a diagnosis that is empty or none of HAM10000's
            (unknown is not "other"), an image listed twice. The message names the rows.
    """
    name = f"{option} {path}".strip()
    table = read_table(path, (), option)
    if {"image_id", "dx"} <= set(table.columns):
        labels = pd.Series(table["dx"].str.lower().to_numpy(), index=table["image_id"].to_numpy(), dtype=object)
        strange = ~labels.isin(HAM_CLASSES).to_numpy()
        if strange.any():
            said = table["dx"].to_numpy()[strange][0] or "(empty)"
            rows = listed(labels.index[strange])
            raise UsageError(f"{name}: the diagnosis {said} is none of {', '.join(HAM_CLASSES)}; {strange.sum()} such rows: {rows}")
    elif "image" in table.columns:
        labels = _one_column_a_class(table, name)
    else:
        raise UsageError(f"{name}: expected the columns image and one a class (such as MEL, NV), or image_id and dx")
    twice = labels.index[labels.index.duplicated()]
    if len(twice):
        raise UsageError(f"{name}: {len(twice)} images are listed more than once: {listed(twice)}")
    return labels


def _one_column_a_class(table: pd.DataFrame, name: str) -> pd.Series:
    values = table.drop(columns="image").apply(pd.to_numeric, errors="coerce")
    values.columns = [column.upper() if column.upper() in _KNOWN else column for column in values.columns]
    binary = {column for column in values.columns if values[column].isin((0.0, 1.0)).all()}
    # Beside known classes a column of weights, ages or notes is none; where no name is known every column must be a class.
    wanted = _KNOWN | binary if _KNOWN & set(values.columns) else set(values.columns)
    classes = [column for column in values.columns if column in wanted]
    if not classes:
        raise UsageError(f"{name}: expected one column a class (such as MEL, NV) beside image")
    chosen = values[classes]
    other = table["image"][~chosen.isin((0.0, 1.0)).all(axis=1)]
    if len(other):
        raise UsageError(f"{name}: expected 0 or 1 in every class column, but {len(other)} rows hold something else: {listed(other)}")
    several = table["image"][chosen.sum(axis=1) > 1]
    if len(several):
        raise UsageError(f"{name}: expected one label a row, but {len(several)} rows have several: {listed(several)}")
    best = np.array(classes, dtype=object)[chosen.to_numpy().argmax(axis=1)]
    known = (chosen.sum(axis=1) == 1).to_numpy() & (best != _UNKNOWN)
    return pd.Series(np.where(known, best, ""), index=table["image"].to_numpy(), dtype=object)


def read_lesions(labels: Path) -> dict[str, str]:
    """Image name -> lesion, from the label table itself (`image_id`, `lesion_id`) or the metadata CSV beside it (`image`, `lesion_id`)."""
    beside = [labels.with_name(labels.name.replace("GroundTruth", "Metadata")), *sorted(labels.parent.glob("*Metadata*.csv"))]
    for path in dict.fromkeys((labels, *beside)):
        if not path.is_file():
            continue
        table = read_table(path)
        image = next((column for column in ("image_id", "image") if column in table.columns), None)
        if image is not None and "lesion_id" in table.columns:
            return {name: lesion for name, lesion in zip(table[image], table["lesion_id"], strict=True) if lesion}
    return {}


def listed(names: Iterable[str], most: int = 8) -> str:
    """ "a, b, c and 5 more"."""
    names = list(map(str, names))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
