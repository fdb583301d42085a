"""A cell of a grid: the settings of one run, its folder, and the process that it runs in."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from common.runs.files import read_json
from common.runs.finished import differences
from common.runs.folder import is_finished
from common.settings import Settings, recipe

RUNNING: set[subprocess.Popen] = set()
_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "NPROC")  # the last is XLA's


@dataclass(frozen=True)
class GridCell:
    """One run of a command with these settings.

    Attributes:
        study: package name.
        experiment: command name.
        settings: the command's settings; `run_dir` in them is replaced by the cell's, if it has its `own_folder`, or else the command finds
            that one itself.
        run_dir: the cell's run folder.
        labels: such as {"backbone": "vgg16", "loss": "npairs", "seed": 0}; the cell's name.
        fingerprint: of today's data, where the grid knows it; a cell finished for other data is then a failure.
    """

    study: str
    experiment: str
    settings: Settings
    run_dir: Path
    labels: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    own_folder: bool = True

    @property
    def name(self) -> str:
        return " ".join([self.study, self.experiment, *(f"{key}={value}" for key, value in self.labels.items())])

    @property
    def finished(self) -> bool:
        return is_finished(self.run_dir)

    def command(self) -> list[str]:
        return [sys.executable, "-m", "common.runs.cell"]

    def stdin(self) -> bytes:
        """What the cell's process reads."""
        settings = replace(cast(Any, self.settings), run_dir=self.run_dir) if self.own_folder else self.settings
        return pickle.dumps((self.study, self.experiment, settings))

    def conflict(self) -> str:
        """Why the finished run in the cell's folder is not this cell's; "" where it is."""
        config = read_json(self.run_dir / "config.json") if (self.run_dir / "config.json").is_file() else {}
        if self.fingerprint and config.get("data_fingerprint") != self.fingerprint:
            return f"{self.run_dir}: finished for other data; choose another folder, or remove this one"
        # What the command adds to the recipe when it has seen the data is not known here, and by which name the data go (the fingerprint
        # is what tells them apart).
        wanted = {**recipe(self.settings), "seed": getattr(self.settings, "seed", None)}
        wanted.pop("dataset", None)
        there = {key: value for key, value in config.get("settings", {}).items() if key in wanted}
        differ = differences([there, wanted])
        said = "; ".join(f"{key} was {old}, now {new}" for key, (old, new) in list(differ.items())[:3])
        return f"{self.run_dir}: finished with other settings ({said}); choose another folder" if differ else ""


Start = Callable[[GridCell], "Future[tuple[int, str]]"]


def threads(count: int) -> dict[str, str]:
    """Environment variables that give a process so many threads, but for those that the user has set."""
    return {name: str(count) for name in _THREADS if name not in os.environ}


def run_cell(cell: GridCell, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run one cell in a process of its own: (0, "") when it finished, else (exit code, last line of its stderr).

    Stopped while it waits, it ends the process in order.
    """
    # The packages are found from any working directory.
    paths = os.pathsep.join(filter(None, (str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH"))))
    own = {**os.environ, **(environment or {}), "PYTHONPATH": paths}
    with subprocess.Popen(cell.command(), stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=own) as ended:
        RUNNING.add(ended)
        try:
            said = _said(ended, cell.stdin())
        except BaseException:
            ended.terminate()
            raise
        finally:
            RUNNING.discard(ended)
    if not ended.returncode and cell.finished:
        return 0, ""
    if ended.returncode not in (0, 2):
        sys.stderr.write(said)
    lines = said.strip().splitlines()
    return ended.returncode or 1, lines[-1] if lines else "it ended without finishing its run"


def _said(process: subprocess.Popen, given: bytes | None) -> str:
    """What the process wrote to stderr until its end. Looks up every second: Ray's way to stop a task ends no system call."""
    while True:
        try:
            return process.communicate(given, timeout=1)[1].decode(errors="replace")
        except subprocess.TimeoutExpired:
            given = None
