"""Dataset A (images, indicator masks, diagnoses) and Dataset B (images only), and the paper's split (§5.1).

Dataset A is ISIC 2018 Task 2 as distributed: images `ISIC_x.jpg`, masks `ISIC_x_attribute_<indicator>.png`, in any folders below
the data folder; images below a folder called `…Validation…` are the official validation set. Folders `images/` and `lesion_masks/`
(`ISIC_x_segmentation.png`) give the single indicator `lesion`. Task 2 has no diagnoses: they come from the ISIC 2019 ground truth
(DEVIATIONS, "Further deviations"). Images may be of any sizes, mixed: each is resized to the network's square together with its masks. A
mask of another size than its image is refused, since nothing says which part of the image it belongs to. Dataset B is any folder of images,
minus what also is in Dataset A.
"""

import logging
import os
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from common.data.dataset import Dataset
from common.data.dermoscopy import image_id, is_beside, listed, read_labels, read_lesions, read_table, sort_files
from common.data.folders import folders_dataset
from common.data.images import Filter
from common.data.masks import check_masks, mask_presence, mask_states
from common.data.readable import check_readable
from common.data.sample import ensure_sample
from common.data.splits import grouped_folds, grouped_split, limit_per_class, stratified_split
from common.data.walk import walk
from common.errors import UsageError
from melanoma.experiments.base import CLASSES, INDICATORS, LESION, Dermoscopy, MelanomaSettings
from melanoma.labels import check_against_masks, indicator_labels

log = logging.getLogger(__name__)

FRACTIONS = (0.8, 0.1, 0.1)
GROUND_TRUTH = "ISIC_2019_Training_GroundTruth.csv"
_MELANOMA_FOLDERS = {"mel", "melanoma"}


def is_official_validation(name: str) -> bool:
    """Whether an image's path lies in a folder of the official validation set."""
    return any("validation" in part.lower() for part in Path(name).parent.parts)


def _pixels(settings: Dermoscopy) -> tuple[int, Filter] | None:
    """Side and filter of the images that training will ask for; None where most or all of them are not trained on."""
    if settings.limit is not None or not isinstance(settings, MelanomaSettings):
        return None
    return settings.image_size, settings.resize_filter


def load(settings: Dermoscopy, check: bool = True, undiagnosed: bool = False) -> Dataset:
    """Dataset A: columns image, label (melanoma, other, "" = no diagnosis), group (lesion where known), `mask_<indicator>`, and
    `has_<indicator>` ("0" or "1") with `--indicator-labels`.

    `check=False` leaves unreadable images and unusable masks in, for the audit to find; `undiagnosed` the images that nothing can be taught
    with, for Table 1 to count.

    Raises:
        UsageError: no images or masks; masks that are missing for an image (listed), are not binary or not of their image's size; no
            labels; unreadable images.
    """
    if settings.dataset == "sample":
        folder = ensure_sample("isic2018", settings.cache_dir)
        dataset = replace(_isic(folder, settings, undiagnosed), name="sample", synthetic=True)
    elif settings.dataset == "folders":
        dataset = _folders(settings)
    else:
        assert settings.data_dir is not None  # checked with the options
        dataset = _isic(settings.data_dir, settings, undiagnosed)
    if settings.indicator_labels is not None:
        stems = [Path(name).stem for name in dataset.manifest["image"]]
        labels = indicator_labels(settings.indicator_labels, stems).set_axis(dataset.manifest.index)
        dataset = replace(dataset, manifest=pd.concat([dataset.manifest, labels], axis=1))
    if check:
        dataset = check_readable(dataset, settings.skip_unreadable, settings.cache_dir, _pixels(settings))
    if settings.limit is not None:
        kept = limit_per_class(dataset.manifest, settings.limit).reset_index(drop=True)
        dataset = replace(dataset, manifest=kept)
    if check:
        found = presence(dataset, settings.cache_dir)  # complains of unusable masks before anything is trained
        check_against_masks(found, dataset.manifest["image"], settings.indicator_labels)
    return dataset


def _folders(settings: Dermoscopy) -> Dataset:
    """Anyone's images, one folder a class, one of them called melanoma (or mel); `--mask-dir` holds the lesion masks."""
    assert settings.data_dir is not None
    dataset = folders_dataset(settings.data_dir, settings.group_pattern, settings.mask_dir)
    melanoma = dataset.manifest["label"].str.lower().isin(_MELANOMA_FOLDERS)
    if not melanoma.any():
        raise UsageError(f"--data-dir {settings.data_dir}: no class folder is called melanoma or mel")
    if "mask_lesion" not in dataset.manifest:
        raise UsageError("--dataset folders: expected --mask-dir with one mask an image")
    missing = dataset.manifest.loc[dataset.manifest["mask_lesion"] == "", "image"]
    _missing_masks(list(missing), settings)
    return replace(dataset, manifest=dataset.manifest.assign(label=np.where(melanoma, *CLASSES)))


