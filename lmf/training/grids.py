"""The grid commands: `tables` (Tables 1 to 5, figs. 1 and 2) and `sweep` (fig. 4). Each runs what is missing, then writes its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from common.data.dataset import Dataset
from common.data.fingerprint import fingerprint
from common.grids import Engine
from common.runs.cells import GridCell
from common.runs.finished import FoundRun, finished_runs
from common.runs.folder import RUNS, run_path
from common.runs.grid import GridOutcome, run_grid
from lmf import data, tables
from lmf.experiments.sweep import SweepSettings
from lmf.experiments.tables import TablesSettings
from lmf.experiments.train import TrainSettings
from lmf.training.train import identity, name_parts


def run_tables(settings: TablesSettings) -> Path:
    """`lmf tables`; returns its report.md."""
    further = [run for folder in settings.also for run in finished_runs(folder, "lmf", experiments=("train", "retrain"))]
    cells, outcome = run_cells(settings.cells(), settings)
    path = tables.write_tables(_folder("tables", settings), [*_finished(cells), *further], settings.against)
    outcome.check()
    return path


def run_sweep(settings: SweepSettings) -> Path:
    """`lmf sweep`; returns its report.md."""
    cells, outcome = run_cells(settings.cells(), settings)
    path = tables.write_sweep(_folder("sweep", settings), _finished(cells), settings)
    outcome.check()
    return path


def run_cells(wanted: Sequence[TrainSettings], where: Engine) -> tuple[list[GridCell], GridOutcome]:
    """Run what is missing of these trainings; a failed one stops no other. Where every one failed it ends as `GridOutcome.check` does."""
    cells: list[GridCell] = []
    known: dict[tuple, tuple] = {}
    for each in wanted:
        images = (each.dataset, each.sample, each.split, each.split_seed, each.limit, each.balanced_limit)
        if images not in known:
            dataset = data.load(each, (each.image_size, each.resize_filter))
            known[images] = (dataset, data.split(dataset.manifest, each.split, each.split_seed))
        cells.append(cell_of(each, *known[images]))
    outcome = run_grid(cells, where)
    outcome.check_any()
    return cells, outcome


def cell_of(settings: TrainSettings, dataset: Dataset, manifest: pd.DataFrame) -> GridCell:
    """The cell of one training, its run folder named by its settings and data; `manifest` is split."""
    of_data = fingerprint(dataset, masks=False)
    path = run_path("lmf", "train", identity(settings, dataset, manifest), name_parts=name_parts(settings), fingerprint=of_data)
    labels = {"dataset": data.name_of(settings), "backbone": settings.backbone, "loss": settings.loss, "seed": settings.seed}
    labels |= {"alpha": settings.alpha, "beta": settings.beta} if settings.loss == "lmf" else {}
    return GridCell("lmf", "train", settings, path, labels, of_data)


def _finished(cells: Sequence[GridCell]) -> list[FoundRun]:
    return [FoundRun.of(cell.run_dir) for cell in cells if cell.finished and not cell.conflict()]


def _folder(command: str, settings: TablesSettings | SweepSettings) -> Path:
    """Where the outcome goes: it is made again from the runs each time, so one name per data set, split and reading is enough."""
    name = f"{data.name_of(settings)}-{settings.train.split}-{settings.reading}"
    return settings.run_dir or RUNS / "lmf" / command / name
