"""`freeze-depth`: how many layers to freeze? Accuracy on validation images against the number of frozen layers (paper III-C.1)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cervical.data import load
from cervical.experiments.finetune import FREEZE
from cervical.experiments.freeze_depth import FreezeDepthSettings
from cervical.grids.cells import cell, finished, open_grid
from cervical.models import at_most, default_depths, depth_steps
from common.backbones import BACKBONES
from common.data.manifest import Dataset
from common.errors import UsageError
from common.report import plots
from common.report.report import SYNTHETIC
from common.report.tables import markdown, number
from common.runs import Run, read_json
from common.runs.grid import GridCell, collect, run_grid

COLLECTED = ("accuracy", "macro_f1", "validation_accuracy", "trainable_parameters")
SHOWN = ("accuracy", "accuracy_low", "accuracy_high", "validation_accuracy", "trainable_parameters")


def run_freeze_depth(grid: FreezeDepthSettings) -> Path:
    """One fine-tuning run a depth, chosen on validation images, told on test images. Returns the folder."""
    dataset = load(grid, grid.finetune.limit)
    cells = depth_cells(grid, dataset)
    run = open_grid("freeze-depth", grid, dataset, cells)
    if run.finished:
        return run.path
    outcome = run_grid(cells)
    if finished(cells):
        write_depths(run, cells)
    if not outcome.failed:
        run.finish()
    outcome.check()
    return run.path


def depth_cells(grid: FreezeDepthSettings, dataset: Dataset) -> list[GridCell]:
    """Networks x depths x seeds."""
    return [
        cell("finetune", grid.run_settings("finetune", freeze=depth, **same), dataset, {"depth": depth, **same})
        for backbone in grid.backbones
        for depth in depths_of(grid, backbone)
        for seed in grid.seeds
        for same in ({"backbone": backbone, "seed": seed},)
    ]


def depths_of(grid: FreezeDepthSettings, backbone: str) -> tuple[int, ...]:
    """The depths to try for one network. UsageError for two that freeze the same weights."""
    size, body = grid.finetune.image_size, grid.finetune.body
    if grid.depths is None:
        return default_depths(backbone, size, body)
    steps = depth_steps(backbone, size, body)
    reached: dict[int, int] = {}
    for depth in grid.depths:
        same = reached.setdefault(at_most(steps, depth), depth)
        if same != depth:
            raise UsageError(
                f"--depths {same} {depth}: they freeze the same weights of this {BACKBONES[backbone].title}; expected one of them"
            )
    return grid.depths


def write_depths(run: Run, cells: list[GridCell]) -> None:
    """cells.csv, figures/depth_<network>.png and report.md."""
    table = collect(cells, COLLECTED)
    run.write_csv("cells.csv", table)
    synthetic = bool(table["synthetic"].any())
    parts = ["# Cervical cells: how many layers to freeze\n", SYNTHETIC if synthetic else ""]
    scratch = all(read_json(each.run_dir / "config.json")["weights"] == "none" for each in finished(cells))
    for backbone, figure, text in draw_depths(table):
        plots.save(figure, run.path / "figures" / f"depth_{backbone}.png")
        parts += [text, f"![depth](figures/depth_{backbone}.png)\n"]
    parts.append(f"Means over {table['seed'].nunique()} seed(s); the band is the 95 % interval of the test accuracy.\n")
    if scratch:
        parts.append(
            "The networks started from random weights, so freezing keeps random layers: this shows the command, not the paper's question.\n"
        )
    run.write_text("report.md", "\n".join(part for part in parts if part))


def draw_depths(table: pd.DataFrame) -> list[tuple[str, Figure, str]]:
    """(network, accuracy against frozen layers, the same as markdown with the best depth) from cells collected with `COLLECTED`."""
    drawn = []
    for backbone, part in table[table["n"] > 0].groupby("backbone", sort=False):
        done = part.groupby("depth")[list(SHOWN)].mean().reset_index()  # over the seeds
        lines = {
            "validation": (done["depth"].to_numpy(), done["validation_accuracy"].to_numpy()),
            "test": (done["depth"].to_numpy(), done["accuracy"].to_numpy()),
        }
        bands = {"test": (done["accuracy_low"].to_numpy(), done["accuracy_high"].to_numpy())}
        title = BACKBONES[str(backbone)].title
        synthetic = bool(part["synthetic"].any())
        figure = plots.curves(lines, "frozen layers", "accuracy", f"{title}: how much to freeze", bands, synthetic=synthetic)
        rows = [
            [int(row["depth"]), int(row["trainable_parameters"]), number(row["validation_accuracy"]), number(row["accuracy"])]
            for row in done.to_dict("records")
        ]
        header = ("frozen layers", "trainable parameters", "validation accuracy", "test accuracy")
        text = f"## {title}\n\n{markdown(header, rows)}\n{_verdict(done, FREEZE.get(str(backbone)))}"
        drawn.append((str(backbone), figure, text))
    return drawn


def _verdict(done: pd.DataFrame, paper: int | None) -> str:
    if done["validation_accuracy"].isna().all():
        return "No validation accuracy was measured.\n"
    best = done.loc[done["validation_accuracy"].idxmax()]
    text = f"Best on validation images: {int(best['depth'])} frozen layers ({number(best['validation_accuracy'])})."
    theirs = done[done["depth"] == paper]
    if len(theirs) and int(best["depth"]) != paper:
        row = theirs.iloc[0]
        inside = bool(np.isfinite(row["accuracy_low"]) and row["accuracy_low"] <= best["accuracy"] <= row["accuracy_high"])
        text += f" The paper froze {paper}: {number(row['validation_accuracy'])} there; on test images the two " + (
            "lie within the interval of one run." if inside else "differ by more than the interval of one run."
        )
    return text + "\n"
