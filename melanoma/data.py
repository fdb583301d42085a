"""Dataset A (images, indicator masks, diagnoses) and Dataset B (images only), and the paper's split (§5.1).

Dataset A is ISIC 2018 Task 2 as distributed: images `ISIC_x.jpg`, masks `ISIC_x_attribute_<indicator>.png`, in any folders below
the data folder; images below a folder called `…Validation…` are the official validation set. Folders `images/` and `lesion_masks/`
(`ISIC_x_segmentation.png`) give the single indicator `lesion`. Task 2 has no diagnoses: they come from the ISIC 2019 ground truth
(DEVIATIONS, "Further deviations"). Images may be of any sizes, mixed: each is resized to the network's square together with its masks. A
mask of another size than its image is refused, since nothing says which part of the image it belongs to. Dataset B is any folder of images,
minus what also is in Dataset A.
"""

import json
import logging
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from common.data.cache import digest, for_each
from common.data.images import IMAGE_SUFFIXES, Filter, is_image, read_mask
from common.data.manifest import Dataset, check_readable, fingerprint, folders_dataset
from common.data.sample import ensure_sample
from common.data.splits import grouped_split, limit_per_class, stratified_split
from common.errors import UsageError
from common.runs import atomic
from melanoma.config import CLASSES, INDICATORS, AuditOptions, MelanomaOptions, resolve

log = logging.getLogger(__name__)

FRACTIONS = (0.8, 0.1, 0.1)
GROUND_TRUTH = "ISIC_2019_Training_GroundTruth.csv"
_ATTRIBUTE = re.compile(r"(?P<image>.+)_attribute_(?P<name>[a-z_]+)$")
_LESION = re.compile(r"(?P<image>.+)_segmentation$")
_MELANOMA_FOLDERS = {"mel", "melanoma"}


def image_id(name: str) -> str:
    """Id of an image or of its renamed copy: no folder, no suffix, no `_downsampled` (ISIC 2019 renamed 1821 images so)."""
    return Path(name).stem.removesuffix("_downsampled")


def is_official_validation(name: str) -> bool:
    """Whether an image's path lies in a folder of the official validation set."""
    return any("validation" in part.lower() for part in Path(name).parent.parts)


def _pixels(options: MelanomaOptions) -> tuple[int, Filter] | None:
    """Side and filter of the images that training will ask for; None where most or all of them are not trained on."""
    if options.limit is not None or isinstance(options, AuditOptions):
        return None
    settings = resolve(options, ())
    return settings.image_size, settings.resize_filter


def load(options: MelanomaOptions, check: bool = True) -> Dataset:
    """Dataset A: columns image, label (melanoma, other, "" = no diagnosis), group (lesion where known) and `mask_<indicator>`.

    `check=False` leaves unreadable images and unusable masks in, for the audit to find.

    Raises:
        UsageError: no images or masks; masks that are missing for an image (listed), are not binary or not of their image's size; no
            labels; unreadable images.
    """
    if options.dataset == "sample":
        folder = ensure_sample("isic2018", options.cache_dir)
        dataset = replace(_isic(folder, options), name="sample", synthetic=True)
    elif options.dataset == "folders":
        dataset = _folders(options)
    else:
        assert options.data_dir is not None  # checked with the options
        dataset = _isic(options.data_dir, options)
    if check:
        dataset = check_readable(dataset, options.skip_unreadable, options.cache_dir, _pixels(options))
    if options.limit is not None:
        kept = limit_per_class(dataset.manifest, options.limit).reset_index(drop=True)
        dataset = replace(dataset, manifest=kept)
    if check:
        presence(dataset, options.cache_dir)  # complains of unusable masks before anything is trained
    return dataset


