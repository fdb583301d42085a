"""The runs behind Tables 2 to 6: each command makes the ones that are missing, then writes its tables from what is there."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from common.runs.cells import GridCell
from common.runs.folder import Run, run_path
from common.runs.grid import run_grid
from melanoma.experiments.base import STUDY
from melanoma.experiments.baselines import BaselineSettings
from melanoma.experiments.pretrain import own
from melanoma.experiments.table import TableSettings, root, variant
from melanoma.experiments.train import DESCRIBED, BioUNetSettings
from melanoma.reporting import complete, report
from melanoma.tables import write_all
from melanoma.training import baselines
from melanoma.training.inputs import Inputs, load_inputs
from melanoma.training.pipeline import train
from melanoma.training.pretraining import origin, pretrain


def grid_command(settings: TableSettings) -> None:
    """`melanoma ablation`, `repeats`, `multitask` and `thresholds` (Tables 3 to 6): the table's runs, then all tables they can fill."""
    if settings.engine != "local" or settings.parallel > 1 or settings.plan:
        in_processes(settings)
    for seed in settings.seeds:
        for row in settings.rows:
            run_cell(settings, seed, row)
    write_all(root(settings))


def cell_name(cell: BioUNetSettings) -> str:
    """Folder of a cell below --run-dir, from its settings: the same run under whichever table asks for it, so trained once."""
    parts = [variant({"segmentation": cell.segmentation, "simclr": cell.simclr})]
    skipped = cell.unused()
    for name in ("encoders", "tasks", "order", "target"):
        value = getattr(cell, name)
        parts += [value] * (name not in skipped and value != getattr(DESCRIBED, name))
    parts += [f"repeats{cell.repeats}"] * ("repeats" not in skipped and cell.repeats != DESCRIBED.repeats)
    return "-".join([*parts, f"seed{cell.seed}"])


def in_processes(settings: TableSettings) -> None:
    """The table's missing runs, each in a process of its own, their pre-trainings before them."""
    before: dict[Path, GridCell] = {}
    cells: dict[Path, GridCell] = {}
    for seed, row in product(settings.seeds, settings.rows):
        cell = settings.cell(seed, row)
        inputs, where = load_inputs(cell), settings.run_dir

        def default(experiment: str, content: dict[str, Any], inputs: Inputs = inputs) -> Path:
            return run_path(STUDY, experiment, content, name_parts=inputs.name_parts(), fingerprint=inputs.fingerprint)

        place = where / cell_name(cell) if where is not None else default("train", inputs.recipe(**origin(inputs)))
        if cell.simclr and cell.order == "phases" and cell.pretrained is None:
            first = (
                where / f"pretrain-seed{seed}"
                if where is not None
                else default("pretrain", inputs.recipe(own(cell), dataset_b=inputs.facts_b))
            )
            before[first] = GridCell(STUDY, "pretrain", own(cell), first, {"seed": seed})
            cell = replace(cell, pretrained=first)
        cells[place] = GridCell(STUDY, "train", cell, place, {"row": row, "seed": seed})
    missing = [[each for each in stage.values() if not each.finished] for stage in (before, cells)]
    for stage in [missing[0] + missing[1]] if settings.plan else missing:
        run_grid(stage, settings).check()


def run_cell(settings: TableSettings, seed: int, row: str) -> Run:
    """One run. With --run-dir every cell has a folder there, and the cells of a seed share one pre-training."""
    cell, where = settings.cell(seed, row), settings.run_dir
    inputs = load_inputs(cell)
    if where is None:
        return complete(train, inputs)
    if cell.simclr and cell.order == "phases" and cell.pretrained is None:
        shared = complete(pretrain, inputs, where / f"pretrain-seed{seed}")
        inputs = replace(inputs, settings=replace(cell, pretrained=shared.path))
    return complete(train, inputs, where / cell_name(cell))


def baselines_command(settings: BaselineSettings) -> None:
    """`melanoma baselines`: Table 2's other rows, and the plain U-Net."""
    for seed in settings.seeds:
        inputs = load_inputs(settings.cell(seed, settings.rows[0]))  # the plain classifier's settings, whichever row

        def place(name: str, seed: int = seed) -> Path | None:
            return settings.run_dir / f"{name}-seed{seed}" if settings.run_dir is not None else None

        if "cams" in settings.rows:
            plain = complete(train, inputs, settings.run_dir / cell_name(inputs.settings) if settings.run_dir is not None else None)
            baselines.cams(inputs, plain.path, settings, place("cams"))
        if "vat" in settings.rows:
            run = baselines.vat(inputs, settings, place("vat"))
            if not run.finished:
                report(run, inputs, "VAT baseline")
                run.finish()
        if "unet" in settings.rows:
            baselines.plain_unet(inputs, settings, place("unet"))
    write_all(root(settings))
