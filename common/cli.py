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
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import tyro

from common import stopping
from common.errors import Done, UsageError
from common.runs.files import read_json
from common.runs.folder import nothing_half_written
from common.settings import Command, Settings, require
from common.startup import override_keras_json, without_startup_lines

_BACKENDS = {"tensorflow": "requirements.txt", "jax": "requirements-jax.txt"}


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
    if getattr(options, "devices", 1) > 1:
        from common import device

        device.meet()
    with nothing_half_written():
        target(options)


def _guarded(action: Callable[[], None]) -> int:
    """The exit code of what `action` does; what is the user's to mend is one line on stderr."""
    try:
        with stopping.handled():
            action()
    except Done:
        return 0
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
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without UTF-8, and names that are no UTF-8, cost a character, never the run
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    for noisy in ("absl", "jax", "tensorflow", "matplotlib", "h5py", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    override_keras_json()


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
    typed, words = list(arguments), _expanded(arguments, command.everywhere or {}, command.presets or {})
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
        _check_given(options, _acting_given(options, _given(typed), command.everywhere or {}))
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
    """Every option that was given has at least one value, and acts."""
    for field in fields(options):
        if field.name in given and getattr(options, field.name) == ():
            raise UsageError(f"{given[field.name]}: expected at least one value")
    for name, reason in options.unused().items():
        for field_name, option in given.items():
            if field_name == name or field_name.startswith(name + "."):
                raise UsageError(f"{option}: has no effect here: {reason}")


def _acting_given(options: Settings, given: Mapping[str, str], everywhere: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """`given`, where an option of `everywhere` stands for its first target if none of its targets acts, and for none otherwise.

    What it sets is meant for the stages that there are: one that is left out is no mistake, all of them are.
    """
    idle, found = set(options.unused()), {}
    for name, option in given.items():
        targets = [target.replace("-", "_") for target in everywhere.get(option[2:], ())]
        if not targets:
            found[name] = option
        elif idle.issuperset(targets):
            found[targets[0]] = option
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