def _folders(options: MelanomaOptions) -> Dataset:
    """Anyone's images, one folder a class, one of them called melanoma (or mel); `--mask-dir` holds the lesion masks."""
    assert options.data_dir is not None
    dataset = folders_dataset(options.data_dir, options.group_pattern, options.mask_dir)
    melanoma = dataset.manifest["label"].str.lower().isin(_MELANOMA_FOLDERS)
    if not melanoma.any():
        raise UsageError(f"--data-dir {options.data_dir}: no class folder is called melanoma or mel")
    if "mask_lesion" not in dataset.manifest:
        raise UsageError("--dataset folders: expected --mask-dir with one mask an image")
    missing = dataset.manifest.loc[dataset.manifest["mask_lesion"] == "", "image"]
    _missing_masks(list(missing), options)
    return replace(dataset, manifest=dataset.manifest.assign(label=np.where(melanoma, *CLASSES)))


def _isic(folder: Path, options: MelanomaOptions) -> Dataset:
    files = sorted(path for path in folder.rglob("*") if is_image(path))
    if options.mask_dir is not None:
        files += sorted(path for path in options.mask_dir.rglob("*") if is_image(path))
    images: dict[str, Path] = {}
    masks: dict[str, dict[str, str]] = {}
    for path in files:
        attribute, lesion = _ATTRIBUTE.match(path.stem), _LESION.match(path.stem)
        if attribute or lesion:
            name, stem = (attribute["name"], attribute["image"]) if attribute else ("lesion", lesion["image"])  # type: ignore[index]
            of_name, found = masks.setdefault(name, {}), _relative(path, folder)
            if of_name.setdefault(stem, found) != found:
                raise UsageError(f"{folder}: the {name} mask of {stem} is there twice: {of_name[stem]}, {found}")
        elif not path.stem.endswith("_superpixels"):
            if path.stem in images:
                raise UsageError(f"{folder}: the image {path.stem} is there twice: {images[path.stem].name}, {path.name}")
            images[path.stem] = path
    if not images:
        raise UsageError(f"--data-dir {folder}: no images; expected ISIC_*.jpg and ISIC_*_attribute_*.png (or images/ and lesion_masks/)")
    attributes = [name for name in masks if name != "lesion"]
    # Lesion masks are one indicator when that is all there is; beside the attributes they are Task 1's and not used.
    names = sorted(attributes, key=_order) if attributes else list(masks)
    if not names:
        raise UsageError(f"--data-dir {folder}: no masks; expected ISIC_*_attribute_*.png or lesion_masks/ISIC_*_segmentation.png")
    if options.indicators is not None:  # a mask that nobody asked for may be missing or broken
        names = [name for name in names if name in options.indicators] or names
    missing = [f"{stem} ({name})" for name in names for stem in images if stem not in masks[name]]
    _missing_masks(missing, options)
    manifest = pd.DataFrame({"image": [_relative(path, folder) for path in images.values()]})
    diagnosis, lesion_of, source = _diagnoses(folder, options)
    manifest["label"] = [diagnosis.get(stem, "") for stem in images]
    manifest["group"] = [lesion_of.get(stem) or stem for stem in images]
    for name in names:
        manifest[f"mask_{name}"] = [masks[name].get(stem, "") for stem in images]
    if not (manifest["label"] != "").any():
        raise UsageError(f"--labels-csv {source.name}: names none of the {len(images)} images; expected ISIC ids such as ISIC_0000000")
    # An official validation image without a diagnosis still shows where its indicators are; others teach nothing.
    useless = (manifest["label"] == "") & ~manifest["image"].map(is_official_validation)
    left_out = {"images without a diagnosis": int(useless.sum())} if useless.any() else {}
    name = "ham10000" if options.dataset == "ham10000" else "isic2018"
    # No official counts: those of Task 2 are of indicators (Table 1, in the audit's indicators.md), not of diagnoses.
    return Dataset(name, folder, manifest[~useless].reset_index(drop=True), left_out=left_out)


def _relative(path: Path, folder: Path) -> str:
    # os.path: a mask folder may lie outside the data folder.
    return Path(os.path.relpath(path, folder)).as_posix()


def _order(name: str) -> tuple[int, str]:
    return (INDICATORS.index(name) if name in INDICATORS else len(INDICATORS), name)


