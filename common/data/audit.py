"""What is in a data set on disk: counts, broken and odd files, copies, sizes, and how much each split leaks."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from common.data.audit_report import findings, markdown
from common.data.cache import for_each
from common.data.dataset import Dataset, class_names
from common.data.folders import groups_in_several_classes
from common.data.images import is_flat, read_image
from common.data.masks import EMPTY, PRESENT, mask_states
from common.data.near_copies import bound, near_pairs, perceptual_hash
from common.data.pixels import read_header
from common.data.splits import SPLITS, leakage
from common.errors import UsageError
from common.report.label_errors import errors_of_run, write_errors
from common.report.samples import some_of_each, write_pictures
from common.runs.files import atomic

log = logging.getLogger(__name__)
_SUFFIXES = {
    "BMP": ".bmp .dib", "DICOM": ".dcm .dicom", "GIF": ".gif", "JPEG": ".jpg .jpeg .jpe .jfif", "JPEG2000": ".jp2 .j2k", "PNG": ".png",
    "PPM": ".ppm .pgm .pbm .pnm", "TIFF": ".tif .tiff", "WEBP": ".webp",
}  # fmt: skip
_SAME_FORMAT = {"MPO": "JPEG", "DIB": "BMP"}  # Pillow's names for a JPEG with a second picture, and a BMP without file header
_PLAIN_MODES = ("RGB", "L")


def possible_splits(split: Callable[[str], pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """ "paper" and "grouped" -> manifest with column `split`.

    A split that the data do not allow (a class of two images, too few groups) is left out and said: what is wrong with the data is what an
    audit tells.
    """
    splits = {}
    for name in ("paper", "grouped"):
        try:
            splits[name] = split(name)
        except UsageError as error:
            log.warning("no %s split: %s", name, error)
    return splits


def audit_command(dataset: Dataset, split: Callable[[str], pd.DataFrame], folder: Path, run: Path | None = None) -> dict[str, pd.DataFrame]:
    """Audit `dataset` under both splits: audit.json, audit.md and pictures.png in `folder`, findings logged. Returns `possible_splits`.

    Give it the data set as loaded, before unreadable files are dropped. run: a finished run of these images, whose test predictions tell
    labels that are probably wrong (`common.report.label_errors`; UsageError where it is of other images).
    """
    errors = None if run is None else errors_of_run(run, dataset)
    splits = possible_splits(split)
    result = audit(dataset, splits)
    if run is not None and errors is not None:
        write_errors(errors, dataset, folder)
        said = f"of the test images of {run.name} have a label that is probably wrong: label_errors.csv, label_errors.png."
        result["findings"].append(f"{len(errors)} {said}")
    write_audit(result, folder)
    chosen = {label: [dataset.data_dir / name for name in names] for label, names in some_of_each(dataset.manifest).items()}
    write_pictures(Path(folder) / "pictures.png", chosen, f"Some pictures of {dataset.name}", synthetic=dataset.synthetic)
    for line in result["findings"]:
        log.info("%s", line)
    log.info("Report: %s", Path(folder) / "audit.md")
    return splits


def write_audit(result: dict, folder: Path | str) -> None:
    """Write audit.json and audit.md (for a person) into `folder`, each whole or not at all."""
    for name, text in (("audit.json", json.dumps(result, indent=1) + "\n"), ("audit.md", markdown(result))):
        with atomic(Path(folder) / name) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def audit(dataset: Dataset, splits: dict[str, pd.DataFrame]) -> dict:
    """Everything that can be found out without a model, as a dict that JSON can hold; every image is decoded.

    `splits` maps a split's name ("paper", "grouped") to the manifest with its column `split`; it may leave rows out.
    Keys of the result: name, synthetic, images, unlabelled, left_out, classes, official, groups, unreadable, formats, wrong_suffix, modes,
    odd_modes, turned, flat, identical, near_copies, near_bits, contradictions, sizes, masks, splits, findings (the same in sentences).
    """
    manifest = dataset.manifest
    images = list(manifest["image"])
    facts = _look_at_files(dataset)
    readable = {name: fact for name, fact in facts.items() if "error" not in fact}
    identical = _identical_files(dataset.data_dir, [name for name in images if name in facts and facts[name].get("bytes")], facts)
    hashes = np.array([fact["hash"] for fact in readable.values()], np.uint64).reshape(len(readable), -1)
    near_bits = bound(hashes, hashes)
    near = _near_copies(list(readable), hashes, near_bits, identical)
    official = dataset.official_counts
    counts, group_counts = manifest["label"].value_counts(), manifest.groupby("label")["group"].nunique()
    result = {
        "name": dataset.name,
        "synthetic": dataset.synthetic,
        "images": len(manifest),
        "unlabelled": int((manifest["label"] == "").sum()),
        "left_out": dict(dataset.left_out),
        "classes": {
            label: {
                "images": int(counts.get(label, 0)),
                "official": None if official is None else official.get(label, 0),
                "groups": int(group_counts.get(label, 0)),
            }
            for label in sorted({*class_names(manifest), *(official or {})})
        },
        "official": None if official is None else all(counts.get(label, 0) == number for label, number in official.items()),
        "groups": _group_facts(manifest),
        "unreadable": {name: fact["error"] for name, fact in facts.items() if "error" in fact},
        "formats": dict(Counter(fact["format"] for fact in readable.values()).most_common()),
        "wrong_suffix": {
            name: fact["format"] for name, fact in readable.items() if Path(name).suffix.lower() not in _SUFFIXES[fact["format"]].split()
        },
        "modes": dict(Counter(fact["mode"] for fact in readable.values()).most_common()),
        "odd_modes": {name: fact["mode"] for name, fact in readable.items() if fact["mode"] not in _PLAIN_MODES},
        "identical": identical,
        "near_copies": near,
        "near_bits": near_bits,
        "contradictions": _contradictions(manifest, identical, near),
        "turned": [name for name, fact in readable.items() if fact["turned"]],
        "flat": [name for name, fact in readable.items() if fact["flat"]],
        "sizes": _size_facts(readable),
        "masks": _mask_facts(dataset),
        "splits": {name: _split_facts(split, identical, near) for name, split in splits.items()},
    }
    result["findings"] = findings(result)
    return result


def _look_at_files(dataset: Dataset) -> dict[str, dict]:
    """Per image: format, mode, width, height and bytes, or the error that decoding it gave; in the manifest's order."""
    names = list(dataset.manifest["image"])
    facts: list[dict] = [{} for _ in names]

    def work(row: int) -> None:
        path = dataset.data_dir / names[row]
        fact = facts[row]
        try:
            fact["bytes"] = path.stat().st_size
            header = read_header(path)
            fact.update(format=_SAME_FORMAT.get(header.format, header.format), mode=header.mode)
            fact.update(width=header.width, height=header.height, turned=header.orientation != 1)
            image = read_image(path)
            fact["hash"], fact["flat"] = perceptual_hash(image), is_flat(image)
        except OSError:
            fact["error"] = "missing"
        except UsageError as error:
            fact["error"] = str(error).removeprefix("cannot read image ").removeprefix(f"{path}: ")

    for_each(work, len(names), f"{dataset.name}: reading images", progress=True)
    return dict(zip(names, facts, strict=True))


