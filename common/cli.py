"""Command lines from typed, frozen dataclasses: `python -m <study> <command> [options]`.

A study's `config.py` derives one dataclass a command from the ones here; its `__main__.py` is a table of `Command`s. Parsing, help and
every check that needs no pixels happen before Keras is imported, so they answer within half a second. tyro parses; its many-line boxes
become one line on stderr.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import importlib.util
import io
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import tyro
from tyro.conf import Positional

from common.errors import UsageError
from common.startup import without_startup_lines

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
_BACKENDS = {"tensorflow": "requirements.txt", "jax": "requirements-jax.txt"}


def require(condition: bool, message: str) -> None:
    """Raise `UsageError(message)` unless `condition` holds."""
    if not condition:
        raise UsageError(message)


def check_range(option: str, value: float | None, low: float, high: float | None = None) -> None:
    """`value` (None is allowed: the reading decides) must lie in [low, high]; the message names the option, its value and the range."""
    if value is None:
        return
    expected = f"{low} or more" if high is None else f"between {low} and {high}"
    require(value >= low and (high is None or value <= high), f"--{option} {value}: expected {expected}")


def check_path(option: str, path: Path | None, kind: Literal["file", "folder", "any"] = "any") -> None:
    """`path` (None is allowed) must exist and be of the kind expected."""
    if path is None:
        return
    found = path.is_dir() if kind == "folder" else path.is_file() if kind == "file" else path.exists()
    require(found, f"--{option} {path}: no such {'file or folder' if kind == 'any' else kind}")


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Which images, as they lie on disk."""

    dataset: str = "sample"
    """Data set; `sample` is drawn on the spot and synthetic."""
    data_dir: Path | None = None
    """Folder that holds the data set as distributed (not needed for `sample`)."""
    mask_dir: Path | None = None
    """Folder with one mask an image (same file stem), for `folders` data."""
    group_pattern: str | None = None
    """Regular expression with one group, matched on the image path, that names the slide, lesion or patient (for `folders` data)."""
    cache_dir: Path = DEFAULT_CACHE
    """Folder for decoded images and drawn samples; safe to delete."""

    def __post_init__(self) -> None:
        check_path("data-dir", self.data_dir, "folder")
        check_path("mask-dir", self.mask_dir, "folder")
        if self.group_pattern is not None:
            try:
                groups = re.compile(self.group_pattern).groups
            except re.error as error:
                raise UsageError(f"--group-pattern {self.group_pattern}: not a regular expression ({error})") from None
            require(groups >= 1, f"--group-pattern {self.group_pattern}: expected one group in parentheses, e.g. '([0-9]+)_'")
        require(
            self.dataset == "sample" or self.data_dir is not None,
            f"--dataset {self.dataset}: expected --data-dir with the folder that holds it",
        )


