"""Command lines from typed, frozen dataclasses: `python -m <study> <command> [options]`.

A study's `__main__.py` is a table from a command's name to its `experiments/<command>.py`, which holds the dataclass and a `COMMAND`.
Parsing, help and every check that needs no pixels happen before Keras is imported, so they answer within half a second. `--reading` and
`--dataset` are read first and choose the settings that the other options are put over; tyro parses those, and its many-line boxes become
one line on stderr.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import tyro
from tyro.conf import Positional

from common import stopping
from common.errors import UsageError
from common.runs.files import read_json
from common.settings import (
    BACKBONE_NAMES,
    DEFAULT_CACHE,
    MAIN_BACKBONES,
    Command,
    Settings,
    check_decision,
    check_group_pattern,
    check_path,
    check_range,
    check_run,
    require,
)
from common.startup import without_startup_lines

_BACKENDS = {"tensorflow": "requirements.txt", "jax": "requirements-jax.txt"}


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
        check_group_pattern(self.group_pattern)
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
    """Run folder, or the folder of a published table."""
    by: tuple[str, ...] = ()
    """Also report the test metrics by these columns of the metadata, such as sex age localization; `ita` is the skin tone estimated from
    the images. With --metadata and no column: the data set's usual ones."""
    metadata: Path | None = None
    """CSV with a column that names the image and the columns of --by; None: the data set's own."""
    data_dir: Path | None = None
    """Folder of the run's images, for --by; None: where they lay when it was trained."""
    decision: Literal["argmax", "minimum-cost"] = "argmax"
    """The class with the largest probability, or the one with the least expected cost under --decision-costs."""
    decision_costs: Path | None = None
    """Costs of mistakes for `minimum-cost`: CSV or JSON, class -> cost, or a matrix with the truth in rows and the decision in columns."""
    kinds: Path | None = None
    """CSV or JSON, class -> kind (such as normal and abnormal), whose sensitivity and specificity are reported; None: the run's own."""

    def __post_init__(self) -> None:
        if not (self.run / "runs.json").is_file():
            check_run(self.run)
        check_path("metadata", self.metadata, "file")
        check_path("data-dir", self.data_dir, "folder")
        require(self.data_dir is None or bool(self.by or self.metadata), "--data-dir: has no effect here: expected --by or --metadata")
        check_decision(self.decision, self.decision_costs)
        check_path("kinds", self.kinds, "file")


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
    decision: Literal["argmax", "minimum-cost"] = "argmax"
    """The class with the largest probability, or the one with the least expected cost under --decision-costs."""
    decision_costs: Path | None = None
    """Costs of mistakes for `minimum-cost`: CSV or JSON, class -> cost, or a matrix with the truth in rows and the decision in columns."""

    with_runs: Annotated[tuple[Path, ...], tyro.conf.arg(name="with")] = ()
    """More finished runs of the same classes: probabilities are their mean, and `disagreement` the share that calls another class."""
    views: int = 1
    """Views of each image, 1 to 8: mirrored and turned by quarters; probabilities are their mean."""

    def __post_init__(self) -> None:
        check_run(self.run, "model.keras")
        for path in self.with_runs:
            check_run(path, "model.keras")
        check_range("views", self.views, 1, 8)
        check_decision(self.decision, self.decision_costs)
        require(bool(self.images), "predict: expected at least one image or folder after the run folder")
        for path in self.images:
            require(path.exists(), f"{path}: no such image or folder")
        check_range("batch-size", self.batch_size, 1)


# What the system says of a file or folder that cannot be used for what it is meant for; anything else is a bug of ours.
_UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)


def main(study: str, commands: Mapping[str, Command | str], arguments: Sequence[str] | None = None) -> int:
    """Run one command of `study` and return the exit code: 0 done, 2 wrong usage or bad data (one line on stderr), 130 and 143
    interrupted and terminated, 1 a bug (traceback)."""
    try:
        code = _main(study, commands, arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # `| head` has seen enough. What is left in the buffer goes nowhere, or Python would complain again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _main(study: str, commands: Mapping[str, Command | str], arguments: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    program = f"python -m {study}"
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview(program, commands))
        return 0 if arguments else 2

    def act() -> None:
        name, rest = arguments[0], arguments[1:]
        if name not in commands:
            raise UsageError(f"{program}: unknown command '{name}'; expected one of {', '.join(commands)}")
        command = _command(commands[name])
        options = parse(command, rest, f"{program} {name}")
        if options is not None:
            _check_studies(study, options)
            _execute(command, options)

    return _guarded(act)