def _identical_files(data_dir: Path, names: Sequence[str], facts: dict[str, dict]) -> list[list[str]]:
    """Sets of two or more byte-identical files; only files of equal size are read."""
    by_size: dict[int, list[str]] = {}
    for name in names:
        by_size.setdefault(facts[name]["bytes"], []).append(name)
    by_content: dict[bytes, list[str]] = {}
    for same in by_size.values():
        for name in same if len(same) > 1 else ():
            by_content.setdefault(hashlib.sha256((data_dir / name).read_bytes()).digest(), []).append(name)
    return sorted(sorted(same) for same in by_content.values() if len(same) > 1)


def _near_copies(names: Sequence[str], hashes: np.ndarray, bits: int, identical: list[list[str]]) -> list[list[str]]:
    """Pairs of images that differ in at most `bits` of their perceptual hash and are not the same bytes (`common.data.near_copies`)."""
    same = {frozenset(pair) for group in identical for pair in combinations(group, 2)}
    pairs = near_pairs(hashes, most_bits=bits) if len(names) else ()
    return [[names[i], names[j]] for i, j, _ in pairs if frozenset((names[i], names[j])) not in same]


def _contradictions(manifest: pd.DataFrame, identical: list[list[str]], near: list[list[str]]) -> list[list[str]]:
    """Pairs of the same bytes or nearly the same picture with two labels; an image without a label contradicts none."""
    label = dict(zip(manifest["image"], manifest["label"], strict=True))
    pairs = [*(list(pair) for same in identical for pair in combinations(same, 2)), *near]
    return [[one, other] for one, other in pairs if label[one] and label[other] and label[one] != label[other]]


