"""The table of images that every other room reads: one row an image, with its label, its group and its masks."""

import json
import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from common.data.cache import digest, for_each
from common.data.images import Filter, cache_pixels, content_key, is_image, read_image
from common.errors import UsageError
from common.runs.files import atomic

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """A data set on disk.

    `manifest` has the columns `image` (posix path relative to `data_dir`, unique), `label` (class name, "" if
    unlabelled), `group` (images of one slide, lesion or patient share it) and any number of `mask_<name>` (relative
    path, "" = none). A study adds `split`.
    """

    name: str
    data_dir: Path
    manifest: pd.DataFrame
    synthetic: bool = False
    official_counts: dict[str, int] | None = None
    left_out: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = {"image", "label", "group"} - set(self.manifest.columns)
        if missing:
            raise ValueError(f"the manifest lacks the columns {sorted(missing)}")
        twice = self.manifest["image"][self.manifest["image"].duplicated()]
        if len(twice):
            raise UsageError(f"{self.data_dir}: the image {twice.iloc[0]} is listed more than once")


def class_names(manifest: pd.DataFrame) -> tuple[str, ...]:
    """The class names, sorted; unlabelled rows do not count."""
    return tuple(sorted({str(label) for label in manifest["label"] if label}))


def folders_dataset(
    data_dir: Path | str, group_pattern: str | None = None, mask_dir: Path | str | None = None, *, every_mask: bool = False
) -> Dataset:
    """Anyone's images: one folder per class, images at any depth inside it.

    `group_pattern` is a regular expression searched in each image's path (relative to `data_dir`, with `/`); its first
    bracketed part, or the whole match, names the group within the class. Without it every image is its own group.
    `mask_dir` holds masks named like the images (`<stem>.*` or `<stem>_segmentation.*`, also under `<class>/`); they
    become the column `mask_lesion`; with `every_mask` each of them must have its image. UsageError: missing folder, no or
    one class, a class without images, a pattern that is wrong or does not match, no mask found, a mask without its image.
    """
    root = Path(data_dir)
    if not root.is_dir():
        raise UsageError(f"--data-dir {root}: no such folder; expected one folder of images per class in it")
    masks = Path(mask_dir) if mask_dir is not None else None
    folders = [f for f in sorted(root.iterdir()) if f.is_dir() and not f.name.startswith((".", "__"))]
    if masks is not None:
        folders = [f for f in folders if f.resolve() != masks.resolve()]
    if len(folders) < 2:
        found = f"only {folders[0].name}" if folders else "none"
        raise UsageError(f"--data-dir {root}: expected a folder for each of at least two classes, found {found}")
    pattern = _compile(group_pattern)
    rows = []
    for folder in folders:
        files = sorted(path for path in folder.rglob("*") if is_image(path) and path.is_file())
        if not files:
            raise UsageError(f"--data-dir {root}: the class folder {folder.name} holds no images")
        for path in files:
            name = path.relative_to(root).as_posix()
            rows.append({"image": name, "label": folder.name, "group": _group(pattern, name, folder.name)})
    manifest = pd.DataFrame(rows)
    if masks is not None:
        manifest["mask_lesion"] = find_masks(root, manifest["image"], masks, every_mask=every_mask)
    return Dataset("folders", root, manifest)


def _compile(group_pattern: str | None) -> re.Pattern[str] | None:
    try:
        return None if group_pattern is None else re.compile(group_pattern)
    except re.error as error:
        raise UsageError(f"--group-pattern {group_pattern!r} is not a regular expression: {error}") from None


def _group(pattern: re.Pattern[str] | None, name: str, label: str) -> str:
    if pattern is None:
        return name
    match = pattern.search(name)
    if match is None:
        raise UsageError(f"--group-pattern {pattern.pattern!r} does not match the image {name}")
    part = match.group(1) if pattern.groups else match.group(0)
    if not part:
        raise UsageError(f"--group-pattern {pattern.pattern!r} gives an empty group for the image {name}")
    return f"{label}/{part}"


