"""Figures from a finished run folder: the paper's sheets (figs. 1, 3 to 5, 7 to 10), SimCLR's curves, fig. 6 as a diagram."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.report.plots import panels, save, styled
from common.runs.reading import RunFolder
from melanoma import paper
from melanoma.training.shown import read_arrays

CELL = 1.35  # inches


def overlay(axes, image: np.ndarray, heat: np.ndarray | None = None, mask: np.ndarray | None = None, title: str = "") -> None:
    """An image `(h, w, 3)` uint8, a map `(h', w')` in 0..1 over it, or a mask's outline."""
    height, width = image.shape[:2]
    axes.imshow(image, extent=(0, width, height, 0))
    if heat is not None:
        axes.imshow(heat.astype("float32"), cmap="jet", vmin=0, vmax=1, alpha=0.5, extent=(0, width, height, 0), interpolation="bilinear")
    if mask is not None and mask.any():
        axes.contour(np.arange(width) + 0.5, np.arange(height) + 0.5, mask, levels=[0.5], colors="white", linewidths=0.8)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title(title, fontsize=7)


@styled
def sheet(rows: Sequence[tuple[str, np.ndarray, np.ndarray, Mapping[str, np.ndarray]]], title: str) -> Figure:
    """Rows (name, image, mask, {column: map}): input, the clinicians' mask, then one column a map; the mask's outline lies on all."""
    columns = list(rows[0][3])
    figure, axes = panels(len(rows), 2 + len(columns), CELL, CELL)
    for number, (line, (name, image, mask, maps)) in enumerate(zip(axes, rows, strict=True)):
        first = number == 0
        overlay(line[0], image, title="image" if first else "")
        line[0].set_ylabel(name, fontsize=7)
        line[1].imshow(mask, cmap="gray", vmin=0, vmax=1)
        line[1].set_axis_off()
        line[1].set_title("mask" if first else "", fontsize=7)
        for panel, column in zip(line[2:], columns, strict=True):
            overlay(panel, image, maps[column], mask, column if first else "")
    figure.suptitle(title, fontsize=9)
    return figure


@styled
def attention(image: np.ndarray, heat: np.ndarray, title: str) -> Figure:
    """Fig. 1: an image `(h, w, 3)` uint8 and beside it the map `(h', w')` in 0..1 laid over it."""
    figure, axes = panels(1, 2, 2 * CELL, 2 * CELL)
    overlay(axes[0, 0], image)
    overlay(axes[0, 1], image, heat)
    figure.suptitle(title, fontsize=9)
    return figure


@styled
def twelve_sheet(image: np.ndarray, mask: np.ndarray, maps: Sequence[np.ndarray], title: str) -> Figure:
    """Fig. 2's H for one image: four stages down, three blocks across, each map at its own resolution."""
    figure, axes = panels(4, 4, CELL, CELL)
    for stage in range(4):
        overlay(axes[stage, 0], image, None, mask, f"stage {stage + 1}")
        for block in range(3):
            heat = maps[3 * stage + block]
            overlay(axes[stage, block + 1], image, heat, None, f"{heat.shape[0]}x{heat.shape[1]}")
    figure.suptitle(title, fontsize=9)
    return figure


@styled
def threshold_curves(localisation: Mapping[str, Mapping], method: str = "gradcam") -> Figure:
    """Table 6 as curves: continuous Dice by threshold with its interval, one line an indicator; printed values as crosses."""
    figure, axes = panels(1, 1, 5.5, 3.6)
    axis = axes[0, 0]
    for index, (name, entries) in enumerate(localisation[method].items()):
        points = [(int(key[1:]) / 10, entry["dice"], entry["dice_interval"]) for key, entry in entries.items() if entry["dice"] is not None]
        if not points:
            continue
        x, y, intervals = zip(*points, strict=True)
        axis.plot(x, y, marker="o", markersize=3, color=f"C{index}", label=paper.TITLES.get(name, name))
        axis.fill_between(x, [low for low, _ in intervals], [high for _, high in intervals], color=f"C{index}", alpha=0.15, linewidth=0)
        printed = [(value, paper.threshold(name, value)) for value in x]
        if all(value is not None for _, value in printed):
            axis.plot(x, [value for _, value in printed], "x", markersize=4, color=f"C{index}")
    axis.set_xlabel("threshold")
    axis.set_ylabel("continuous Dice")
    axis.set_ylim(bottom=0)
    axis.legend()
    axis.set_title("Threshold (crosses: as printed)")
    return figure


