"""Figures of the paper and the thesis: image sizes (5.2), cells (4.1-4.5), accuracies (6.1, 6.2, 6.4), loss curves (6.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cervical.data import load
from cervical.experiments.base import PAPER_BACKBONES
from cervical.experiments.size_analysis import SizeAnalysisSettings
from cervical.paper import loss_curve, tables
from common.backbones import BACKBONES
from common.data.dataset import Dataset
from common.data.fingerprint import fingerprint
from common.data.pixels import read_header
from common.report import plots
from common.report.samples import some_of_each, write_pictures
from common.report.tables import markdown
from common.runs.folder import Run

BINS = 30  # of the authors' histogram


def run_size_analysis(settings: SizeAnalysisSettings) -> Path:
    """Sizes of all images, their densest place and a cell sheet, with a short report. Returns the run folder."""
    dataset = load(settings, settings.limit)
    run = Run.open(
        "cervical",
        "size-analysis",
        {"dataset": dataset.name, "synthetic": dataset.synthetic, "limit": settings.limit},
        run_dir=settings.run_dir,
        name_parts=(dataset.name,),
        fingerprint=fingerprint(dataset, masks=False),
    )
    if run.finished:
        return run.path
    widths, heights = image_sizes(dataset)
    found = densest_size(widths, heights)
    plots.save(size_figure(widths, heights, dataset.synthetic), run.path / "figures" / "sizes.png")
    cells = {label: [dataset.data_dir / name for name in names] for label, names in some_of_each(dataset.manifest).items()}
    write_pictures(run.path / "figures" / "cells.png", cells, "Cells of each class", synthetic=dataset.synthetic)
    run.write_csv("sizes.csv", pd.DataFrame({"image": dataset.manifest["image"], "width": widths, "height": heights}))
    run.write_json("size_analysis.json", found)
    run.write_text("report.md", _size_report(dataset, found))
    run.finish()
    return run.path


def image_sizes(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """`(n,)` widths and heights in pixels, from the files' headers."""
    sizes = []
    for name in dataset.manifest["image"]:
        header = read_header(dataset.data_dir / name)
        sizes.append((header.width, header.height))
    widths, heights = np.array(sizes).T
    return widths, heights


def densest_size(widths: np.ndarray, heights: np.ndarray, bins: int = BINS) -> dict[str, Any]:
    """The fullest cell of a `bins` x `bins` histogram and the extremes.

    The printed 98.5 x 108.9 is this cell's lower corner, height first (facts 1.2); the smallest and largest "images" are independent
    extremes of width and height.
    """
    counts, rows, columns = np.histogram2d(heights, widths, bins=bins)
    row, column = np.unravel_index(counts.argmax(), counts.shape)
    return {
        "images": len(widths),
        "densest_height": [float(rows[row]), float(rows[row + 1])],
        "densest_width": [float(columns[column]), float(columns[column + 1])],
        "images_there": int(counts.max()),
        "smallest": [int(widths.min()), int(heights.min())],
        "largest": [int(widths.max()), int(heights.max())],
        "median": [float(np.median(widths)), float(np.median(heights))],
    }


def size_figure(widths: np.ndarray, heights: np.ndarray, synthetic: bool = False) -> Figure:
    """Thesis figure 5.2: scatter and density of the image sizes; the cross marks the densest cell's lower corner."""
    found = densest_size(widths, heights)
    mark = (found["densest_width"][0], found["densest_height"][0])
    return plots.scatter_hexbin(
        widths, heights, "width (pixels)", "height (pixels)", f"{len(widths)} images", BINS, mark, synthetic=synthetic
    )


def _size_report(dataset: Dataset, found: Mapping[str, Any]) -> str:
    printed = tables()["sizes"]
    height, width = found["densest_height"], found["densest_width"]
    rows = [
        ("smallest width x height", "{}x{}".format(*found["smallest"]), printed["smallest"]),
        ("largest width x height", "{}x{}".format(*found["largest"]), printed["largest"]),
        ("lower corner of the densest cell, height x width", f"{height[0]:.1f}x{width[0]:.1f}", printed["densest bin"]),
        ("median width x height", "{:.0f}x{:.0f}".format(*found["median"]), "–"),
        ("chosen", "110x110", printed["chosen"]),
    ]
    synthetic = "\n> **Synthetic data.** Drawn cells; the printed numbers are those of SIPaKMeD.\n" if dataset.synthetic else ""
    return (
        f"# Image sizes of {dataset.name}\n{synthetic}\n{markdown(('', 'measured', 'printed'), rows)}\n"
        f"{found['images_there']} of {found['images']} images lie in the densest cell of a {BINS} x {BINS} histogram "
        f"(heights {height[0]:.1f} to {height[1]:.1f}, widths {width[0]:.1f} to {width[1]:.1f}). The printed size is its lower corner, and "
        "the smallest and largest sizes are extremes of width and height taken apart, not of one image.\n\n"
        "![sizes](figures/sizes.png)\n\n![cells](figures/cells.png)\n"
    )


def accuracy_bars(method: str, rows: Mapping[str, tuple[float, Sequence[float] | None, float | None]], synthetic: bool = False) -> Figure:
    """Thesis figures 6.1, 6.2 and 6.4: accuracy of each network under one method.

    rows: backbone -> (accuracy, interval, the printed accuracy where the run is the document's, else None).
    """
    names = sorted(rows, key=lambda name: PAPER_BACKBONES.index(name) if name in PAPER_BACKBONES else len(PAPER_BACKBONES))
    values = [rows[name][0] for name in names]
    printed = [rows[name][2] for name in names]
    lowest = min([min((value, *(interval or ()))) for value, interval, _ in rows.values()] + [value for value in printed if value])
    return plots.bars(
        [BACKBONES[name].title for name in names],
        {"ours": values},
        {"ours": [rows[name][1] for name in names]},
        title=f"Accuracy, {method}",
        printed={"ours": printed} if any(printed) else None,
        ylim=(max(0.0, np.floor(lowest * 10 - 0.5) / 10), 1.0),
        synthetic=synthetic,
    )


def loss_curves(histories: Mapping[str, pd.DataFrame], synthetic: bool = False) -> Figure:
    """Thesis figure 6.3, one panel per loss: our encoder's loss per epoch, on real cells with the authors' DenseNet169 curve beside it."""
    figure, axes = plots.panels(1, len(histories), width=3.4, height=2.8)
    for axis, (loss, history) in zip(axes.flat, histories.items(), strict=True):
        part = history[history["stage"] == "encoder"] if "stage" in history else history
        axis.plot(part["epoch"].to_numpy(), part["loss"].to_numpy(), color=plots.COLOURS[0], label="ours")
        theirs = loss_curve(loss)
        if theirs and not synthetic:
            axis.plot(np.arange(1, len(theirs) + 1), np.array(theirs), "--", color=plots.COLOURS[1], label="authors (DenseNet169)")
        axis.set(xlabel="epoch", ylabel="training loss", title=f"Encoder, {loss}")
        axis.grid(True)
        axis.legend()
    if synthetic:
        plots.label_synthetic(figure)
    return figure
