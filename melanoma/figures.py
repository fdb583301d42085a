"""Figures from a finished run folder: the paper's sheets (figs. 1, 3 to 5, 7 to 10), SimCLR's curves, fig. 6 as a diagram."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.report.plots import panels, save, styled
from common.runs.reading import RunFolder
from melanoma import paper
from melanoma.experiments.base import SHOWN, SHOWN_FILE

CELL = 1.35  # inches


def read_arrays(run: Any) -> dict[str, np.ndarray]:
    """What `melanoma.training.shown.write_arrays` has kept; empty when the file is not there (published runs hold no images)."""
    path = RunFolder.of(run).path / SHOWN_FILE
    if not path.is_file():
        return {}
    with np.load(path) as stored:
        return {key.replace("__", "/"): stored[key] for key in stored.files}


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
def indicator_sheet(
    image: np.ndarray, name: str, diagnosis: str, columns: Mapping[str, tuple[float | None, np.ndarray, np.ndarray | None]]
) -> Figure:
    """One image with, for each indicator, its probability, the U-Net's mask `(h, w)` in 0..1 (outline at 0.5) and its encoder's map."""
    with_maps = any(heat is not None for _, _, heat in columns.values())
    figure, axes = panels(2 if with_maps else 1, 1 + len(columns), 1.6 * CELL, 1.6 * CELL)
    overlay(axes[0, 0], image, title="image")
    if with_maps:
        axes[1, 0].set_axis_off()
        axes[1, 0].text(
            0.5, 0.5, "above: drawn by the U-Net\n(line: 0.5)\nbelow: Grad-CAM\nof the encoder", ha="center", va="center", fontsize=7
        )
    for place, (indicator, (probability, mask, heat)) in enumerate(columns.items(), start=1):
        said = paper.TITLES.get(indicator, indicator) + ("" if probability is None else f": {probability:.2f}")
        overlay(axes[0, place], image, mask, mask >= 0.5, said)
        if heat is not None:
            overlay(axes[1, place], image, heat)
    scale = ScalarMappable(Normalize(0, 1), "jet")
    figure.colorbar(scale, ax=axes, shrink=0.7, label="map value")
    figure.suptitle(f"{name}: {diagnosis}", fontsize=9)
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
    indicators = list(metrics["localisation"]["gradcam"])
    drawn = [save(threshold_curves(metrics["localisation"], synthetic=synthetic), target / "thresholds.png")]
    for name in indicators:
        rows = shown_sheet_rows(arrays, [name], {"Grad-CAM, last block": "gradcam", "U-Net's mask": "unet_mask"})
        if not rows:
            continue
        title = paper.TITLES.get(name, name)
        if f"{name}/heatmap_01" not in arrays:
            drawn.append(save(sheet(rows, title, synthetic=synthetic), target / f"sheet_{name}.png"))
            continue
        drawn.append(save(sheet(rows, title, synthetic=synthetic), target / f"sheet_{name}.png"))
        maps = [arrays[f"{name}/heatmap_{number:02d}"][0] for number in range(1, 13)]
        figure = twelve_sheet(rows[0][1], rows[0][2], maps, f"Twelve heatmaps, {title}", synthetic=synthetic)
        drawn.append(save(figure, target / f"heatmaps_{name}.png"))
    return drawn


# The paper's figures of further examples, by indicator; those it has none for are called by their name.
EXAMPLES = {"globules": "figure_7", "milia_like_cyst": "figure_8", "negative_network": "figure_9", "streaks": "figure_10"}


@dataclass(frozen=True)
class Shown:
    """A finished run as the sheets need it: its arrays, command, row of Table 3 and settings."""

    arrays: dict[str, np.ndarray]
    experiment: str
    row: str
    settings: dict[str, Any]


def sheets(target: Path, kinds: Mapping[Path, tuple[str, str]]) -> list[Path]:
    """Figs. 1, 3 to 5 and 7 to 10: the same test images under several runs, those of the first seed. kinds: folder -> (command, row)."""
    configs = {path: RunFolder.of(path).read_json("config.json") for path in kinds}
    seed = min((config["settings"]["seed"] for config in configs.values()), default=0)
    runs = [
        Shown(read_arrays(path), *kinds[path], config["settings"]) for path, config in configs.items() if config["settings"]["seed"] == seed
    ]
    runs = [run for run in runs if run.arrays]
    if not runs:
        return []
    synthetic = any(config.get("synthetic") for config in configs.values())
    indicators, drawn = list(dict.fromkeys(key.split("/")[0] for run in runs for key in run.arrays)), []

    def rows_of(row: str, **wanted: object) -> list[Shown]:
        asked = {"repeats": 1, "tasks": "one", "order": "phases", **wanted}
        own = [run for run in runs if run.experiment == "train" and run.row == row]
        return [run for run in own if all(run.settings.get(key) in (None, value) for key, value in asked.items())]

    def add(name: str, title: str, columns: dict[str, tuple[Shown, str]], shown: Sequence[str], count: int = 2) -> None:
        merged: dict[str, np.ndarray] = {}
        for label, (run, key) in columns.items():
            for indicator in shown:
                found = run.arrays
                merged |= {
                    f"{indicator}/{part}": found[f"{indicator}/{part}"] for part in ("images", "masks") if f"{indicator}/{part}" in found
                }
                if f"{indicator}/{key}" in found:
                    merged[f"{indicator}/{label}"] = found[f"{indicator}/{key}"]
        rows = shown_sheet_rows(merged, shown, {label: label for label in columns}, count)
        rows = [row for row in rows if len(row[3]) == len(columns)]
        if rows and len(columns) > 1:
            drawn.append(save(sheet(rows, title, synthetic=synthetic), target / f"{name}.png"))

    # The order of the paper's fig. 4, which is not Table 3's.
    first = {row: found[0] for row in ("f_res", "f_res_clr", "f_res_seg", "bio_u_net") if (found := rows_of(row))}
    if "f_res" in first and f"{indicators[0]}/images" in (plain := first["f_res"].arrays):
        image, heat = plain[f"{indicators[0]}/images"][0], plain[f"{indicators[0]}/gradcam"][0]
        figure = attention(image, heat, "Fig. 1: Grad-CAM of the diagnosis, plain classifier", synthetic=synthetic)
        drawn.append(save(figure, target / "figure_1.png"))
    others = {run.experiment: run for run in reversed(runs) if run.experiment != "train"}
    methods = {paper.ROW_TITLES[m]: (others["cams"], m) for m in ("gradcam", "gradcam++", "layercam", "lime") if "cams" in others}
    methods |= {paper.ROW_TITLES[m]: (others[m], m) for m in ("vat", "unet") if m in others}
    if "bio_u_net" in first:
        add("figure_3", "Fig. 3: methods", methods | {"Bio-U-Net": (first["bio_u_net"], "gradcam")}, indicators)
    ablation = {paper.ROW_TITLES[row]: (run, "gradcam") for row, run in first.items()}
    add("figure_4", "Fig. 4: ablation", ablation, indicators)
    repeated = {count: rows_of("bio_u_net", repeats=count) for count in range(1, 6)}
    add("figure_5", "Fig. 5: repeats", {f"repeat {count}": (found[0], "gradcam") for count, found in repeated.items() if found}, indicators)
    for name in indicators:
        place = EXAMPLES.get(name, f"examples_{name}")
        number = place.replace("figure_", "Fig. ") if name in EXAMPLES else "Examples"
        add(place, f"{number}: {paper.TITLES.get(name, name)} with and without f_Seg and f_CLR", ablation, (name,), SHOWN)
    return drawn