def find_masks(root: Path, images: "pd.Series[str]", mask_dir: Path, *, every_mask: bool = False) -> list[str]:
    """For each image the mask with its stem (alone, or with `_segmentation`), as a path relative to `root`; "" where
    there is none.

    UsageError: missing folder, no mask of any image; with `every_mask` also masks that are named like no image, the first three of them.
    """
    if not mask_dir.is_dir():
        raise UsageError(f"--mask-dir {mask_dir}: no such folder")
    by_stem: dict[str, str] = {}
    for path in sorted(p for p in mask_dir.rglob("*") if is_image(p) and p.is_file()):
        relative = Path(os.path.relpath(path, root)).as_posix()
        inside = path.relative_to(mask_dir).with_suffix("").as_posix().removesuffix("_segmentation")
        by_stem[inside] = relative
        by_stem.setdefault(inside.rsplit("/", 1)[-1], relative)
    found = []
    known: set[str] = set()
    for image in images:
        whole = str(Path(image).with_suffix("").as_posix())
        known |= {whole, whole.rsplit("/", 1)[-1]}
        found.append(by_stem.get(whole) or by_stem.get(whole.rsplit("/", 1)[-1]) or "")
    strangers = sorted({path for key, path in by_stem.items() if not {key, key.rsplit("/", 1)[-1]} & known})
    if every_mask and strangers and any(found):
        more = f" and {len(strangers) - 3} more" if len(strangers) > 3 else ""
        raise UsageError(
            f"--mask-dir {mask_dir}: masks of unknown images: {', '.join(strangers[:3])}{more}; expected <image>.png or "
            "<image>_segmentation.png for an image of --data-dir"
        )
    if not any(found):
        raise UsageError(f"--mask-dir {mask_dir}: no mask is named like an image (expected <image>.png or <image>_segmentation.png)")
    return found


def file_sizes(dataset: Dataset) -> list[int]:
    """Bytes of every image file, in the manifest's order; UsageError for one that is missing."""
    try:
        return [(dataset.data_dir / name).stat().st_size for name in dataset.manifest["image"]]
    except FileNotFoundError as error:
        raise UsageError(f"image not found: {error.filename}") from None


def fingerprint(dataset: Dataset) -> str:
    """16 hexadecimal digits that stand for the data: SHA-256 over (image, label, group, file size), sorted by image."""
    table = dataset.manifest[["image", "label", "group"]].astype(str).assign(size=file_sizes(dataset)).sort_values("image")
    return digest(value for row in table.itertuples(index=False) for value in row)


def unreadable(dataset: Dataset, progress: bool = False) -> dict[str, str]:
    """Decode every image whole; name -> reason for those that cannot be (missing, truncated, not an image), sorted by
    name.
    """
    names = list(dataset.manifest["image"])
    reasons: dict[str, str] = {}

    def work(row: int) -> None:
        try:
            read_image(dataset.data_dir / names[row])
        except UsageError as error:
            reasons[names[row]] = str(error)

    for_each(work, len(names), f"{dataset.name}: checking images", progress)
    return dict(sorted(reasons.items()))


def check_readable(
    dataset: Dataset,
    skip_unreadable: bool = False,
    cache_dir: Path | str | None = None,
    pixels: tuple[int, Filter] | None = None,
) -> Dataset:
    """The data set if every image decodes; otherwise UsageError with the names, or, with `skip_unreadable`, the data
    set without them.

    With `cache_dir` the verdict is noted there for these very files (names, sizes and times of change), so that only the first run pays
    for it and a file that was replaced is looked at again. With `pixels` too (side and filter that the caller will ask `cached_images`
    for), that cache is filled while the files are looked at, so every image is decoded once and not twice.
    """
    note = None
    if cache_dir is not None:
        with suppress(UsageError):  # a missing file is listed below with the other unreadable ones
            key = content_key(dataset.data_dir, [str(name) for name in dataset.manifest["image"]], "checked")
            note = Path(cache_dir) / "checked" / f"{dataset.name}-{key}.json"
    if note is not None and note.is_file():
        bad = json.loads(note.read_text())
    else:
        if note is None or cache_dir is None or pixels is None:
            bad = unreadable(dataset, progress=True)
        else:
            bad = cache_pixels(dataset, *pixels, cache_dir, progress=True)
        if note is not None:
            with atomic(note) as temporary:
                temporary.write_text(json.dumps(bad), encoding="utf-8")
    if not bad:
        return dataset
    if not skip_unreadable:
        names = ", ".join(list(bad)[:10]) + (f" and {len(bad) - 10} more" if len(bad) > 10 else "")
        raise UsageError(f"{dataset.data_dir}: cannot read {len(bad)} image(s): {names}; --skip-unreadable goes on without them")
    for reason in bad.values():
        log.warning("left out: %s", reason)
    kept = dataset.manifest[~dataset.manifest["image"].isin(list(bad))].reset_index(drop=True)
    lost = set(class_names(dataset.manifest)) - set(class_names(kept))
    if lost:
        raise UsageError(f"{dataset.data_dir}: no readable image is left of the class {', '.join(sorted(lost))}")
    return replace(dataset, manifest=kept, left_out={**dataset.left_out, "unreadable images": len(bad)})
