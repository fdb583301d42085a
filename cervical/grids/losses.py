"""`compare-losses`: thesis figure 6.3 with working competitors, and a classifier on top of each, so that "N-pairs is best" is tested.

The authors compared N-pairs with an NT-Xent and a triplet loss that cannot learn (facts 1.8); the `coded` reading brings those back.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cervical.data import load
from cervical.experiments.compare_losses import CODED_LOSSES, CompareLossesSettings
from cervical.figures import loss_curves
from cervical.grids.cells import cell, finished, open_grid
from cervical.paper import loss_curve, notebook
from common.backbones import BACKBONES
from common.data.manifest import Dataset
from common.report import plots
from common.report.grid_tables import (
    compare_means,
    compare_methods,
    comparisons_frame,
    comparisons_text,
    grouped,
    means_text,
    seed_rows,
)
from common.report.report import SYNTHETIC
from common.report.tables import Printed, comparison_table, markdown, number
from common.runs import Run
from common.runs.grid import GridCell, collect, run_grid

CONTROL = "control (cross-entropy)"


def run_compare_losses(grid: CompareLossesSettings) -> Path:
    """Train what is missing, then write curves and tables. Returns the folder."""
    dataset = load(grid, grid.contrastive.limit)
    cells = loss_cells(grid, dataset)
    run = open_grid("compare-losses", grid, dataset, cells)
    if run.finished:
        return run.path
    outcome = run_grid(cells)
    controls = [each.control(loss=CONTROL) for each in cells if (each.run_dir / "control").is_dir()]
    if finished(cells):
        write_comparison(run, cells, controls)
    if not outcome.failed:
        run.finish()
    outcome.check()
    return run.path


def loss_cells(grid: CompareLossesSettings, dataset: Dataset) -> list[GridCell]:
    """One contrastive run a loss and seed; the first loss's run brings the control along."""
    return [
        cell("contrastive", grid.run_settings("contrastive", loss=loss, control=index == 0, **same), dataset, {**same, "loss": loss})
        for backbone in grid.backbones
        for index, loss in enumerate(grid.losses)
        for seed in grid.seeds
        for same in ({"backbone": backbone, "seed": seed},)
    ]


def write_comparison(run: Run, cells: list[GridCell], controls: list[GridCell]) -> None:
    """cells.csv, comparisons.csv, figures/loss_<name>.png, figures/accuracy.png and report.md, from the finished cells."""
    everything = [*cells, *controls]
    table = collect(everything)
    run.write_csv("cells.csv", table)
    synthetic = bool(table["synthetic"].any())
    names, falls = [], []
    for (backbone,), group in grouped(finished(cells), ("backbone",)).items():
        histories = {each.labels["loss"]: pd.read_csv(each.run_dir / "history.csv") for each in reversed(group)}
        histories = dict(reversed(histories.items()))  # of the first seed, in the order asked for
        falls.append(f"{BACKBONES[backbone].title}:\n\n{_falls(histories)}")
        for loss, figure in loss_curves(histories, synthetic).items():
            names.append(plots.save(figure, run.path / "figures" / f"loss_{backbone}_{loss}.png").name)
    rows = seed_rows(everything, ("backbone", "loss"), printed=printed_accuracies(everything))
    bars = plots.bars(
        [row.name for row in rows],
        {"accuracy": [row.measured for row in rows]},
        {"accuracy": [row.interval for row in rows]},
        title="A classifier on each encoder",
        synthetic=synthetic,
    )
    names.append(plots.save(bars, run.path / "figures" / "accuracy.png").name)
    pair_by = ("backbone", "seed")
    frame = comparisons_frame(compare_methods(everything, "loss", cells[0].labels["loss"], pair_by), pair_by)
    run.write_csv("comparisons.csv", frame)
    over_seeds = compare_means(everything, "loss", cells[0].labels["loss"], ("backbone",))
    parts = [
        "# Cervical cells: contrastive losses compared\n",
        SYNTHETIC if synthetic else "",
        "## Accuracy of a classifier on each encoder\n\nPrinted: the authors' notebooks (no document prints them).\n\n"
        + comparison_table(rows),
        "## Against " + str(cells[0].labels["loss"]) + "\n\n" + comparisons_text(frame, pair_by),
        "### Mean over the seeds\n\n" + means_text(over_seeds, ("backbone",)) if over_seeds else "",
        "## Loss of the encoder\n\nValues of different losses cannot be compared; only whether each falls.\n\n" + "\n".join(falls),
        "".join(f"![{name}](figures/{name})\n\n" for name in names),
    ]
    run.write_text("report.md", "\n".join(part for part in parts if part))


def printed_accuracies(cells: list[GridCell]) -> dict[tuple[str, str], Printed]:
    """{(backbone, loss): the authors' accuracy}, from their notebooks; only N-pairs and the control were run on more than one network."""
    keys = {"npairs": "contrastive", CONTROL: "control", **{name: name for name in CODED_LOSSES[1:]}}
    found = {}
    for each in cells:
        backbone, loss = each.labels["backbone"], each.labels["loss"]
        report = notebook(keys[loss], backbone) if loss in keys else None
        if report is not None:
            found[backbone, loss] = Printed(report["accuracy"], report["source"])
    return found


def _falls(histories: dict[str, pd.DataFrame]) -> str:
    rows = []
    for loss, history in histories.items():
        part = history.loc[history["stage"] == "encoder", "loss"]
        theirs = loss_curve(loss)
        authors = f"{theirs[0]:.4f} → {theirs[-1]:.4f}" if theirs else "–"
        rows.append([loss, len(part), number(part.iloc[0]), number(part.min()), number(part.iloc[-1]), authors])
    return markdown(("loss", "epochs", "first", "least", "last", "authors, DenseNet169"), rows)