@dataclass(frozen=True, kw_only=True)
class DataOptions(SourceOptions):
    """Which images, in which split."""

    labels_csv: Path | None = None
    """CSV with the labels, where the data set's own labels are kept apart from the images."""
    split: Literal["paper", "grouped"] | None = None
    """`paper`: the document's split. `grouped`: no slide, lesion or patient on two sides. Default: what the reading says."""
    limit: int | None = None
    """Use only N images in all, class-balanced (smoke runs)."""
    skip_unreadable: bool = False
    """Go on without images that cannot be decoded (otherwise they are listed and the command stops)."""
    image_size: int | None = None
    """Side of the square network input, pixels. Default: the document's."""
    seed: int = 0
    """Seed of the split (where the paper names none), the initial weights, the order of images and the augmentation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_path("labels-csv", self.labels_csv, "file")
        check_range("limit", self.limit, 1)
        check_range("image-size", self.image_size, 16, 1024)
        check_range("seed", self.seed, 0, 2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(DataOptions):
    """What training commands of every study take. None means: what the reading says."""

    reading: Literal["described", "coded", "corrected"] = "described"
    """`described`: the document's text. `coded`: what the authors' code does. `corrected`: careful practice."""
    backbone: str | None = None
    """Network: vgg16, vgg19, resnet50, mobilenetv2, mobilenetv2_035, densenet121, densenet169, efficientnetv2s, or any other class of
    `keras.applications` in lower case, such as resnet101 or convnexttiny."""
    weights: str | None = None
    """`imagenet` (downloads), `none` (from scratch) or the path of a .weights.h5 file. Default on `sample`: none."""
    epochs: int | None = None
    """Epochs; sets every stage that has no option of its own."""
    batch_size: int | None = None
    """Images a step."""
    run_dir: Path | None = None
    """Run folder; default runs/<study>/<experiment>/<name made from the settings>."""
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    """Arithmetic of the network; weights stay float32."""
    tensorboard: bool = False
    """Also write TensorBoard event files into the run folder (needs the tensorboard package)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.backbone is None or self.backbone in BACKBONE_NAMES,
            f"--backbone {self.backbone}: unknown; expected one of {', '.join(BACKBONE_NAMES)}",
        )
        if self.weights not in (None, "none", "imagenet"):
            check_path("weights", Path(str(self.weights)), "file")
        check_range("epochs", self.epochs, 1)
        check_range("batch-size", self.batch_size, 1)
        require(
            self.run_dir is None or not self.run_dir.exists() or self.run_dir.is_dir(),
            f"--run-dir {self.run_dir}: is a file; expected a folder",
        )
        for package in ("tensorboard", "tensorflow") if self.tensorboard else ():
            require(importlib.util.find_spec(package) is not None, f"--tensorboard: the package {package} is not installed")


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Make a run's report, model card and figures again from its predictions.csv; the model is not needed."""

    run: Positional[Path]
    """Run folder."""

    def __post_init__(self) -> None:
        check_run(self.run)


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Classify images with a finished run: one CSV row an image with a probability for each class."""

    run: Positional[Path]
    """Run folder that holds model.keras."""
    images: Positional[tuple[Path, ...]]
    """Images, or folders of images."""
    output: Path | None = None
    """CSV file to write; default: standard output."""
    skip_unreadable: bool = False
    """Go on without images that cannot be decoded."""
    batch_size: int = 32
    """Images a step."""

    def __post_init__(self) -> None:
        check_run(self.run, "model.keras")
        require(bool(self.images), "predict: expected at least one image or folder after the run folder")
        for path in self.images:
            require(path.exists(), f"{path}: no such image or folder")
        check_range("batch-size", self.batch_size, 1)


def check_run(run: Path, *files: str) -> None:
    """`run` must be a run folder (it holds config.json) with the files named."""
    require(run.is_dir(), f"{run}: no such run folder")
    for name in ("config.json", *files):
        require((run / name).is_file(), f"{run}: not a finished run folder ({name} is missing)")


@dataclass(frozen=True)
class Command:
    """One command of a study.

    Attributes:
        options: frozen dataclass of its options; ranges and paths are checked in its `__post_init__` (UsageError).
        target: "package.module:function", imported only after the options have passed; called with the options object.
        help: what it reproduces, the printed number to expect, and what it costs in time and disk.
    """

    options: type
    target: str
    help: str


# What the system says of a file or folder that cannot be used for what it is meant for; anything else is a bug of ours.
_UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)


def main(study: str, commands: Mapping[str, Command], arguments: Sequence[str] | None = None) -> int:
    """Run one command of `study` and return the exit code: 0 done, 2 wrong usage or bad data (one line on stderr), 1 a bug (traceback)."""
    try:
        code = _main(study, commands, arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # `| head` has seen enough. What is left in the buffer goes nowhere, or Python would complain again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _main(study: str, commands: Mapping[str, Command], arguments: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    program = f"python -m {study}"
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview(program, commands))
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    try:
        if name not in commands:
            raise UsageError(f"{program}: unknown command '{name}'; expected one of {', '.join(commands)}")
        command = commands[name]
        options = _parse(command, f"{program} {name}", rest)
        if options is None:
            return 0
        prepare_environment()
        module, function = command.target.split(":")
        with without_startup_lines():
            target = getattr(importlib.import_module(module), function)
        target(options)
    except UsageError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            said = "the disk is full; free some space or choose --run-dir and --cache-dir elsewhere"
        elif error.errno in _UNUSABLE and error.filename is not None:
            said = f"cannot be used ({error.strerror}); expected a folder that can be written, see --run-dir and --cache-dir"
        else:
            raise
        print(f"{error.filename or 'run folder'}: {said}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command resumes at the last finished epoch", file=sys.stderr)
        return 130
    return 0


def prepare_environment() -> None:
    """Quiet start-up of the backends and the log format; must run before Keras is imported. Variables the user has set win.

    Raises:
        UsageError: KERAS_BACKEND names a backend that is not installed or that this suite does not run on.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("MPLBACKEND", "Agg")
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    require(backend in _BACKENDS, f"KERAS_BACKEND={backend}: expected tensorflow or jax")
    require(
        importlib.util.find_spec(backend) is not None,
        f"KERAS_BACKEND={backend}: {backend} is not installed; install {_BACKENDS[backend]}",
    )
    if backend == "jax":
        # XLA's CUDA graphs made a step of the networks with batch normalisation tens of times slower (JAX 0.11 on one H200, measured:
        # ResNet50 over 2 s, without them 30 ms, beside three other processes).
        os.environ.setdefault("XLA_FLAGS", "--xla_gpu_enable_command_buffer=")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    for noisy in ("absl", "jax", "tensorflow", "matplotlib", "h5py", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def _overview(program: str, commands: Mapping[str, Command]) -> str:
    width = max(len(name) for name in commands)
    lines = [f"usage: {program} COMMAND [options]", "", "commands (each has its own --help):"]
    lines += [f"  {name:<{width}}  {_first_sentence(command.help)}" for name, command in commands.items()]
    return "\n".join(lines)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.])\s", " ".join(text.split()), maxsplit=1)[0]


