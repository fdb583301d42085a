"""`freeze-depth`: how many layers to freeze? Accuracy on validation images against the number of frozen layers (paper III-C.1)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cervical.config import FREEZE, FreezeDepthOptions
from cervical.data import load
from cervical.grids.cells import cell, finished, open_grid
from cervical.training.stages import resolve
from common.backbones import BACKBONES, build_backbone
from common.data.manifest import class_names
from common.evaluation import plots
from common.evaluation.grid import GridCell, collect, run_grid
from common.evaluation.report import SYNTHETIC
from common.evaluation.tables import markdown, number
from common.runs import Run

COLLECTED = ("accuracy", "macro_f1", "validation_accuracy", "trainable_parameters")


def run_freeze_depth(options: FreezeDepthOptions) -> Path:
    """One fine-tuning run a depth, chosen on validation images, told on test images. Returns the folder."""
    dataset = load(options)
    settings = resolve("finetune", options, class_names(dataset.manifest))
    depths = options.depths or default_depths(settings.backbone, settings.image_size)
    cells = [cell("finetune", options, dataset, {"depth": depth, "seed": options.seed}, freeze=depth) for depth in depths]
    run = open_grid("freeze-depth", options, dataset, cells)
    if run.finished:
        return run.path
    outcome = run_grid(cells)
    if finished(cells):
        write_depths(run, cells, settings.backbone, settings.weights)
    if not outcome.failed:
        run.finish()
    outcome.check()
    return run.path


def default_depths(backbone: str, image_size: int) -> tuple[int, ...]:
    """None, a quarter, half, three quarters and all of the layers, and the paper's number."""
    layers = len(build_backbone(backbone, image_size).layers)
    return tuple(sorted({0, layers // 4, layers // 2, 3 * layers // 4, layers, FREEZE.get(backbone, 0)}))


def write_depths(run: Run, cells: list[GridCell], backbone: str, weights: str) -> None:
    """cells.csv, figures/depth.png and report.md."""
    table = collect(cells, COLLECTED)
    run.write_csv("cells.csv", table)
    done, synthetic = table[table["n"] > 0], bool(table["synthetic"].any())
    lines = {
        "validation": (done["depth"].to_numpy(), done["validation_accuracy"].to_numpy()),
        "test": (done["depth"].to_numpy(), done["accuracy"].to_numpy()),
    }
    bands = {"test": (done["accuracy_low"].to_numpy(), done["accuracy_high"].to_numpy())}
    figure = plots.curves(
        lines, "frozen layers", "accuracy", f"{BACKBONES[backbone].title}: how much to freeze", bands, synthetic=synthetic
    )
    plots.save(figure, run.path / "figures" / "depth.png")
    best = done.loc[done["validation_accuracy"].idxmax()] if done["validation_accuracy"].notna().any() else None
    rows = [
        [row["depth"], int(row["trainable_parameters"]), number(row["validation_accuracy"]), number(row["accuracy"])]
        for row in done.to_dict("records")
    ]
    paper = FREEZE.get(backbone)
    verdict = "No validation accuracy was measured.\n" if best is None else _verdict(best, done, paper)
    scratch = (
        "\nThe network started from random weights, so freezing keeps random layers: this shows the command, not the paper's question.\n"
    )
    parts = [
        f"# Cervical cells: depth of freezing, {BACKBONES[backbone].title}\n",
        SYNTHETIC if synthetic else "",
        markdown(("frozen layers", "trainable parameters", "validation accuracy", "test accuracy"), rows),
        verdict + (scratch if weights == "none" else ""),
        "![depth](figures/depth.png)\n",
    ]
    run.write_text("report.md", "\n".join(part for part in parts if part))


def _verdict(best: pd.Series, done: pd.DataFrame, paper: int | None) -> str:
    text = f"Best on validation images: {int(best['depth'])} frozen layers ({number(best['validation_accuracy'])})."
    theirs = done[done["depth"] == paper]
    if len(theirs) and int(best["depth"]) != paper:
        row = theirs.iloc[0]
        inside = bool(np.isfinite(row["accuracy_low"]) and row["accuracy_low"] <= best["accuracy"] <= row["accuracy_high"])
        text += f" The paper froze {paper}: {number(row['validation_accuracy'])} there; on test images the two " + (
            "lie within the interval of one run." if inside else "differ by more than the interval of one run."
        )
    return text + "\n"
