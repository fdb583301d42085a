"""What the files of a run folder may hold. A run may come from somebody else, or from a disk that failed: every file is checked when it is
opened, and what does not fit is one line that names the file, the field and what is expected."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from common.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

# The packages of this project. Nothing else is imported because a file names it: a received folder may lie in the working directory.
STUDIES = ("cervical", "lmf", "melanoma", "feedback")
MOST_CLASSES = 10_000
_WORD = re.compile(r"[\w.-]{1,100}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Kind:
    """What a field may be: in words, and as a test."""

    expected: str
    fits: Callable[[Any], bool]

    def or_none(self) -> Kind:
        return Kind(self.expected, lambda value: value is None or self.fits(value))


def text(longest: int = 300) -> Kind:
    """Text of at most so many characters without control characters."""
    return Kind(f"text of at most {longest} characters", lambda v: isinstance(v, str) and len(v) <= longest and not _CONTROL.search(v))


def number(low: float = -math.inf, high: float = math.inf) -> Kind:
    """A finite number in [low, high]."""
    between = "a finite number" if math.isinf(low) and math.isinf(high) else f"a number between {low:g} and {high:g}"
    return Kind(between, lambda v: isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e300 and low <= v <= high)


def integer(low: int, high: int) -> Kind:
    """A whole number in [low, high]."""
    return Kind(f"a whole number between {low} and {high}", lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high)


def items(kind: Kind, most: int) -> Kind:
    """A list of at most `most` values of a kind."""
    expected = f"a list of at most {most} values, each {kind.expected}"
    return Kind(expected, lambda v: isinstance(v, list) and len(v) <= most and all(map(kind.fits, v)))


def mapping(kind: Kind | None = None, most: int = 100_000) -> Kind:
    """A JSON object, its values of a kind."""
    expected = "a JSON object" + (f" whose values are {kind.expected}" if kind else "")
    return Kind(expected, lambda v: isinstance(v, dict) and len(v) <= most and (kind is None or all(map(kind.fits, v.values()))))


def one_of(*values: str) -> Kind:
    return Kind(f"one of {', '.join(values)}", lambda v: isinstance(v, str) and v in values)


def inside(*roots: str) -> Kind:
    """A relative path that stays below one of the folders named."""

    def fits(value: Any) -> bool:
        return isinstance(value, str) and is_inner(value) and PurePosixPath(value).parts[0] in roots

    return Kind(f"a path below {' or '.join(roots)}", fits)


def is_inner(name: str) -> bool:
    """Whether a name, as files of a run hold them, is a relative path that leads nowhere else."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name and not _CONTROL.search(name)


FLAG = Kind("true or false", lambda v: isinstance(v, bool))
WORD = Kind("a word of letters, digits, . _ and -", lambda v: isinstance(v, str) and _WORD.fullmatch(v) is not None)
CLASS = Kind("a name of 1 to 200 characters", lambda v: isinstance(v, str) and 0 < len(v) <= 200 and not _CONTROL.search(v))
CLASSES = Kind(
    "a list of different class names",
    lambda v: items(CLASS, MOST_CLASSES).fits(v) and 0 < len(v) == len(set(v)),
)
OBJECT, SHARE = mapping(), number(0, 1).or_none()
_TEXTS = Kind("text, or a list of texts (a table's)", lambda v: v is None or text().fits(v) or items(text(), 1000).fits(v))
FILTERS = one_of("nearest", "bilinear", "bicubic", "lanczos")
_MATRIX = Kind("a square matrix", lambda v: isinstance(v, list) and all(isinstance(r, list) and len(r) == len(v) for r in v)).or_none()
_PRINTED = Kind(
    "a printed number: value, source and perhaps differs",
    lambda v: isinstance(v, dict) and {"value", "source"} <= set(v) <= {"value", "source", "differs"} and number().fits(v["value"])
    and all(text(2000).fits(v[name]) for name in v if name != "value"),
)  # fmt: skip
_SETTINGS = Kind("a JSON object with a whole number as seed", lambda v: OBJECT.fits(v) and integer(0, 2**63).or_none().fits(v.get("seed")))
_GIVEN = Kind(
    "a JSON object with bootstrap_seed, cost_matrix and extra",
    lambda v: isinstance(v, dict) and integer(0, 2**63).fits(v.get("bootstrap_seed", 0)) and _MATRIX.fits(v.get("cost_matrix"))
    and OBJECT.fits(v.get("extra", {})),
)  # fmt: skip