def _missing_masks(missing: list[str], options: MelanomaOptions) -> None:
    if not missing:
        return
    shown = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
    if options.missing_mask == "error":
        raise UsageError(f"no mask file for {shown}; --missing-mask empty takes them as empty masks")
    log.warning("%d missing masks are taken as empty: %s", len(missing), shown)


def _diagnoses(folder: Path, options: MelanomaOptions) -> tuple[dict[str, str], dict[str, str], Path]:
    """Diagnosis and lesion of every image id, and the file they come from (ISIC 2019 ground truth, or HAM10000's metadata)."""
    candidates = [options.labels_csv] if options.labels_csv is not None else [
        *sorted(folder.rglob("*GroundTruth.csv")), folder.parent / "isic2019" / GROUND_TRUTH, folder / "HAM10000_metadata.csv",
    ]  # fmt: skip
    source = next((path for path in candidates if path is not None and path.is_file()), None)
    if source is None:
        raise UsageError(f"--labels-csv: Dataset A has no diagnoses of its own; expected {GROUND_TRUTH} (columns image, MEL, NV, …)")
    table = _read_csv(source)
    if {"image_id", "dx"} <= set(table.columns):
        ids = table["image_id"].astype(str)
        diagnosis = {image_id(i): CLASSES[0] if dx == "mel" else CLASSES[1] for i, dx in zip(ids, table["dx"], strict=True)}
        lesions = dict(zip(ids, table["lesion_id"].fillna("").astype(str), strict=True)) if "lesion_id" in table else {}
        return diagnosis, lesions, source
    if not {"image", "MEL"} <= set(table.columns):
        raise UsageError(
            f"--labels-csv {source}: expected the columns image and MEL (ISIC 2019 ground truth) or image_id and dx (HAM10000)"
        )
    # Ground truth columns hold 0 and 1; a column of text (a note, an age) is none.
    known = [name for name in table.columns if name not in ("image", "UNK") and pd.api.types.is_numeric_dtype(table[name])]
    if "MEL" not in known:
        raise UsageError(
            f"--labels-csv {source}: the column MEL holds {table['MEL'].iloc[0] if len(table) else 'nothing'}, expected 0 and 1"
        )
    table = table[table[known].sum(axis=1) == 1]
    diagnosis = {image_id(i): CLASSES[0] if m else CLASSES[1] for i, m in zip(table["image"].astype(str), table["MEL"] == 1, strict=True)}
    metadata = source.with_name(source.name.replace("GroundTruth", "Metadata"))
    lesions = {}
    if metadata.is_file():
        rows = _read_csv(metadata, dtype=str, keep_default_na=False)
        if {"image", "lesion_id"} <= set(rows.columns):
            lesions = {image_id(i): lesion for i, lesion in zip(rows["image"], rows["lesion_id"], strict=True) if lesion}
    return diagnosis, lesions, source


def _read_csv(path: Path, **how: Any) -> pd.DataFrame:
    """A table, or UsageError in one line when the file is none."""
    try:
        return pd.read_csv(path, **how)
    except (ValueError, OSError) as error:  # pandas' parser errors and wrong encodings are ValueErrors
        raise UsageError(f"--labels-csv {path}: cannot be read as a CSV table ({str(error).strip().splitlines()[-1][:120]})") from None


