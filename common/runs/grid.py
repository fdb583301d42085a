"""A grid of experiments: run what is missing, one process at a time, and collect what is there.

Each cell is one command line of a study, run in a process of its own (a crash or the memory of one cannot harm the next) and known by its
run folder. The same call again goes on where the last one stopped: finished cells are skipped, a half-finished one resumes.
"""

import json
import logging
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from common.durations import duration
from common.errors import UsageError
from common.report.report import find_metric
from common.runs.folder import is_finished

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GridCell:
    """`python -m <study> <experiment> <arguments…> --run-dir <run_dir>`, with what tells it from the other cells.

    labels: such as {"backbone": "vgg16", "loss": "npairs", "seed": 0}; they become columns of `collect` and the cell's name.
    """

    study: str
    experiment: str
    arguments: tuple[str, ...]
    run_dir: Path
    labels: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return " ".join([self.study, self.experiment, *(f"{key}={value}" for key, value in self.labels.items())])

    @property
    def finished(self) -> bool:
        return is_finished(self.run_dir)

    def command(self) -> list[str]:
        return [sys.executable, "-m", self.study, self.experiment, *map(str, self.arguments), "--run-dir", str(self.run_dir)]

    def control(self, **labels: Any) -> "GridCell":
        """The control run inside this cell's folder, as a cell to collect (it is run by its method, never on its own)."""
        return replace(self, run_dir=self.run_dir / "control", labels={**self.labels, **labels})


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


def run_grid(cells: Sequence[GridCell]) -> GridOutcome:
    """Run every cell that is not finished, in order, each in its own process; a failed one does not stop the others.

    The cells' own progress goes to stdout as it comes; before each one stands a line with its number, the time gone and the time left,
    estimated from the cells run so far. Raises ValueError when two cells share a run folder.
    """
    if len({cell.run_dir.resolve() for cell in cells}) != len(cells):
        raise ValueError("two cells of the grid share a run folder")
    missing = [cell for cell in cells if not cell.finished]
    log.info("%d of %d cells finished already, %d to run", len(cells) - len(missing), len(cells), len(missing))
    failed: list[tuple[GridCell, int, str]] = []
    began = time.monotonic()
    for index, cell in enumerate(missing):
        log.info("[%d/%d] %s%s", len(cells) - len(missing) + index + 1, len(cells), cell.name, _clock(began, index, len(missing)))
        ended = subprocess.run(cell.command(), stderr=subprocess.PIPE, text=True, errors="replace", check=False)
        if ended.returncode or not cell.finished:
            lines = ended.stderr.strip().splitlines()
            if ended.returncode not in (0, 2):
                sys.stderr.write(ended.stderr)
            reason = lines[-1] if lines else "it ended without finishing its run"
            failed.append((cell, ended.returncode or 1, reason))
            log.info("failed, going on: %s", reason)
    outcome = GridOutcome(len(cells), len(cells) - len(missing), len(missing) - len(failed), tuple(failed))
    spent = duration(time.monotonic() - began)
    log.info("grid: %d finished before, %d now, %d failed, %s", outcome.already, outcome.ran, len(failed), spent)
    return outcome


def collect(cells: Sequence[GridCell], metrics: Sequence[str] = ("accuracy", "macro_f1")) -> pd.DataFrame:
    """One row a cell: its labels, `run` (its folder), `n`, `synthetic`, and per metric `<metric>`, `<metric>_low`, `<metric>_high`.

    Metrics are named as in `report.find_metric` ("per_class.Parabasal.f1" works). A cell without metrics.json has missing values and
    `n` 0, so a table shows the hole instead of hiding it.
    """
    rows = []
    for cell in cells:
        path = cell.run_dir / "metrics.json"
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        row = {**cell.labels, "run": cell.run_dir.as_posix(), "n": content.get("n", 0), "synthetic": bool(content.get("synthetic", False))}
        for metric in metrics:
            _, value, interval = find_metric(content, metric)
            low, high = interval or (math.nan, math.nan)
            row |= {metric: math.nan if value is None else value, f"{metric}_low": low, f"{metric}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def _clock(began: float, done: int, total: int) -> str:
    if not done:
        return ""
    gone = time.monotonic() - began
    return f"  ({duration(gone)} gone, about {duration(gone / done * (total - done))} left)"