FIELDS: dict[str, dict[str, Kind]] = {
    "config.json": {
        "study": WORD, "experiment": WORD, "settings": _SETTINGS, "data_fingerprint": text(), "command": text(20_000),
        "dataset": _TEXTS, "split": _TEXTS, "reading": _TEXTS, "backbone": _TEXTS,
        "weights": text().or_none(), "resize_filter": FILTERS.or_none(), "backend": text(), "machine": text(), "precision": text(),
        "git_commit": text(), "versions": mapping(text()), "seed": integer(0, 2**63).or_none(), "synthetic": FLAG.or_none(),
        "image_size": integer(1, 8192).or_none(), "classes": CLASSES, "threads": integer(0, 2**16).or_none(),
        "weights_sha256": text(64),
    },
    "metrics.json": {
        "study": text().or_none(), "experiment": text().or_none(), "dataset": text().or_none(), "split": text().or_none(),
        "n": integer(0, 10**9).or_none(), "accuracy": SHARE, "balanced_accuracy": SHARE, "macro_f1": SHARE, "synthetic": FLAG,
        "accuracy_interval": Kind("two numbers", lambda v: items(number().or_none(), 2).fits(v) and len(v) == 2).or_none(),
        "per_class": mapping(OBJECT), "given": _GIVEN,
    },
    "report.json": {
        "title": text(2000).or_none(), "printed": mapping(_PRINTED), "notes": items(text(20_000), 1000), "controls": mapping(text(2000)),
    },
    "model_card.json": {
        "title": text(2000).or_none(), "intended": text(20_000), "data": items(text(20_000), 1000), "limits": items(text(20_000), 1000),
    },
    "calibration.json": {
        "coverage": number(0, 1), "score": one_of("lac", "aps"), "by_class": FLAG, "temperature": number(0.01, 100), "classes": CLASSES,
        "scores": items(number(-0.1, 1.1), 10**7), "labels": items(integer(0, MOST_CLASSES), 10**7), "aps_counts_half": FLAG,
    },
    "finished.json": {"files": mapping(OBJECT)},
    "session.json": {
        "classes": CLASSES, "image_size": integer(1, 8192), "resize_filter": FILTERS, "learning": OBJECT, "replayed": integer(0, 10**6),
        "seed": integer(0, 2**63), "base_digest": text(), "simulation": OBJECT, "synthetic": FLAG, "run": text(1000), "created": text(),
    },
    "head.json": {"records": integer(0, 10**9), "sha256": text(64)},
    "contents.json": {"files": mapping(text(64))},
    "local.json": {"data_dir": text(10_000)},
}  # fmt: skip


def _fits(value: Any, name: str, *required: str) -> bool:
    return (
        isinstance(value, dict)
        and set(required) <= set(value)
        and all(kind.fits(value[field]) for field, kind in FIELDS[name].items() if field in value)
    )


_RUN = Kind(
    "a run with its config, metrics and classes, and whether it is grouped",
    lambda v: isinstance(v, dict) and _fits(v.get("config"), "config.json", "study", "experiment", "settings")
    and _fits(v.get("metrics"), "metrics.json") and FLAG.fits(v.get("grouped"))
    and (v.get("classes") == [] or CLASSES.fits(v.get("classes"))),
)  # fmt: skip
FIELDS["runs.json"] = {"runs": items(_RUN, 100_000)}
# These are handed on as arguments, so nothing may stand in them besides.
_CLOSED = frozenset({"model_card.json"})


