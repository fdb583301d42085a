"""Anyone's images: one folder per class."""

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from common.data.dataset import Dataset
from common.data.masks import find_masks
from common.data.readable import passed_over
from common.data.walk import Walk, walk
from common.errors import UsageError

_SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
OUTSIDE = "images outside the class folders"


def folders_dataset(
    data_dir: Path | str, group_pattern: str | None = None, mask_dir: Path | str | None = None, *, every_mask: bool = False
) -> Dataset:
    """Anyone's images: one folder per class, images at any depth inside it.

    `group_pattern` is a regular expression searched in each image's path (relative to `data_dir`, with `/`); its first
    bracketed part, or the whole match, names the group. A group is what it is: a slide or patient with images of two
    classes stays one. Without it every image is its own group. `mask_dir` holds masks named like the images
    (`masks.find_masks`); they become the column `mask_lesion`; with `every_mask` each of them must have its image.

    Raises:
        UsageError: missing folder, no or one class, a class without images, an already split download, a pattern that is wrong or does
            not match, no mask found, a mask that fits two images, a mask without its image.
    """
    root = Path(data_dir)
    if not root.is_dir():
        raise UsageError(f"--data-dir {root}: no such folder; expected one folder of images per class in it")
    masks = Path(mask_dir) if mask_dir is not None else None
    found = walk(root, without=[masks] if masks is not None else [])
    _check_classes(root, found)
    try:
        pattern = None if group_pattern is None else re.compile(group_pattern)
    except re.error as error:
        raise UsageError(f"--group-pattern {group_pattern!r} is not a regular expression: {error}") from None
    images = [name for name in found.images if "/" in name]
    labels = {folder: as_text(folder) for folder in found.folders}
    rows = [{"image": name, "label": labels[name.partition("/")[0]], "group": group_of(pattern, name)} for name in images]
    manifest = pd.DataFrame(rows)
    left_out = found.reasons()
    if len(images) < len(found.images):
        left_out[OUTSIDE] = len(found.images) - len(images)
    if masks is not None:
        manifest["mask_lesion"], beside = find_masks(root, images, masks, every_mask=every_mask)
        left_out |= beside
    return Dataset("folders", root, manifest, left_out=left_out)


def _check_classes(root: Path, found: Walk) -> None:
    split = [name for name in found.folders if name.lower() in _SPLITS]
    below = {name: {path.split("/")[1] for path in found.images if path.startswith(f"{name}/") and path.count("/") > 1} for name in split}
    if len(split) > 1 and set.intersection(*below.values()):
        classes = ", ".join(map(as_text, sorted(set.intersection(*below.values()))[:4]))
        largest = max(split, key=lambda name: sum(path.startswith(f"{name}/") for path in found.images))
        raise UsageError(
            f"--data-dir {root}: {' and '.join(split)} look like a split, not like classes: each holds {classes}; expected one folder "
            f"per class (this suite splits itself), such as --data-dir {root / largest}, or all parts merged by class"
        )
    if len(found.folders) < 2:
        only = f"only {as_text(found.folders[0])}" if found.folders else "none"
        raise UsageError(f"--data-dir {root}: expected a folder for each of at least two classes, found {only}")
    filled = {name.partition("/")[0] for name in found.images if "/" in name}
    for folder in found.folders:
        if folder not in filled:
            others = passed_over(found.reasons(folder), "; it holds ")
            raise UsageError(f"--data-dir {root}: the class folder {as_text(folder)} holds no images that are read{others}")


def as_text(name: str) -> str:
    """A file's name as text: accents in one form, and bytes that are no UTF-8 as Windows wrote them (a zip of other times)."""
    raw = os.fsencode(name)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
    return unicodedata.normalize("NFC", text)


def group_of(pattern: re.Pattern[str] | None, name: str) -> str:
    """The group that the pattern finds in an image's path (see `folders_dataset`). UsageError where it finds none."""
    if pattern is None:
        return name
    match = pattern.search(name)
    if match is None:
        raise UsageError(f"--group-pattern {pattern.pattern!r} does not match the image {name}")
    part = match.group(1) if pattern.groups else match.group(0)
    if not part:
        raise UsageError(f"--group-pattern {pattern.pattern!r} gives an empty group for the image {name}")
    return part


def groups_in_several_classes(manifest: pd.DataFrame) -> Sequence[str]:
    """Names of the groups that hold images of more than one class, sorted."""
    labels = manifest[manifest["label"] != ""].groupby("group")["label"].nunique()
    return sorted(str(name) for name in labels.index[labels > 1])