@styled
def embedding_curves(history) -> Figure:
    """SimCLR's loss, alignment and uniformity by epoch."""
    names = ("loss", "alignment", "uniformity")
    figure, axes = panels(1, 3, 2.8, 2.4)
    for axis, name in zip(axes[0], names, strict=True):
        axis.plot(history["epoch"], history[name], marker="o", markersize=2)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.set_title(name)
    return figure


@styled
def diagram(lines: Sequence[tuple[str, Sequence[tuple[str, str]]]], title: str) -> Figure:
    """Fig. 6: one row of boxes a subnetwork, each (name, size of its output), drawn from the built models."""
    columns = max(len(boxes) for _, boxes in lines)
    figure = Figure(figsize=(1.25 * columns + 1, 1.25 * len(lines)), layout="constrained")
    axis = figure.subplots()
    for row, (name, boxes) in enumerate(lines):
        y = len(lines) - row - 1
        axis.text(-0.15, y + 0.72, name, fontsize=8, fontweight="bold", va="bottom", ha="left")
        for column, (label, size) in enumerate(boxes):
            axis.text(
                column + 0.4, y + 0.35, f"{label}\n{size}", fontsize=6.5, ha="center", va="center",
                bbox={"boxstyle": "round,pad=0.35", "facecolor": "#EEF3F8", "edgecolor": "#0072B2", "linewidth": 0.8},
            )  # fmt: skip
            if column:
                axis.annotate("", (column - 0.02, y + 0.35), (column - 0.18, y + 0.35), arrowprops={"arrowstyle": "->", "linewidth": 0.8})
    axis.set_xlim(-0.2, columns)
    axis.set_ylim(-0.1, len(lines))
    axis.set_axis_off()
    figure.suptitle(title, fontsize=9)
    return figure


def shown_sheet_rows(arrays: Mapping[str, np.ndarray], indicators: Sequence[str], columns: Mapping[str, str], count: int | None = None):
    """Rows for `sheet` from a run's kept arrays; `columns` maps a title to the array's name."""
    rows = []
    for name in indicators:
        if f"{name}/images" not in arrays:
            continue
        for index in range(len(arrays[f"{name}/images"]))[:count]:
            maps = {title: arrays[f"{name}/{key}"][index] for title, key in columns.items() if f"{name}/{key}" in arrays}
            rows.append((paper.TITLES.get(name, name), arrays[f"{name}/images"][index], arrays[f"{name}/masks"][index], maps))
    return rows


def draw_run(path: Path) -> list[Path]:
    """Everything one `train` run can show, into its figures/ folder: sheets an indicator (figs. 3, 7 to 10), twelve maps, thresholds."""
    folder = RunFolder.of(path)
    metrics, config, arrays = folder.read_json("metrics.json"), folder.read_json("config.json"), read_arrays(folder)
    synthetic, target = bool(config.get("synthetic")), folder.path / "figures"
    indicators = config["settings"]["indicators"]
    drawn = [save(threshold_curves(metrics["localisation"], synthetic=synthetic), target / "thresholds.png")]
    for name in indicators:
        rows = shown_sheet_rows(arrays, [name], {"Grad-CAM, last block": "gradcam", "U-Net's mask": "unet_mask"})
        if not rows:
            continue
        title = paper.TITLES.get(name, name)
        drawn.append(save(sheet(rows, title, synthetic=synthetic), target / f"sheet_{name}.png"))
        maps = [arrays[f"{name}/heatmap_{number:02d}"][0] for number in range(1, 13)]
        figure = twelve_sheet(rows[0][1], rows[0][2], maps, f"Twelve heatmaps, {title}", synthetic=synthetic)
        drawn.append(save(figure, target / f"heatmaps_{name}.png"))
    return drawn