def presence(dataset: Dataset, cache_dir: Path, strict: bool = True) -> pd.DataFrame:
    """One column an indicator, bool `(n,)`: whether the image's mask, at its own size, holds anything. Table 1 counts these.

    Every mask is decoded once, and checked: two values at most, its image's size. The verdict is kept in the cache folder.

    Raises:
        UsageError: names the first masks that are not binary or not of their image's size; without `strict` those count as absent and are
            logged.
    """
    columns = [name for name in dataset.manifest if name.startswith("mask_")]
    pairs = [(row["image"], row[column]) for _, row in dataset.manifest.iterrows() for column in columns if row[column]]
    sizes = [(dataset.data_dir / mask).stat().st_size for _, mask in pairs]
    note = cache_dir / "checked" / f"masks-{dataset.name}-{fingerprint(dataset)}-{digest([*pairs, *sizes])}.json"
    if note.is_file():
        verdicts = json.loads(note.read_text(encoding="utf-8"))
    else:
        found: dict[int, str] = {}

        def work(index: int) -> None:
            found[index] = _inspect(dataset.data_dir / pairs[index][0], dataset.data_dir / pairs[index][1])

        for_each(work, len(pairs), f"{dataset.name}: checking masks", progress=True)
        verdicts = {pairs[index][1]: found[index] for index in sorted(found)}
        with atomic(note) as temporary:
            temporary.write_text(json.dumps(verdicts), encoding="utf-8")
    problems = [f"{mask} {verdict}" for mask, verdict in verdicts.items() if verdict not in ("empty", "present")]
    if problems:
        said = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more masks" if len(problems) > 3 else "")
        if strict:
            raise UsageError(said)
        log.warning("%s", said)
    return pd.DataFrame(
        {name.removeprefix("mask_"): [verdicts.get(mask) == "present" for mask in dataset.manifest[name]] for name in columns}
    )


def _inspect(image: Path, mask: Path) -> str:
    """ "present", "empty", or what is wrong with the mask. Present is what `read_mask`, which training decodes with, finds something in."""
    try:
        with Image.open(mask) as opened:
            grey = opened if opened.mode in ("1", "L", "P", "I", "I;16") else opened.convert("L")
            values, size = np.unique(np.asarray(grey)), opened.size
        inside = bool(read_mask(mask).any())
    except (OSError, UsageError):
        return "is not a readable mask"
    if len(values) > 2:
        return f"is not a binary mask: it holds {len(values)} values, expected two"
    try:
        with Image.open(image) as opened:
            expected = opened.size
    except OSError:
        expected = size  # the image is what is broken: `check_readable` and the audit name it
    if expected != size:
        return f"is {size[0]}x{size[1]} pixels and its image {expected[0]}x{expected[1]}; expected the same size"
    if values.max() > 0 and not inside:
        return f"holds {values.max()} where it marks something, expected 255 (what is not above half the range counts as outside)"
    return "present" if inside else "empty"