def _parse(command: Command, program: str, arguments: Sequence[str]) -> Any:
    """Options object, or None after --help has been printed."""
    boxes, page = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stderr(boxes), contextlib.redirect_stdout(page):
            return tyro.cli(
                command.options,
                prog=program,
                description=" ".join(command.help.split()),
                args=_with_values(command.options, arguments),
            )
    except SystemExit as stop:
        if not stop.code:
            print(_without_none(page.getvalue()), end="")
            return None
        raise UsageError(f"{program}: {_one_line(boxes.getvalue())} (see {program} --help)") from None


def _with_values(options: type, arguments: Sequence[str]) -> list[str]:
    """`--x` and `--no-x` of options typed `bool | None` (None: the reading decides), for which tyro expects a value, with that value."""
    names = [field.name.replace("_", "-") for field in fields(options) if str(field.type) == "bool | None"]
    words = {f"--{name}": (f"--{name}", "True") for name in names} | {f"--no-{name}": (f"--{name}", "False") for name in names}
    found: list[str] = []
    for word, after in zip(arguments, [*arguments[1:], ""], strict=False):
        flag = words.get(word.replace("_", "-")) if after not in ("True", "False", "None") else None
        found += flag or (word,)
    return found


def _without_none(page: str) -> str:
    """None means "the reading decides", so neither the type nor the default needs to say it; blanks keep tyro's frame straight."""
    page = re.sub(r"--(\S+) \{None,True,False\}", lambda found: f"--{found[1]}, --no-{found[1]}".ljust(len(found[0])), page)
    page = re.sub(r"\{None\}\|(\S+)", lambda found: found[1] + " " * 7, page)
    page = re.sub(r"\{None,(\S+)\}", lambda found: "{" + found[1] + "}" + " " * 5, page)
    return page.replace("(default: None)", " " * 15)


def _one_line(boxes: str) -> str:
    """What tyro says inside its box, without the frame, the advice to read the help, and the line breaks."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", boxes)
    said = []
    for line in plain.splitlines()[1:]:
        text = line.strip("│╭╮╰╯─ \t")
        text = "" if not text.strip("-") else text
        if not text or text.startswith("For full helptext"):
            if said:
                break
            continue
        said.append(text)
    message = " ".join(said) or "wrong options"
    return re.sub(r"no type matching (?:\{None\}\|)?(\S+) could be instantiated from", r"expected \1, got", message)


__all__ = [
    "BACKBONE_NAMES",
    "Command",
    "DataOptions",
    "Positional",
    "PredictOptions",
    "ReportOptions",
    "SourceOptions",
    "TrainOptions",
    "check_path",
    "check_range",
    "check_run",
    "main",
    "prepare_environment",
    "require",
]
