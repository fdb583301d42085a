"""Rows of the study's tables: which finished runs stand in which row, and what is printed there; and the commands that run the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from cervical.data import load
from cervical.decisions import write_decisions
from cervical.experiments.base import CellTraining
from cervical.experiments.compare_losses import CompareLossesSettings
from cervical.experiments.finetune import CUT, FinetuneSettings
from cervical.experiments.freeze_depth import FreezeDepthSettings
from cervical.experiments.grids import Grid
from cervical.experiments.tables import TablesSettings
from cervical.figures import loss_curves
from cervical.models import at_most, default_depths, depth_steps
from cervical.paper import TABLE_NUMBERS, document, notebook, of_no_document, printed_accuracy
from cervical.sections import (
    TITLES,
    accuracy_figures,
    block_of,
    class_tables,
    depth_curve,
    depth_text,
    falls_text,
    histories,
    images_text,
    previous_text,
    settings_text,
)
from cervical.training.stages import decision_files, default_run_dir
from common.backbones import BACKBONES
from common.data.dataset import Dataset, class_names
from common.data.fingerprint import fingerprint
from common.errors import UsageError
from common.report.decision import cost_matrix
from common.report.tables import Printed, TableRow, write_table
from common.runs.cells import GridCell
from common.runs.finished import FoundRun, by_recipe, names_by_difference
from common.runs.grid import run_grid

# Every method against fine-tuning, and the contrastive one against its control.
PAIRS = (("finetune", "cost-sensitive"), ("finetune", "contrastive"), ("contrastive-control", "contrastive"))
# Runs that differ in one of these do not stand in one table.
SITUATION = ("dataset", "split", "same_cells", "split_seed", "limit", "image_size", "copies", "views", "reading")


def run_tables(grid: TablesSettings) -> Path:
    """Run what is missing, then write every table of what is there. Returns the folder."""
    dataset = load(grid, grid.limit)
    cells = table_cells(grid, dataset)
    folder, outcome = folder_of("tables", grid, cells), run_grid(cells, grid)
    outcome.check_any()
    rows = grid_rows(cells)
    text = "\n".join([class_tables(rows), previous_text(rows), settings_text(rows), images_text(dataset, rows)])
    figures = {f"accuracy_{name}": figure for name, figure in accuracy_figures(rows).items()}
    write_table(folder, f"Cervical cells: tables, {grid.reading}", rows, pairs=pairs_of(rows), text=text, figures=figures)
    for method in grid.methods:
        settings = grid.run_settings(method.replace("-", "_"))
        own = [row for row in rows if row.runs and row.runs[0].experiment == method]
        if settings.decision == "minimum-cost" and own:
            costs, kinds = decision_files(settings, class_names(dataset.manifest))
            write_decisions(folder / "decisions" / method, own, settings, cost_matrix(costs), kinds or {})
    outcome.check()
    return folder


def run_compare_losses(grid: CompareLossesSettings) -> Path:
    """Train what is missing, then write curves and tables. Returns the folder."""
    dataset = load(grid, grid.limit)
    cells = loss_cells(grid, dataset)
    folder, outcome = folder_of("compare-losses", grid, cells), run_grid(cells, grid)
    outcome.check_any()
    rows = grid_rows(cells)
    first = next((row.name for row in rows if row.runs and row.runs[0].value("loss") == grid.losses[0]), None)
    figures = {
        f"losses_{backbone}": loss_curves(histories(rows, backbone), dataset.synthetic)
        for backbone in grid.backbones[:3]
        if histories(rows, backbone)
    }
    text = "## Loss of the encoder\n\nValues of different losses cannot be compared; only whether each falls.\n\n" + falls_text(rows)
    write_table(folder, "Cervical cells: contrastive losses compared", rows, baseline=first, text=text, figures=figures)
    outcome.check()
    return folder


def run_freeze_depth(grid: FreezeDepthSettings) -> Path:
    """One fine-tuning run a depth, chosen on validation images, told on test images. Returns the folder."""
    dataset = load(grid, grid.limit)
    cells = depth_cells(grid, dataset)
    folder, outcome = folder_of("freeze-depth", grid, cells), run_grid(cells, grid)
    outcome.check_any()
    rows = [replace(row, name=f"{row.runs[0].value('freeze')} frozen") for row in grid_rows(cells) if row.runs]
    drawn = {f"depth_{backbone}": depth_curve(rows, backbone) for backbone in grid.backbones[:3]}
    figures = {name: figure for name, figure in drawn.items() if figure is not None}
    metrics = ("validation_accuracy", "accuracy", "trainable_parameters")
    write_table(
        folder, "Cervical cells: how many layers to freeze", rows, metrics=metrics, compared=None, text=depth_text(rows), figures=figures
    )
    outcome.check()
    return folder


# Cells: the runs of a command, in the folders that single commands use.


def cell(experiment: str, settings: CellTraining, dataset: Dataset) -> GridCell:
    """One training run."""
    if isinstance(settings, FinetuneSettings):  # the number, so that a finished run is known by it
        settings = replace(settings, freeze=settings.frozen_layers(settings.backbone))
    labels = {"backbone": settings.backbone, "seed": settings.seed}
    folder = default_run_dir(experiment, replace(settings, run_dir=None), dataset)
    return GridCell("cervical", experiment, settings, folder, labels, fingerprint(dataset, masks=False))


def table_cells(grid: TablesSettings, dataset: Dataset) -> list[GridCell]:
    """Networks x methods x seeds."""
    return [
        cell(method, grid.run_settings(method.replace("-", "_"), backbone=backbone, seed=seed), dataset)
        for backbone, method, seed in product(grid.backbones, grid.methods, grid.seeds)
    ]


def loss_cells(grid: CompareLossesSettings, dataset: Dataset) -> list[GridCell]:
    """Networks x losses x seeds; the first loss's runs bring the control along."""
    return [
        cell("contrastive", grid.run_settings("contrastive", loss=loss, control=not place, backbone=backbone, seed=seed), dataset)
        for backbone, (place, loss), seed in product(grid.backbones, enumerate(grid.losses), grid.seeds)
    ]


