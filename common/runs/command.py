"""The command that a run folder records."""

import shlex
import sys
from pathlib import Path

_PATH_OPTIONS = (
    "--data-dir", "--labels-csv", "--mask-dir", "--cache-dir", "--run-dir", "--weights", "--costs", "--base", "--output",
    "--unlabelled-dir", "--pretrained", "--network", "--boxes",
)  # fmt: skip


def recorded_command() -> str:
    """The command as typed, with folders shortened to their last part."""
    words = [_shortened(before, word) for before, word in zip(sys.argv, sys.argv[1:], strict=False)]
    program = Path(sys.argv[0]).parent.name if Path(sys.argv[0]).name == "__main__.py" else Path(sys.argv[0]).name
    return shlex.join(["python", "-m", program, *words])


def _shortened(before: str, word: str) -> str:
    option, equals, value = word.partition("=")
    if equals and option in _PATH_OPTIONS:
        return f"{option}={Path(value).name}"
    elsewhere = Path(word).is_absolute() or word.startswith("..")
    return Path(word).name if before in _PATH_OPTIONS or elsewhere else word