def _isic(folder: Path, settings: Dermoscopy, undiagnosed: bool = False) -> Dataset:
    found = walk(folder)
    paths, left_out = list(found.images), found.reasons()
    if settings.mask_dir is not None:
        away = Path(os.path.relpath(settings.mask_dir.resolve(), folder.resolve())).as_posix()
        beside = walk(settings.mask_dir, "--mask-dir")
        paths += [name if away == "." else f"{away}/{name}" for name in beside.images if away == "." or is_beside(name)]
    files = sort_files(dict.fromkeys(map(os.path.normpath, paths)), folder)
    images, masks = files.images, files.masks
    if not images:
        raise UsageError(f"--data-dir {folder}: no images; expected ISIC_*.jpg and ISIC_*_attribute_*.png (or images/ and lesion_masks/)")
    attributes = [name for name in masks if name != LESION]
    # Lesion masks are one indicator when that is all there is; beside the attributes they are Task 1's and not used.
    names = sorted(attributes, key=_order) if attributes else list(masks)
    if not names:
        raise UsageError(f"--data-dir {folder}: no masks; expected ISIC_*_attribute_*.png or lesion_masks/ISIC_*_segmentation.png")
    if settings.indicators is not None:  # a mask that nobody asked for may be missing or broken
        names = [name for name in names if name in settings.indicators] or names
    missing = [f"{stem} ({name})" for name in names for stem in images if stem not in masks[name]]
    _missing_masks(missing, settings)
    manifest = pd.DataFrame({"image": list(images.values())})
    diagnosis, lesion_of, source = _diagnoses(folder, settings)
    manifest["label"] = [diagnosis.get(stem, "") for stem in images]
    manifest["group"] = [lesion_of.get(stem) or stem for stem in images]
    for name in names:
        manifest[f"mask_{name}"] = [masks[name].get(stem, "") for stem in images]
    if not (manifest["label"] != "").any():
        raise UsageError(f"--labels-csv {source.name}: names none of the {len(images)} images; expected ISIC ids such as ISIC_0000000")
    # An official validation image without a diagnosis still shows where its indicators are; others teach nothing.
    useless = (manifest["label"] == "") & ~manifest["image"].map(is_official_validation) & (not undiagnosed)
    left_out |= {"images without a diagnosis": int(useless.sum())} if useless.any() else {}
    name = "ham10000" if settings.dataset == "ham10000" else "isic2018"
    # No official counts: those of Task 2 are of indicators (Table 1, in the audit's indicators.md), not of diagnoses.
    return Dataset(name, folder, manifest[~useless].reset_index(drop=True), left_out=left_out)


def _known(name: str, data_dir: Path, labels_csv: Path | None) -> Dataset:
    return _isic(data_dir, Dermoscopy(dataset=name, data_dir=data_dir, labels_csv=labels_csv, missing_mask="empty"))


# Known sets as distributed, (data_dir, labels_csv) -> Dataset, for `validate --dataset`.
LOADERS = {name: partial(_known, name) for name in ("isic2018", "ham10000")}


def _order(name: str) -> tuple[int, str]:
    return (INDICATORS.index(name) if name in INDICATORS else len(INDICATORS), name)


def _missing_masks(missing: list[str], settings: Dermoscopy) -> None:
    if not missing:
        return
    if settings.missing_mask == "error":
        raise UsageError(f"no mask file for {listed(missing)}; --missing-mask empty takes them as empty masks")
    log.warning("%d missing masks are taken as empty: %s", len(missing), listed(missing))


def _diagnoses(folder: Path, settings: Dermoscopy) -> tuple[dict[str, str], dict[str, str], Path]:
    """Diagnosis and lesion of every image id, and the file they come from (ISIC 2019 ground truth, or HAM10000's metadata)."""
    candidates = [settings.labels_csv] if settings.labels_csv is not None else [
        *sorted(folder.rglob("*GroundTruth.csv")), folder.parent / "isic2019" / GROUND_TRUTH, folder / "HAM10000_metadata.csv",
    ]  # fmt: skip
    source = next((path for path in candidates if path is not None and path.is_file()), None)
    if source is None:
        raise UsageError(f"--labels-csv: Dataset A has no diagnoses of its own; expected {GROUND_TRUTH} (columns image, MEL, NV, …)")
    table = read_labels(source, "--labels-csv")
    if not {"MEL", "DX"} & set(read_table(source).columns.str.upper()):
        raise UsageError(f"--labels-csv {source}: expected the columns image and MEL (ISIC 2019 ground truth), or image_id and dx")
    diagnosis = {image_id(name): CLASSES[0 if label.upper() == "MEL" else 1] for name, label in table.items() if label}
    lesions = {image_id(name): lesion for name, lesion in read_lesions(source).items()}
    return diagnosis, lesions, source