def indicators_of(dataset: Dataset, wanted: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """The data set's indicators, or those wanted of them. UsageError for one that has no masks."""
    present = tuple(name.removeprefix("mask_") for name in dataset.manifest if name.startswith("mask_"))
    for name in wanted or ():
        if name not in present:
            raise UsageError(f"--indicators {name}: no masks of that name; expected some of {', '.join(present)}")
    return tuple(wanted) if wanted else present


def paper_split(manifest: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Column `split`: with the official validation images those are the test set and a tenth of the others selects the epoch (facts §3.2,
    row 24); without them a seeded 80/10/10 of each class. Rows keep their order; unlabelled official images are test images.

    Where none of the official images has a diagnosis, a seeded tenth of the labelled images is held out as well, to measure the diagnosis;
    localisation is measured on the official ones (`localisation_test`).
    """
    official = manifest["image"].map(is_official_validation).to_numpy(dtype=bool)
    if official.all():
        official[:] = False
    labelled = (manifest["label"] != "").to_numpy(dtype=bool)
    drawn = ~official & labelled
    # An image without a diagnosis cannot be stratified; `load` leaves such images out, other callers find them in the training part.
    split = np.where(official, "test", "train").astype(object)
    fractions = (0.9, 0.1, 0.0) if (official & labelled).any() else FRACTIONS
    split[drawn] = stratified_split(manifest[drawn], fractions, seed)["split"].to_numpy()
    return manifest.assign(split=split.astype(str))


def localisation_test(manifest: pd.DataFrame, name: str) -> np.ndarray:
    """Bool `(n,)`: the test images whose maps are scored. Under the paper's split the official ones where there are any, else all."""
    test = (manifest["split"] == "test").to_numpy(dtype=bool)
    official = test & manifest["image"].map(is_official_validation).to_numpy(dtype=bool)
    return official if name == "paper" and official.any() else test


def split(manifest: pd.DataFrame, name: str, seed: int) -> pd.DataFrame:
    """`paper`, or `grouped`: 80/10/10 of all labelled images with no lesion on two sides."""
    if name == "paper":
        return paper_split(manifest, seed)
    return grouped_split(manifest[manifest["label"] != ""], FRACTIONS, seed)


def split_note(manifest: pd.DataFrame, name: str) -> str:
    """One sentence for the report: which split, how large, and how many images of each indicator the test rests on."""
    sizes = manifest["split"].value_counts()
    kind = (
        "whole lesions, 80/10/10"
        if name == "grouped"
        else (
            "the official validation images as test set, a tenth of the training images to select the epoch"
            if manifest["image"].map(is_official_validation).any()
            else "seeded 80/10/10 (the official validation set is not there)"
        )
    )
    text = f"Split: {kind}; {sizes.get('train', 0)} train, {sizes.get('validation', 0)} validation, {sizes.get('test', 0)} test images."
    maps, diagnosed = localisation_test(manifest, name), (manifest["split"] == "test").to_numpy() & (manifest["label"] != "").to_numpy()
    if not (maps & diagnosed).any():
        text += (
            f" The {maps.sum()} official images have no diagnosis here: maps are scored on them, accuracy and AUC on {diagnosed.sum()} "
            "labelled images held out instead."
        )
    elif maps.sum() != diagnosed.sum():
        text += f" Maps are scored on {maps.sum()} of them, accuracy and AUC on the {diagnosed.sum()} with a diagnosis."
    return text


def unlabelled(options: MelanomaOptions, dataset: Dataset) -> tuple[Dataset, dict[str, int]]:
    """Dataset B without Dataset A's images: (data set, {"images", "same_id", "renamed", "kept"}).

    Renamed ids count (`ISIC_x_downsampled`). Masks lying in the folder are not images of it.
    """
    if options.dataset == "sample" and options.unlabelled_dir is None:
        folder, synthetic = ensure_sample("isic2019", options.cache_dir), True
    else:
        if options.unlabelled_dir is None:
            raise UsageError("--unlabelled-dir: expected a folder of images for SimCLR (Dataset B)")
        folder, synthetic = options.unlabelled_dir, dataset.synthetic
    files = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES and is_image(p)]
    files = [p for p in files if not (_ATTRIBUTE.match(p.stem) or _LESION.match(p.stem) or p.stem.endswith("_superpixels"))]
    ours = {image_id(name) for name in dataset.manifest["image"]}
    same = [p for p in files if p.stem in ours]
    renamed = [p for p in files if p.stem not in ours and image_id(p.name) in ours]
    dropped = {*same, *renamed}
    kept = [p for p in files if p not in dropped]
    counts = {"images": len(files), "same_id": len(same), "renamed": len(renamed), "kept": len(kept)}
    if len(kept) < 2:
        raise UsageError(f"--unlabelled-dir {folder}: {len(files)} images, {len(kept)} of them not in Dataset A; expected at least 2")
    names = [p.relative_to(folder).as_posix() for p in kept]
    result = Dataset("dataset_b", folder, pd.DataFrame({"image": names, "label": "", "group": names}), synthetic=synthetic)
    result = check_readable(result, options.skip_unreadable, options.cache_dir, _pixels(options))
    if options.limit is not None:
        result = replace(result, manifest=result.manifest.iloc[: options.limit].reset_index(drop=True))
    return result, counts


def overlap_note(counts: dict[str, int]) -> str:
    """One sentence for the report of every run that saw Dataset B: how many images the two sets share, and that those were left out."""
    return (
        f"Dataset B: {counts['images']} images; {counts['same_id']} left out because Dataset A has the same id, {counts['renamed']} "
        f"more because it has the id without `_downsampled`; {counts['kept']} kept. Their labels are not used."
    )
