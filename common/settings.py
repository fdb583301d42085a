"""Settings and recipes: one frozen dataclass of effective values a command, nothing of it decided elsewhere.

A study's `experiments/<command>.py` derives one dataclass from the ones here; the document's readings are instances of it, and the command
line (`common.cli`) parses straight into it. What decides a training but the seed is its recipe (`recipe`); a run is a recipe and a seed.
Nothing heavy is imported here: settings are checked before Keras loads.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_type_hints

from common.errors import UsageError
from common.runs.files import plain, refuse_links, sha256

Reading = Literal["described", "coded", "corrected"]
Log = Literal["none", "tensorboard", "mlflow"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]
# The documents' networks, and mobilenetv2_035, which is small; then the others of `keras.applications` (the keys of
# `common.backbones.BACKBONES`, which cannot be imported here without Keras; a test compares them).
MAIN_BACKBONES = ("vgg16", "vgg19", "resnet50", "mobilenetv2", "mobilenetv2_035", "densenet121", "densenet169", "efficientnetv2s")
BACKBONE_NAMES = (
    *MAIN_BACKBONES, "resnet101", "resnet152", "resnet50v2", "resnet101v2", "resnet152v2", "mobilenet", "inceptionv3", "inceptionresnetv2",
    "xception", "nasnetmobile", "nasnetlarge", "mobilenetv3small", "mobilenetv3large", "densenet201", "convnexttiny", "convnextsmall",
    "convnextbase", "convnextlarge", "convnextxlarge", "efficientnetv2b0", "efficientnetv2b1", "efficientnetv2b2", "efficientnetv2b3",
    "efficientnetv2m", "efficientnetv2l", *(f"efficientnetb{size}" for size in range(8)),
)  # fmt: skip
DEFAULT_CACHE = Path(os.environ.get("REPLICATION_CACHE", ".cache"))
MOST_EPOCHS, MOST_BATCH, MOST_IMAGES, LARGEST_SEED = 100_000, 65_536, 10**9, 2**31 - 1
LEAST_IMAGES = 8  # of a split: four of each of two classes


def require(condition: bool, message: str) -> None:
    """Raise `UsageError(message)` unless `condition` holds."""
    if not condition:
        raise UsageError(message)


def check_range(option: str, value: float | None, low: float, high: float | None = None, above: bool = False) -> None:
    """`value` (None is allowed) must be finite and in [low, high], or (low, high] with `above`; the message names option and range."""
    if value is None:
        return
    bound = f"more than {low}" if above else f"{low} or more"
    expected = bound if high is None else f"{bound} and at most {high}" if above else f"between {low} and {high}"
    # Not math.isfinite, which cannot take an integer of 400 digits.
    inside = (value > low if above else value >= low) and (value < math.inf if high is None else value <= high)
    require(inside, f"--{option} {value}: expected {expected}")


@dataclass(frozen=True, eq=False)  # or `typing` would take Within(0, 1) and Within(0.0, 1.0) for one annotation
class Within:
    """Range of a field's value, written with its type, `rate: Annotated[float, Within(0, 10, above=True)]`; as in `check_range`."""

    low: float
    high: float | None = None
    above: bool = False


Count = Annotated[int, Within(1)]
Epochs = Annotated[int, Within(1, MOST_EPOCHS)]
Batch = Annotated[int, Within(1, MOST_BATCH)]
Seed = Annotated[int, Within(0, LARGEST_SEED)]
Limit = Annotated[int | None, Within(LEAST_IMAGES, MOST_IMAGES)]


ExistingFile = Annotated[Path | None, "file"]
ExistingFolder = Annotated[Path | None, "folder"]


@cache
def notes(settings: type, kind: type) -> dict[str, Any]:
    """Field of a settings class -> what its annotation says of it, of this kind: its range, or whether it is a file or a folder.

    A class that only gives another default keeps its parent's.
    """
    hints = [item for base in reversed(settings.__mro__) for item in get_type_hints(base, include_extras=True).items()]
    return {name: each for name, hint in hints for each in getattr(hint, "__metadata__", ()) if isinstance(each, kind)}