def check(path: Path, value: Any) -> None:
    """UsageError when the content of a JSON file whose name is known is not what its name promises."""
    fields = FIELDS.get(path.name.removesuffix(".xz"))
    if fields is not None:
        check_fields(path, value, fields, closed=path.name in _CLOSED)


def check_fields(path: Path, value: Any, fields: Mapping[str, Kind], required: tuple[str, ...] = (), closed: bool = False) -> None:
    """UsageError that names the first field which does not fit. Fields that are not known are left alone unless `closed`."""
    if not isinstance(value, dict):
        raise UsageError(f"{path} should hold a JSON object")
    for name in required:
        if name not in value:
            raise UsageError(f"{path}: {name} is missing; expected {fields[name].expected}")
    for name, kind in fields.items():
        if name in value and not kind.fits(value[name]):
            raise UsageError(f"{path}: {name} is {str(value[name])[:60]!r}; expected {kind.expected}")
    unknown = sorted(set(value) - set(fields))
    if closed and unknown:
        raise UsageError(f"{path}: {unknown[0][:60]!r} is unknown; expected {', '.join(fields)}")


def check_manifest(path: Path, manifest: pd.DataFrame) -> None:
    """UsageError unless a manifest (columns as text) has the column `image` and names no file outside its data folder.

    In a run that was made here (it or the run around it has a local.json) masks may lie beside that folder, as --mask-dir allows.
    """
    if "image" not in manifest:
        raise UsageError(f"{path}: lacks the column image")
    made_here = any((folder / "local.json").is_file() for folder in (path.parent, path.parent.parent))
    for column in ("image", *(name for name in manifest if str(name).startswith("mask_"))):
        for name in manifest[column].astype(str).unique():
            beside = re.sub(r"^(\.\./)+", "", name) if made_here and column != "image" else name
            if name and not is_inner(beside):
                raise UsageError(f"{path}: {column} is {name[:80]!r}; expected a path inside the data folder")


def check_predictions(path: Path, table: pd.DataFrame, classes: tuple[str, ...], manifest: pd.DataFrame | None) -> None:
    """UsageError unless predictions are whole: known classes, probabilities, and exactly the manifest's test images with its labels.

    Args:
        path: of predictions.csv.
        table: image, label, predicted and `prob_<class>` columns.
        classes: of the columns.
        manifest: with the columns image, label and split, or None where there is none.
    """
    way_on = "the file is damaged: restore it, or start the run anew"
    for column in ("label", "predicted"):
        strange = sorted(set(table[column].astype(str)) - set(classes))
        if strange:
            raise UsageError(f"{path}: {column} is {strange[0][:60]!r}; expected one of its classes; {way_on}")
    try:
        probabilities = table[[f"prob_{name}" for name in classes]].to_numpy(dtype=float)
    except ValueError:
        raise UsageError(f"{path}: a probability is no number; {way_on}") from None
    sums = probabilities.sum(axis=1)
    wrong = (~((probabilities > -1e-3) & (probabilities < 1 + 1e-3)).all(axis=1) | ~(abs(sums - 1) < 2e-2)).nonzero()[0]
    if len(wrong):
        raise UsageError(f"{path}: line {wrong[0] + 2} holds no probabilities that sum to 1; {way_on}")
    if manifest is None or not {"image", "label", "split"} <= set(manifest):
        return
    test = manifest[(manifest["split"] == "test") & (manifest["label"] != "")].drop_duplicates("image").set_index("image")["label"]
    found = table.set_index("image")["label"]
    if len(found) != len(test):
        raise UsageError(f"{path}: holds {len(found)} images, manifest.csv {len(test)} in its test part; {way_on}")
    other = found[found.ne(test.reindex(found.index))]
    if len(other):
        raise UsageError(
            f"{path}: {other.index[0]} is {other.iloc[0]}; manifest.csv says {test.get(other.index[0], 'nothing of it')}; {way_on}"
        )
