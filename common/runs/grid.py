"""A grid of experiments: run what is missing, each cell in a process of its own, here or on a Ray cluster (`common.grids.Engine`).

A crash or the memory of one cell cannot harm the next. The same call again goes on where the last one stopped: finished cells are skipped,
a half-finished one resumes; a cell that is finished with other settings, or for other data, is a failure that says so.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from common import stopping
from common.durations import duration
from common.errors import Done, UsageError
from common.grids import Engine
from common.runs.cells import RUNNING, GridCell, Start, run_cell, threads
from common.runs.cluster import cluster

log = logging.getLogger(__name__)
_HERE = Engine()


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

    def check_any(self) -> None:
        """Call before a table is written: where every cell failed there is none, and the cells' reasons are what to mend."""
        if len(self.failed) == self.total:
            self.check()

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


def run_grid(cells: Sequence[GridCell], where: Engine = _HERE) -> GridOutcome:
    """Run every cell that is not finished, each in its own process, where `where` says; a failed one does not stop the others.

    The cells' own progress goes to stdout as it comes; after each one stands a line with the number that are done, the time gone and the
    time left, estimated from the cells run so far. Raises ValueError when two cells share a run folder, and Done after a `--plan`.
    """
    if len({cell.run_dir.resolve() for cell in cells}) != len(cells):
        raise ValueError("two cells of the grid share a run folder")
    missing = [cell for cell in cells if not cell.finished]
    failed = [(cell, 2, reason) for cell in cells if cell.finished and (reason := cell.conflict())]
    already = len(cells) - len(missing) - len(failed)
    log.info("%d of %d cells finished already, %d to run", already, len(cells), len(missing))
    if where.plan:
        from common.runs.plan import say

        say(missing)
        raise Done
    began, done = time.monotonic(), 0
    if missing:
        with engine(where, missing) as start:
            started = {start(cell): cell for cell in missing}
            for each in as_completed(started):
                cell, done = started[each], done + 1
                lost = each.exception()
                code, reason = (1, f"{type(lost).__name__}: {str(lost).splitlines()[0]}") if lost else each.result()
                if code:
                    failed.append((cell, code, reason))
                    log.info("failed, going on: %s", reason)
                log.info("[%d/%d] %s%s", already + done, len(cells), cell.name, _clock(began, done, len(missing)))
    ran = len(missing) - sum(cell in missing for cell, _, _ in failed)
    outcome = GridOutcome(len(cells), already, ran, tuple(failed))
    spent = duration(time.monotonic() - began)
    log.info("grid: %d finished before, %d now, %d failed, %s", outcome.already, outcome.ran, len(failed), spent)
    return outcome


def engine(where: Engine, cells: Sequence[GridCell]) -> AbstractContextManager[Start]:
    """What starts a cell and gives the future of what `run_cell` returns. Left by an exception, it stops every cell in order."""
    return cluster(where, cells) if where.engine == "ray" else _processes(where.parallel)


@contextmanager
def _processes(parallel: int) -> Iterator[Start]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    own = threads(max(1, cores // parallel)) if parallel > 1 else {}

    def one(cell: GridCell) -> tuple[int, str]:
        log.info("begins: %s", cell.name)
        return run_cell(cell, own)

    with ThreadPoolExecutor(max_workers=parallel) as pool:
        try:
            yield lambda cell: pool.submit(one, cell)
        except BaseException as stop:
            pool.shutdown(wait=False, cancel_futures=True)
            stopping.obeyed()
            for process in list(RUNNING):  # each ends in order: SIGTERM saves at the batch's end
                process.send_signal(signal.SIGTERM if isinstance(stop, stopping.Terminated) else signal.SIGINT)
            raise


def _clock(began: float, done: int, total: int) -> str:
    if not done:
        return ""
    gone = time.monotonic() - began
    return f"  ({duration(gone)} gone, about {duration(gone / done * (total - done))} left)"