def check_path(option: str, path: Path | None, kind: Literal["file", "folder", "any"] = "any") -> None:
    """`path` (None is allowed) must exist and be of the kind expected."""
    if path is None:
        return
    try:
        found = path.is_dir() if kind == "folder" else path.is_file() if kind == "file" else path.exists()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        found = False
    require(found, f"--{option} {path}: no such {'file or folder' if kind == 'any' else kind}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Effective settings of one command; every field is the value that is used, and None stands only where it means something itself.

    Subclasses check ranges in `check`, files and folders in `check_paths` (readings are instances and name no file), and say in `unused`
    which fields have no effect beside the others.
    """

    NOT_RECIPE: ClassVar[frozenset[str]] = frozenset()
    """Fields that do not decide a training: its seed, where files lie, what is shown. Subclasses add to it."""
    CONTENT: ClassVar[frozenset[str]] = frozenset()
    """Fields that may name a file which decides the result: it enters a recipe by its name and the SHA-256 of its content."""

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """UsageError for a value out of its range. Looks at no file; subclasses call `super().check()` first."""
        for name, each in notes(type(self), Within).items():
            check_range(name.replace("_", "-"), getattr(self, name), each.low, each.high, each.above)

    def check_paths(self) -> None:
        """UsageError for a file or folder that is missing. Called by the command line; subclasses call `super().check_paths()` first."""
        for name, kind in notes(type(self), str).items():
            check_path(name.replace("_", "-"), getattr(self, name), kind)

    def unused(self) -> dict[str, str]:
        """Fields (nested ones as `encoder.patience`) without effect in this combination, each with the reason.

        Given on the command line they are refused; they are no part of the recipe.
        """
        return {}


@dataclass(frozen=True, kw_only=True)
class Source(Settings):
    """Which images, as they lie on disk."""

    NOT_RECIPE = frozenset({"data_dir", "cache_dir", "skip_unreadable"})  # the images count by their content (the data fingerprint)

    dataset: str = "sample"
    """Data set; `sample` is drawn on the spot and synthetic, `folders` is your own images, one folder a class."""
    data_dir: ExistingFolder = None
    """Folder that holds the data set as distributed (not needed for `sample`)."""
    cache_dir: Path = DEFAULT_CACHE
    """Folder for decoded images and drawn samples; safe to delete."""
    skip_unreadable: bool = False
    """Go on without images that cannot be decoded (otherwise they are listed and the command stops)."""

    def check_paths(self) -> None:
        super().check_paths()
        missing = self.dataset != "sample" and self.data_dir is None
        require(not missing, f"--dataset {self.dataset}: expected --data-dir with the folder that holds it")

    def unused(self) -> dict[str, str]:
        drawn = {"data_dir": "the sample is drawn on the spot", "skip_unreadable": "the sample is drawn on the spot"}
        return super().unused() | (drawn if self.dataset == "sample" else {})


@dataclass(frozen=True, kw_only=True)
class FolderSource(Source):
    """Images as they lie on disk, perhaps somebody's own in folders, with groups and masks beside them."""

    NOT_RECIPE = Source.NOT_RECIPE | {"mask_dir"}

    group_pattern: str | None = None
    """Regular expression with one group, matched on the image path, that names the slide, lesion or patient, for `folders`; None: each
    image is its own group."""
    mask_dir: ExistingFolder = None
    """Folder with one mask an image (same file stem), for `folders`; the maps of `explain` are measured against them."""

    def check(self) -> None:
        super().check()
        check_group_pattern(self.group_pattern)

    def unused(self) -> dict[str, str]:
        own = {"group_pattern": "the data set names its own groups", "mask_dir": "only `folders` data takes masks from a folder"}
        return super().unused() | (own if self.dataset != "folders" else {})


@dataclass(frozen=True, kw_only=True)
class Trained(Source):
    """What commands that train anything take."""

    NOT_RECIPE = Source.NOT_RECIPE | {"seed", "run_dir", "devices", "log"}

    reading: Reading = "described"
    """`described`: the document's text. `coded`: what the authors' code does. `corrected`: careful practice."""
    split: Literal["paper", "grouped"] = "paper"
    """`paper`: the document's split. `grouped`: no slide image, lesion or patient on two sides."""
    split_seed: Seed = 42
    """Seed of the split; it stays while --seed varies, so that seeds share their test images."""
    limit: Limit = None
    """Use only N images in all (smoke runs); None: all."""
    batch_size: Batch = 32
    """Images a step."""
    devices: Annotated[int, Within(1, 4096)] = 1
    """GPUs that share each batch, those of all hosts together (KERAS_BACKEND=jax, docs/clusters.md); the result is that of one."""
    seed: Seed = 0
    """Seed of the initial weights, the order of images and the augmentation."""
    run_dir: Path | None = None
    """Run folder; default runs/<study>/<experiment>/<name made from the settings>."""
    log: Log = "none"
    """Also tell TensorBoard (in the run folder) or MLflow (./mlruns) the metrics, figures and scores; see requirements-mlflow.txt."""

    def check_paths(self) -> None:
        super().check_paths()
        check_run_dir(self.run_dir)
        check_devices(self, self.devices)
        check_log(self.log)


@dataclass(frozen=True, kw_only=True)
class Training(Trained):
    """What training commands of every study take; their network is built anew."""

    CONTENT = Trained.CONTENT | {"weights"}

    image_size: Annotated[int, Within(16, 1024)] = 224
    """Side of the square network input, pixels."""
    backbone: str = "mobilenetv2"
    """Network: vgg16, vgg19, resnet50, mobilenetv2, mobilenetv2_035, densenet121, densenet169, efficientnetv2s, or any other class of
    `keras.applications` in lower case, such as resnet101 or convnexttiny."""
    weights: str = "none"
    """`imagenet` (downloads), `none` (from scratch) or the path of a .weights.h5 file."""
    precision: Precision = "float32"
    """Arithmetic of the network; weights stay float32. mixed_bfloat16 is also faster on CPUs with AVX-512 BF16, but for MobileNets."""

    def check(self) -> None:
        super().check()
        check_backbone("backbone", self.backbone)

    def check_paths(self) -> None:
        super().check_paths()
        if self.weights not in ("none", "imagenet"):
            check_path("weights", Path(self.weights), "file")


def check_log(kind: Log) -> None:
    """The package that keeps the log must be there."""
    known = kind == "none" or importlib.util.find_spec(kind) is not None
    require(known, f"--log {kind}: the package {kind} is not installed; install requirements-mlflow.txt")


def check_decision(decision: str, costs: Path | None) -> None:
    """Costs are needed to decide by them, and have no effect otherwise."""
    if decision == "minimum-cost":
        require(costs is not None, "--decision minimum-cost: expected --decision-costs FILE with what mistakes cost")
        check_path("decision-costs", costs, "file")
    else:
        require(costs is None, "--decision-costs: has no effect here: expected --decision minimum-cost")


def check_devices(settings: Settings, devices: int) -> None:
    """Several devices are JAX's, and divide every batch size that acts."""
    if devices == 1:
        return
    require(
        os.environ.get("KERAS_BACKEND", "tensorflow") == "jax",
        f"--devices {devices}: expected KERAS_BACKEND=jax; on TensorFlow Keras 3 cannot share a batch (keras issue 20585)",
    )
    idle = settings.unused()
    for name, value in vars(settings).items():
        if name.endswith(("batch_size", "_batch")) and name not in idle:
            require(value % devices == 0, f"--devices {devices}: does not divide --{name.replace('_', '-')} {value}")


def check_backbone(option: str, name: str) -> None:
    """`name` must be a network of the suite."""
    require(name in BACKBONE_NAMES, f"--{option} {name}: unknown; expected one of {', '.join(BACKBONE_NAMES)}")


def check_run_dir(run_dir: Path | None) -> None:
    """A run folder may be new, empty or a run's; it must not be a file, and its place must be one where a folder can be made."""
    if run_dir is None:
        return
    try:
        require(not run_dir.exists() or run_dir.is_dir(), f"--run-dir {run_dir}: is a file; expected a folder")
        parent = next(folder for folder in (run_dir, *run_dir.absolute().parents) if folder.exists())
    except (OSError, ValueError) as error:
        raise UsageError(f"--run-dir {str(run_dir)[:80]}: cannot be a folder ({getattr(error, 'strerror', None) or error})") from None
    require(parent.is_dir(), f"--run-dir {run_dir}: {parent} is a file; expected a folder")
    try:  # permissions do not say it all: nobody makes a folder in /proc, or on a full disk
        probe = parent / f"probe.tmp-{os.getpid()}"
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise UsageError(f"--run-dir {run_dir}: {parent} cannot be written ({error.strerror}); choose another folder") from None


def check_run(run: Path, *files: str) -> None:
    """`run` must be a run folder (it holds config.json) with the files named."""
    require(run.is_dir(), f"{run}: no such run folder")
    refuse_links(run)
    for name in ("config.json", *files):
        require((run / name).is_file(), f"{run}: not a finished run folder ({name} is missing)")


def check_group_pattern(pattern: str | None) -> None:
    """`pattern` must be a regular expression with one group in parentheses."""
    if pattern is None:
        return
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise UsageError(f"--group-pattern {pattern}: not a regular expression ({error})") from None
    require(groups >= 1, f"--group-pattern {pattern}: expected one group in parentheses, e.g. '([0-9]+)_'")


def recipe(settings: Settings, **content: Any) -> dict[str, Any]:
    """Everything that decides a training but its seed, as plain JSON values.

    The settings without `NOT_RECIPE` and without what is `unused`; files of `CONTENT` by name and SHA-256 (`<field>_sha256`); `content`
    is what the command read besides (the classes, say; the data's fingerprint is kept by the run folder); and the backend.
    """
    skipped = settings.NOT_RECIPE | set(settings.unused())
    values = _without(asdict(settings), skipped)
    for name in settings.CONTENT & set(values):
        path = values[name]
        if isinstance(path, str | Path) and Path(path).is_file():
            values |= {name: Path(path).name, f"{name}_sha256": sha256(Path(path))}
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    return plain({**values, **content, "backend": backend})


def _without(values: Mapping[str, Any], skipped: set[str] | frozenset[str], prefix: str = "") -> dict[str, Any]:
    kept = {name: value for name, value in values.items() if prefix + name not in skipped}
    return {name: _without(value, skipped, f"{prefix}{name}.") if isinstance(value, dict) else value for name, value in kept.items()}


@dataclass(frozen=True)
class Command:
    """One command of a study.

    Attributes:
        settings: frozen dataclass of its settings (or of plain options); ranges and paths are checked in it (UsageError).
        target: "package.module:function", imported only after the settings have passed; called with them.
        help: what it reproduces, the printed number to expect, and what it costs in time and disk (the module's docstring).
        default: (reading, dataset) -> the settings that options are put over; None: the class's own defaults.
        everywhere: option -> the nested options that it sets, as {"epochs": ("encoder.epochs", "classifier.epochs")}.
        presets: option -> the words that stand for it and its value, as {"backbone": words_of}, where some values set more than one field.
    """

    settings: type
    target: str
    help: str
    default: Callable[[str, str], Any] | None = None
    everywhere: Mapping[str, tuple[str, ...]] | None = None
    presets: Mapping[str, Callable[[str], tuple[str, ...]]] | None = None
