"""`python -m common.runs.cell`: one cell of a grid in a process of its own; study, command and settings come pickled on standard input.

The settings object itself arrives, not words for a command line: nothing is parsed again, nothing is looked up by a file's name. When the
process that started it dies (a killed Ray worker), the cell gets SIGTERM, saves at the batch's end and frees its folder for the next one.
"""

import ctypes
import importlib
import os
import pickle
import signal
import sys

from common.cli import run
from common.settings import Command


def command_of(study: str, experiment: str) -> Command:
    """The command `experiment` from the table of commands in the study's `__main__`; of a command that runs many, `CELL`, one of those."""
    entry = importlib.import_module(f"{study}.__main__").COMMANDS[experiment]
    if not isinstance(entry, str):
        return entry
    module = importlib.import_module(entry)
    return getattr(module, "CELL", module.COMMAND)


def end_with(parent: int) -> None:
    """SIGTERM for this process when `parent` ends (Linux; elsewhere it goes on alone)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    end_with(os.getppid())
    study, experiment, settings = pickle.load(sys.stdin.buffer)  # noqa: S301 (from the grid that started this process)
    # What a run folder notes as its command: the settings are beside it.
    sys.argv = [study, experiment, *(["--run-dir", str(settings.run_dir)] if settings.run_dir else [])]
    return run(command_of(study, experiment), settings)


if __name__ == "__main__":
    sys.exit(main())