def depth_cells(grid: FreezeDepthSettings, dataset: Dataset) -> list[GridCell]:
    """Networks x depths x seeds."""
    return [
        cell("finetune", grid.run_settings("finetune", freeze=depth, backbone=backbone, seed=seed), dataset)
        for backbone in grid.backbones
        for depth, seed in product(depths_of(grid, backbone), grid.seeds)
    ]


def depths_of(grid: FreezeDepthSettings, backbone: str) -> tuple[int, ...]:
    """The depths to try for one network. UsageError for two that freeze the same weights."""
    size, body = grid.finetune.image_size, grid.finetune.body
    if grid.depths is None:
        return default_depths(backbone, size, body)
    steps, reached = depth_steps(backbone, size, body), dict[int, int]()
    for depth in grid.depths:
        same = reached.setdefault(at_most(steps, depth), depth)
        if same != depth:
            title = BACKBONES[backbone].title
            raise UsageError(f"--depths {same} {depth}: they freeze the same weights of this {title}; expected one of them")
    return grid.depths


def folder_of(command: str, grid: Grid, cells: Sequence[GridCell]) -> Path:
    """Where the grid's outcome goes: its own folder, or one known by the cells it is made of."""
    known = hashlib.sha256(" ".join(each.run_dir.name for each in cells).encode()).hexdigest()[:8]
    return grid.run_dir or Path("runs") / "cervical" / command / f"{grid.dataset}-{grid.reading}-{len(cells)}runs-{known}"


def grid_rows(cells: Sequence[GridCell]) -> list[TableRow]:
    """The rows of a grid: seeds of one recipe each, controls beside their methods; cells that are not finished show as holes."""
    failed = [each for each in cells if not each.finished or each.conflict()]
    runs = [FoundRun.of(each.run_dir) for each in cells if each not in failed]
    runs += [FoundRun.of(run.path / "control") for run in runs if (run.path / "control" / "finished.json").is_file()]
    holes = set()
    for each in failed:
        values = vars(each.settings)
        holes.add((block_of(values["backbone"]), row_name({"experiment": each.experiment, "settings": values})))
    rows = rows_of(runs)
    return [
        *rows,
        *(TableRow(name, block) for block, name in sorted(holes) if (block, name) not in {(row.block, row.name) for row in rows}),
    ]


