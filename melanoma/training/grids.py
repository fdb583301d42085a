"""The runs behind Tables 2 to 6: each command makes the ones that are missing, then writes its tables from what is there."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from common.runs.cells import GridCell
from common.runs.folder import is_finished, run_path
from common.runs.grid import GridOutcome, run_grid
from melanoma.experiments.base import STUDY
from melanoma.experiments.baselines import BaselineSettings
from melanoma.experiments.pretrain import own
from melanoma.experiments.table import TableSettings, root, variant
from melanoma.experiments.train import DESCRIBED, BioUNetSettings
from melanoma.reporting import complete, report
from melanoma.tables import write_all
from melanoma.training import baselines
from melanoma.training.inputs import Inputs, load_inputs, open_run
from melanoma.training.pipeline import train
from melanoma.training.pretraining import origin


def grid_command(settings: TableSettings) -> None:
    """`melanoma ablation`, `repeats`, `multitask`, `thresholds` (Tables 3 to 6) and `baselines` (Table 2's other rows, the plain U-Net).

    The missing runs, each in a process of its own, then all tables that they can fill. What waits for a run that fails is left out.
    """
    before, cells = cells_of(settings)
    firsts = {one.run_dir: one for one in before.values()}.values()
    if settings.plan:
        run_grid([cell for cell in (*firsts, *cells.values()) if not cell.finished], settings)
    first = _run(firsts, settings)
    second = _run((cell for place, cell in cells.items() if place not in before or before[place].finished), settings)
    if any(cell.finished for cell in cells.values()):
        write_all(root(settings))
    first.check()
    second.check()


def _run(cells: Iterable[GridCell], settings: TableSettings) -> GridOutcome:
    missing = [cell for cell in cells if not cell.finished]
    return run_grid(missing, settings) if missing else GridOutcome(0, 0, 0)


def cell_name(cell: BioUNetSettings) -> str:
    """Folder of a cell below --run-dir, from its settings: the same run under whichever table asks for it, so trained once."""
    parts = [variant({"segmentation": cell.segmentation, "simclr": cell.simclr})]
    skipped = cell.unused()
    for name in ("encoders", "tasks", "order", "target"):
        value = getattr(cell, name)
        parts += [value] * (name not in skipped and value != getattr(DESCRIBED, name))
    parts += [f"repeats{cell.repeats}"] * ("repeats" not in skipped and cell.repeats != DESCRIBED.repeats)
    return "-".join([*parts, f"seed{cell.seed}"])


def cells_of(settings: TableSettings) -> tuple[dict[Path, GridCell], dict[Path, GridCell]]:
    """By the folders of the table's runs, (what comes before: a pre-training, or the plain classifier that CAM methods explain; the runs).

    UsageError where a folder holds a finished run of other settings or data, or a damaged one.
    """
    before: dict[Path, GridCell] = {}
    cells: dict[Path, GridCell] = {}
    for seed, row in product(settings.seeds, settings.rows):
        cell = settings.cell(seed, row)
        inputs, where, labels = load_inputs(cell), settings.run_dir, {"row": row, "seed": seed}
        table_2 = isinstance(settings, BaselineSettings)
        if table_2:
            place = _place(inputs, row, where and where / f"{row}-seed{seed}", **baselines.content(inputs, settings, row))
            cells[place] = GridCell(STUDY, "baselines", replace(settings, seeds=(seed,), rows=(row,)), place, labels, own_folder=False)
            if row != "cams":
                continue
        alone = _place(inputs, "train", where and where / cell_name(cell), **origin(inputs))
        if cell.simclr and cell.order == "phases" and cell.pretrained is None:
            first = _place(inputs, "pretrain", where and where / f"pretrain-seed{seed}", own(cell), dataset_b=inputs.facts_b)
            before[alone] = GridCell(STUDY, "pretrain", own(cell), first, {"seed": seed})
            cell = replace(cell, pretrained=first)
        run = GridCell(STUDY, "train", cell, alone, labels)
        if table_2:
            before[place] = run
        else:
            cells[alone] = run
    return before, cells


def _place(inputs: Inputs, experiment: str, given: Path | None, settings: Any = None, **content: Any) -> Path:
    """The run's folder: the one given, or that of its settings."""
    found = inputs.recipe(settings, **content)
    place = given or run_path(STUDY, experiment, found, name_parts=inputs.name_parts(), fingerprint=inputs.fingerprint)
    if is_finished(place):
        open_run(inputs, experiment, place, settings, **content)
    return place


def baseline(settings: BaselineSettings) -> None:
    """The run of the only row and seed."""
    (seed,), (row,) = settings.seeds, settings.rows
    inputs, where = load_inputs(settings.cell(seed, row)), settings.run_dir
    run = open_run(inputs, row, where and where / f"{row}-seed{seed}", **baselines.content(inputs, settings, row))
    if row == "cams":
        plain = complete(train, inputs, where and where / cell_name(inputs.settings))
        baselines.cams(run, inputs, plain.path, settings)
    elif row == "vat":
        baselines.vat(run, inputs, settings)
        report(run, inputs, "VAT baseline")
    else:
        baselines.plain_unet(run, inputs)
    run.finish()
