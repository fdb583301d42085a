"""A grid of experiments: run what is missing, each cell in a process of its own.

A crash or the memory of one cell cannot harm the next. The same call again goes on where the last one stopped: finished cells are skipped,
a half-finished one resumes; a cell that is finished with other settings, or for other data, is a failure that says so.
"""

import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from common import stopping
from common.durations import duration
from common.errors import UsageError
from common.runs.files import read_json
from common.runs.finished import differences
from common.runs.folder import is_finished
from common.settings import Settings, recipe

log = logging.getLogger(__name__)
_RUNNING: set[subprocess.Popen] = set()


@dataclass(frozen=True)
class GridCell:
    """One run of a command with these settings.

    Attributes:
        study: package name.
        experiment: command name.
        settings: the command's settings; `run_dir` in them is replaced by the cell's.
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
        return pickle.dumps((self.study, self.experiment, replace(cast(Any, self.settings), run_dir=self.run_dir)))

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


@dataclass(frozen=True)
class GridOutcome:
    """What `run_grid` did. `failed`: (cell, exit code, last line of its stderr)."""

    total: int
    already: int
    ran: int
    failed: tuple[tuple[GridCell, int, str], ...] = ()

    @property
    def exit_code(self) -> int:
        """0 when every cell is finished; 2 when all failures were wrong usage or bad data; 1 otherwise."""
        codes = {code for _, code, _ in self.failed}
        return 0 if not codes else 2 if codes == {2} else 1

    def check(self) -> None:
        """Call last, when the tables of the finished cells are written: a failed cell ends the command with its exit code."""
        if not self.failed:
            return
        reasons = "; ".join(f"{cell.name} (exit {code}: {line})" for cell, code, line in self.failed)
        message = f"{len(self.failed)} of {self.total} cells failed, the same command tries them again: {reasons}"
        if self.exit_code == 2:
            raise UsageError(message)
        print(message, file=sys.stderr)
        raise SystemExit(1)


def run_grid(cells: Sequence[GridCell], parallel: int = 1) -> GridOutcome:
    """Run every cell that is not finished, `parallel` at a time, each in its own process; a failed one does not stop the others.

    The cells' own progress goes to stdout as it comes; before each one stands a line with its number, the time gone and the time left,
    estimated from the cells run so far. Raises ValueError when two cells share a run folder.
    """
    if len({cell.run_dir.resolve() for cell in cells}) != len(cells):
        raise ValueError("two cells of the grid share a run folder")
    missing = [cell for cell in cells if not cell.finished]
    failed = [(cell, 2, reason) for cell in cells if cell.finished and (reason := cell.conflict())]
    already = len(cells) - len(missing) - len(failed)
    log.info("%d of %d cells finished already, %d to run", already, len(cells), len(missing))
    began, done = time.monotonic(), 0

    def one(place: int, cell: GridCell) -> tuple[int, str]:
        nonlocal done
        log.info("[%d/%d] %s%s", already + place + 1, len(cells), cell.name, _clock(began, done, len(missing)))
        ended = run_cell(cell)
        done += 1
        return ended

    with ThreadPoolExecutor(max_workers=max(1, parallel)) as pool:
        started = {pool.submit(one, place, cell): cell for place, cell in enumerate(missing)}
        try:
            for each in as_completed(started):
                code, reason = each.result()
                if code:
                    failed.append((started[each], code, reason))
                    log.info("failed, going on: %s", reason)
        except BaseException as stop:
            pool.shutdown(wait=False, cancel_futures=True)
            stopping.obeyed()
            for process in list(_RUNNING):  # each ends in order: SIGTERM saves at the batch's end
                process.send_signal(signal.SIGTERM if isinstance(stop, stopping.Terminated) else signal.SIGINT)
            raise
    ran = len(missing) - sum(cell in missing for cell, _, _ in failed)
    outcome = GridOutcome(len(cells), already, ran, tuple(failed))
    spent = duration(time.monotonic() - began)
    log.info("grid: %d finished before, %d now, %d failed, %s", outcome.already, outcome.ran, len(failed), spent)
    return outcome


def run_cell(cell: GridCell) -> tuple[int, str]:
    """Run one cell in a process of its own: (0, "") when it finished, else (exit code, last line of its stderr)."""
    # The packages are found from any working directory.
    paths = os.pathsep.join(filter(None, (str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH"))))
    with subprocess.Popen(
        cell.command(), stdin=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    ) as ended:  # fmt: skip
        _RUNNING.add(ended)
        try:
            said = ended.communicate(cell.stdin())[1].decode(errors="replace")
        finally:
            _RUNNING.discard(ended)
    if not ended.returncode and cell.finished:
        return 0, ""
    if ended.returncode not in (0, 2):
        sys.stderr.write(said)
    lines = said.strip().splitlines()
    return ended.returncode or 1, lines[-1] if lines else "it ended without finishing its run"


def _clock(began: float, done: int, total: int) -> str:
    if not done:
        return ""
    gone = time.monotonic() - began
    return f"  ({duration(gone)} gone, about {duration(gone / done * (total - done))} left)"