def pairs_of(rows: Sequence[TableRow]) -> list[tuple[str, str]]:
    """The names of the rows to compare, first and second, by their commands (`PAIRS`)."""
    names: dict[str, list[str]] = {}
    for row in rows:
        if row.runs and row.name not in names.setdefault(row.runs[0].experiment, []):
            names[row.runs[0].experiment].append(row.name)
    return [pair for one, other in PAIRS for pair in product(names.get(one, ()), names.get(other, ()))]


# Rows: any finished runs, those of a published table too.


def rows_of(runs: Sequence[FoundRun]) -> list[TableRow]:
    """A row for every recipe, with the number that is printed for its method and network, in the order of the methods.

    Recipes of one network that share a name get what tells them apart into it.
    """
    order = list(TITLES)
    groups = by_recipe(sorted(runs, key=lambda run: order.index(run.experiment)))
    places: dict[tuple[str, str], list[str]] = {}
    for digest, seeds in groups.items():
        places.setdefault((block_of(seeds[0].value("backbone")), row_name(seeds[0].config)), []).append(digest)
    rows = []
    for (block, name), digests in places.items():
        told = names_by_difference({digest: groups[digest] for digest in digests}) if len(digests) > 1 else {}
        for digest in digests:
            seeds = groups[digest]
            whole = name + told[digest].removeprefix(seeds[0].experiment) if told else name
            rows.append(
                TableRow(whole, block, seeds, printed_of(seeds[0].config), document(seeds[0].experiment, seeds[0].value("backbone")))
            )
    return sorted(rows, key=lambda row: list(BACKBONES).index(row.runs[0].value("backbone")))


def situations(runs: Sequence[FoundRun]) -> dict[str, list[TableRow]]:
    """{where, in words: the rows} of runs on the same images in the same way; other data or sizes are tables of their own."""
    groups: dict[tuple[Any, ...], list[FoundRun]] = {}
    for run in runs:
        groups.setdefault((run.fingerprint, *(run.value(name) or False for name in SITUATION)), []).append(run)
    found = {}
    for (_, *values), group in groups.items():
        told = [f"{name.replace('_', ' ')} {value}" for name, value in zip(SITUATION, values, strict=True) if value is not False]
        found[", ".join(told)] = rows_of(group)
    return found


def row_name(config: Mapping[str, Any]) -> str:
    """The method of a run: with its weights, its loss, its costs or its body where they are not the document's."""
    settings, name = config["settings"], TITLES[config["experiment"]]
    scratch, should = settings.get("weights") == "none", config["experiment"].startswith("contrastive")
    if "weights" in settings and scratch != should:
        name += ", from scratch" if scratch else ", pre-trained"
    if settings.get("loss", "npairs") != "npairs":
        name += f", {settings['loss']}"
    if settings.get("costs", "printed") != "printed":
        name += f", costs {Path(settings['costs']).name}"
    return name + (", body cut as in the code" if settings.get("body") == "truncated" and settings["backbone"] in CUT else "")


def printed_of(config: Mapping[str, Any]) -> dict[str, Printed]:
    """The accuracy that a document, or else the authors' notebook, has for a run's method and network; none for another method."""
    settings, method = config["settings"], config["experiment"]
    if of_no_document(settings):
        return {}
    method = {
        "contrastive-control": "control",
        "contrastive": method if settings.get("loss", "npairs") == "npairs" else settings["loss"],
    }.get(method, method)
    value, theirs = printed_accuracy(method, settings["backbone"]), notebook(method, settings["backbone"])
    if value is not None:
        return {"accuracy": Printed(value, TABLE_NUMBERS[method])}
    return {"accuracy": Printed(theirs["accuracy"], theirs["source"])} if theirs else {}