def run(command: Command, options: Any) -> int:
    """Carry a command out with these settings and return the exit code, as `main` does."""
    return _guarded(lambda: _execute(command, options))


def _execute(command: Command, options: Any) -> None:
    prepare_environment()
    module, function = command.target.split(":")
    with stopping.nothing_to_lose(), without_startup_lines():
        target = getattr(importlib.import_module(module), function)
    target(options)


def _guarded(action: Callable[[], None]) -> int:
    """The exit code of what `action` does; what is the user's to mend is one line on stderr."""
    try:
        with stopping.handled():
            action()
    except UsageError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            said = "the disk is full; free some space or choose --run-dir and --cache-dir elsewhere"
        elif error.errno in _UNUSABLE and error.filename is not None:
            said = f"cannot be used ({error.strerror}); expected a folder that can be written, see --run-dir and --cache-dir"
        else:
            raise
        print(f"{error.filename or 'run folder'}: {said}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, stopping.Terminated) as stop:
        said = "terminated" if isinstance(stop, stopping.Terminated) else "interrupted"
        print(f"{said}; the same command goes on from the last checkpoint", file=sys.stderr)
        return stopping.exit_code(stop)
    return 0


def _check_studies(study: str, options: Any) -> None:
    """UsageError when an option names the run folder of another study."""
    for field in fields(options):
        value = getattr(options, field.name)
        if isinstance(value, Path) and (value / "config.json").is_file():
            other = read_json(value / "config.json").get("study", study)
            require(other == study, f"{value}: is a run of {other}; expected one of {study} (python -m {other} has the same commands)")


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


def _command(entry: Command | str) -> Command:
    """The command itself; `entry` may name the module that holds it as `COMMAND`."""
    return importlib.import_module(entry).COMMAND if isinstance(entry, str) else entry


def _overview(program: str, commands: Mapping[str, Command | str]) -> str:
    width = max(len(name) for name in commands)
    lines = [f"usage: {program} COMMAND [options]", "", "commands (each has its own --help):"]
    lines += [f"  {name:<{width}}  {_first_sentence(_command(entry).help)}" for name, entry in commands.items()]
    return "\n".join(lines)


def _first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence: what follows begins with a capital, and "fig." and the like end none."""
    plain = " ".join(text.split())
    for stop in re.finditer(r"[.] (?=[A-Z`])", plain):
        if not re.search(r"\b(fig|figs|eq|sec|tab|e\.g|i\.e|cf|vs|no|al)$", plain[: stop.start()], re.IGNORECASE):
            return plain[: stop.start() + 1]
    return plain


def parse(command: Command, arguments: Sequence[str], program: str = "") -> Any:
    """The command's settings for these options, checked; None after --help has been printed.

    Raises:
        UsageError: an option is unknown, malformed, out of range, names a missing file, or has no effect in this combination.
    """
    for before, word in zip(["", *arguments], arguments, strict=False):
        require(word != "", f"{before or program}: expected a value, got an empty one")
    words = _with_values(command.settings, arguments)
    typed, words = words, _expanded(words, command.everywhere or {}, command.presets or {})
    default = {} if command.default is None else {"default": _default(command, words)}
    boxes, page = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stderr(boxes), contextlib.redirect_stdout(page):
            options = tyro.cli(command.settings, prog=program, description=_description(command), args=words, **default)
    except SystemExit as stop:
        if not stop.code:
            print(page.getvalue(), end="")
            return None
        raise UsageError(f"{program}: {_one_line(boxes.getvalue())} (see {program} --help)") from None
    if isinstance(options, Settings):
        # What `everywhere` sets is meant for the stages that there are: no stage need have it.
        _check_given(options, {name: option for name, option in _given(typed).items() if option[2:] not in (command.everywhere or {})})
        options.check_paths()
    return options


def _default(command: Command, words: Sequence[str]) -> Any:
    """The settings that the other options are put over: those of the reading and the data set asked for.

    Somebody's own images replicate nothing, so with `folders` careful practice is the default reading.
    """
    hints = get_type_hints(command.settings)
    dataset = _last(words, "--dataset") or next((f.default for f in fields(command.settings) if f.name == "dataset"), "sample")
    known = get_args(hints.get("dataset"))
    require(not known or dataset in known, f"--dataset {dataset}: unknown; expected one of {', '.join(map(str, known))}")
    allowed = get_args(hints.get("reading"))
    reading = _last(words, "--reading") or ("corrected" if dataset == "folders" and "corrected" in allowed else "described")
    require(not allowed or reading in allowed, f"--reading {reading}: expected one of {', '.join(map(str, allowed))}")
    assert command.default is not None
    return command.default(reading, dataset)


def _last(words: Sequence[str], option: str) -> str | None:
    """The value that `option` has in the end, given as two words or as `option=value`."""
    value = None
    for index, word in enumerate(words):
        if word == option and index + 1 < len(words):
            value = words[index + 1]
        elif word.startswith(option + "="):
            value = word.partition("=")[2]
    return value


def _expanded(
    words: Sequence[str], everywhere: Mapping[str, tuple[str, ...]], presets: Mapping[str, Callable[[str], tuple[str, ...]]]
) -> list[str]:
    """The words with each option of `everywhere` and `presets` replaced, in place, by the options that it sets; later options still win."""
    found: list[str] = []
    index = 0
    while index < len(words):
        name, equals, value = words[index].partition("=")
        option = name.removeprefix("--").replace("_", "-") if name.startswith("--") else ""
        index += 1
        if option not in everywhere and option not in presets:
            found.append(words[index - 1])
            continue
        if not equals:
            require(index < len(words), f"{name}: expected a value")
            value = words[index]
            index += 1
        if option in presets:
            found += presets[option](value)
        else:
            found += [word for target in everywhere[option] for word in (f"--{target}", value)]
    return found


def _description(command: Command) -> str:
    everywhere = command.everywhere or {}
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, targets in everywhere.items():
        stems = tuple(target.removesuffix(name) for target in targets)
        groups.setdefault(stems if all(target.endswith(f".{name}") for target in targets) else targets, []).append(name)
    said = []
    for stems, names in groups.items():
        whole = [f"--{stem}{names[0]}" if stem.endswith(".") else f"--{stem}" for stem in stems]
        if len(names) == 1:
            said.append(f"--{names[0]} sets {' and '.join(whole)}.")
        else:
            said.append(
                f"{', '.join('--' + name for name in names)} set the options of their names in {' and '.join(s[:-1] for s in stems)}."
            )
    return " ".join([*command.help.split(), *said])


def _given(words: Sequence[str]) -> dict[str, str]:
    """Field, as `encoder.learning_rate`, -> the option as it was typed."""
    names = {word.partition("=")[0] for word in words if word.startswith("--")}
    given = {name.removeprefix("--").replace("-", "_"): name for name in sorted(names)}
    return given | {name.removeprefix("no_"): option for name, option in given.items() if name.startswith("no_")}


def _check_given(options: Settings, given: Mapping[str, str]) -> None:
    """Every option that was given has a value and acts."""
    for field in fields(options):
        if field.name in given and getattr(options, field.name) == ():
            raise UsageError(f"{given[field.name]}: expected at least one value")
    for name, reason in options.unused().items():
        for field_name, option in given.items():
            if field_name == name or field_name.startswith(name + "."):
                raise UsageError(f"{option}: has no effect here: {reason}")


def _with_values(options: type, arguments: Sequence[str]) -> list[str]:
    """`--x` and `--no-x` of options typed `bool | None` (None: the reading decides), for which tyro expects a value, with that value."""
    names = [field.name.replace("_", "-") for field in fields(options) if str(field.type) == "bool | None"]
    words = {f"--{name}": (f"--{name}", "True") for name in names} | {f"--no-{name}": (f"--{name}", "False") for name in names}
    found: list[str] = []
    for word, after in zip(arguments, [*arguments[1:], ""], strict=False):
        flag = words.get(word.replace("_", "-")) if after not in ("True", "False", "None") else None
        found += flag or (word,)
    return found


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
    "DEFAULT_CACHE",
    "MAIN_BACKBONES",
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
    "parse",
    "prepare_environment",
    "require",
]