def presence(dataset: Dataset, cache_dir: Path, strict: bool = True) -> pd.DataFrame:
    """Bool `(n,)` a column: `<indicator>` of each kind of mask, whether the image's, at its own size, holds anything; `has_<indicator>` of
    each label. Table 1 counts these.

    Raises:
        UsageError: names the first masks that are missing, not understood or not of their image's size; without `strict` those count as
            absent (the audit lists them).
    """
    states = check_masks(dataset, cache_dir) if strict else mask_states(dataset, cache_dir)
    labels = {name: dataset.manifest[name] == "1" for name in dataset.manifest if name.startswith("has_")}
    return mask_presence(dataset.manifest, states).assign(**labels)


def present(dataset: Dataset, cache_dir: Path, strict: bool = True) -> pd.DataFrame:
    """Bool `(n,)` an indicator, by label where there are labels, else by mask; arguments and errors as in `presence`."""
    found = presence(dataset, cache_dir, strict)
    labelled = {name.removeprefix("has_"): found[name] for name in found if name.startswith("has_")}
    return found.drop(columns=[f"has_{name}" for name in labelled]).assign(**labelled)


def indicators_of(dataset: Dataset, wanted: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """The data set's indicators, or those wanted of them: those that have labels, else those that have masks. UsageError for any other."""
    masks, labels = (tuple(name.removeprefix(kind) for name in dataset.manifest if name.startswith(kind)) for kind in ("mask_", "has_"))
    known = labels or masks
    for name in wanted or ():
        if name not in known:
            raise UsageError(f"--indicators {name}: no {'labels' if labels else 'masks'} of that name; expected some of {', '.join(known)}")
    return tuple(wanted) if wanted else known


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


def split(manifest: pd.DataFrame, name: str, seed: int, folds: int = 0, fold: int = 0) -> pd.DataFrame:
    """`paper`, or `grouped`: 80/10/10 of all labelled images with no lesion on two sides. With `folds` fold number `fold` of them is the
    test set, and an eighth of the others validates.
    """
    if name == "paper":
        return paper_split(manifest, seed)
    labelled = manifest[manifest["label"] != ""]
    if not folds:
        return grouped_split(labelled, FRACTIONS, seed)
    others = grouped_split(labelled[grouped_folds(labelled, folds, seed) != fold], (7 / 8, 1 / 8, 0.0), seed)
    return labelled.assign(split=others["split"].reindex(labelled.index, fill_value="test"))


def split_note(manifest: pd.DataFrame, name: str, folds: int = 0, fold: int = 0) -> str:
    """One sentence for the report: which split, how large, and how many images of each indicator the test rests on."""
    sizes = manifest["split"].value_counts()
    kind = (
        (f"whole lesions, fold {fold} of {folds} (from 0) as test set" if folds else "whole lesions, 80/10/10")
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


def unlabelled(settings: Dermoscopy, dataset: Dataset) -> tuple[Dataset, dict[str, int]]:
    """Dataset B without Dataset A's images: (data set, {"images", "same_id", "renamed", "kept"}).

    Renamed ids count (`ISIC_x_downsampled`). Masks lying in the folder are not images of it.
    """
    if settings.dataset == "sample" and settings.unlabelled_dir is None:
        folder, synthetic = ensure_sample("isic2019", settings.cache_dir), True
    else:
        if settings.unlabelled_dir is None:
            raise UsageError("--unlabelled-dir: expected a folder of images for SimCLR (Dataset B)")
        folder, synthetic = settings.unlabelled_dir, dataset.synthetic
    found = walk(folder, "--unlabelled-dir")
    files = [name for name in found.images if not is_beside(name)]
    ours = {image_id(name) for name in dataset.manifest["image"]}
    same = {name for name in files if PurePosixPath(name).stem in ours}
    renamed = {name for name in files if image_id(name) in ours} - same
    kept = [name for name in files if name not in same | renamed]
    counts = {"images": len(files), "same_id": len(same), "renamed": len(renamed), "kept": len(kept)}
    if len(kept) < 2:
        raise UsageError(f"--unlabelled-dir {folder}: {len(files)} images, {len(kept)} of them not in Dataset A; expected at least 2")
    table = pd.DataFrame({"image": kept, "label": "", "group": kept})
    result = Dataset("dataset_b", folder, table, synthetic=synthetic, left_out=found.reasons())
    result = check_readable(result, settings.skip_unreadable, settings.cache_dir, _pixels(settings))
    if settings.limit is not None:
        result = replace(result, manifest=result.manifest.iloc[: settings.limit].reset_index(drop=True))
    return result, counts


def overlap_note(counts: dict[str, int]) -> str:
    """One sentence for the report of every run that saw Dataset B: how many images the two sets share, and that those were left out."""
    return (
        f"Dataset B: {counts['images']} images; {counts['same_id']} left out because Dataset A has the same id, {counts['renamed']} "
        f"more because it has the id without `_downsampled`; {counts['kept']} kept. Their labels are not used."
    )