def _group_facts(manifest: pd.DataFrame) -> dict:
    """Number of groups, size of the largest, images that share their group with another, and the groups with several labels."""
    sizes = manifest["group"].value_counts()
    shared = int(sizes[sizes > 1].sum())
    mixed = groups_in_several_classes(manifest)
    return {"number": len(sizes), "largest": int(sizes.max()), "images_sharing": shared, "with_several_labels": list(mixed)}


def _size_facts(readable: dict[str, dict]) -> dict:
    """Smallest, median, mean and largest of width, height and file size; how many different sizes there are."""
    if not readable:
        return {}
    result: dict = {"different": len({(fact["width"], fact["height"]) for fact in readable.values()})}
    for key in ("width", "height", "bytes"):
        values = np.array([fact[key] for fact in readable.values()])
        result[key] = {"min": int(values.min()), "median": float(np.median(values)), "mean": float(values.mean()), "max": int(values.max())}
    return result


def _mask_facts(dataset: Dataset) -> dict[str, dict]:
    """Per mask column: how many there are, are empty, cannot be read or do not fit, and what is wrong with which."""
    result = {}
    for column in (name for name in dataset.manifest if str(name).startswith("mask_")):
        states = mask_states(dataset, None, [column])
        problems = {mask: state for mask, state in states.items() if state not in (PRESENT, EMPTY)}
        sizes = sum("expected the same size" in state for state in problems.values())
        result[str(column)] = {
            "present": int((dataset.manifest[column] != "").sum()),
            "unreadable": len(problems) - sizes,
            "other_size": sizes,
            "empty": sum(state == EMPTY for state in states.values()),
            "problems": {mask: state.replace(f"{dataset.data_dir}/", "") for mask, state in problems.items()},
        }
    return result


def _split_facts(split: pd.DataFrame, identical: list[list[str]], near: list[list[str]]) -> dict:
    """Images per class and part, the leakage through groups, and test images that are in the training part byte for byte, or nearly."""
    table = pd.crosstab(split["label"], split["split"]).reindex(columns=list(SPLITS), fill_value=0)
    part = dict(zip(split["image"], split["split"], strict=True))
    copied = 0
    for same in identical:
        parts = [part.get(name) for name in same]
        copied += parts.count("test") if "train" in parts else 0
    return {
        "totals": {name: int(table[name].sum()) for name in SPLITS},
        "classes": {str(label): {name: int(row[name]) for name in SPLITS} for label, row in table.iterrows()},
        "leakage": leakage(split),
        "test_images_identical_to_train": copied,
        "test_images_near_train": len(
            {name for pair in near for name, other in (pair, pair[::-1]) if (part.get(name), part.get(other)) == ("test", "train")}
        ),
    }
