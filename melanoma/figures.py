"""Figures from a finished run folder: the paper's sheets (figs. 1, 3 to 5, 7 to 10), SimCLR's curves, fig. 6 as a diagram."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from common.report.plots import curves, panels, save, styled
from common.runs.reading import RunFolder
from melanoma import paper
from melanoma.experiments.base import SHOWN, SHOWN_FILE

CELL = 1.35  # inches


def read_arrays(run: Any) -> dict[str, np.ndarray]:
    """What `melanoma.training.evaluation.Localisation` has kept; empty when the file is not there (published runs hold no images)."""
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
    rows, side, head = 2 if with_maps else 1, 1.6 * CELL, 0.5 + 0.16 * diagnosis.count("\n")
    across, down = (1 + len(columns)) * side + 0.8, rows * side + head + 0.2
    # Margins are given and not found by a layout engine, which draws everything twice: a doctor waits for a sheet an image.
    figure = Figure(figsize=(across, down))
    margins = {
        "left": 0.1 / across,
        "right": 1 - 0.8 / across,
        "bottom": 0.3 / down,
        "top": 1 - head / down,
        "wspace": 0.06,
        "hspace": 0.06,
    }
    axes = figure.subplots(rows, 1 + len(columns), squeeze=False, gridspec_kw=margins)
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
    figure.colorbar(scale, cax=figure.add_axes((1 - 0.7 / across, 0.15, 0.12 / across, 0.6)), label="map value")
    figure.suptitle(f"{name}: {diagnosis}", fontsize=9, y=1 - 0.06 / down)
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


def threshold_curves(localisation: Mapping[str, Mapping], synthetic: bool = False) -> Figure:
    """Table 6 as curves: continuous Dice of Grad-CAM by threshold with its interval, one line an indicator, and one as printed."""
    lines, bands = {}, {}
    for name, entries in localisation["gradcam"].items():
        points = [
            (int(key[1:]) / 10, entry["dice"], *entry["dice_interval"]) for key, entry in entries.items() if entry["dice"] is not None
        ]
        if not points:
            continue
        title, (x, y, low, high) = paper.TITLES.get(name, name), zip(*points, strict=True)
        lines[title], bands[title] = (x, y), (low, high)
        printed = [paper.threshold(name, value) for value in x]
        if None not in printed:
            lines[f"{title}, printed"] = (x, printed)
    return curves(lines, "threshold", "continuous Dice", "Threshold", bands, synthetic=synthetic)


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


Column = tuple[Mapping[str, np.ndarray], str]  # a run's kept arrays, and the method whose maps are shown
SheetRow = tuple[str, np.ndarray, np.ndarray, dict[str, np.ndarray]]


def sheet_rows(columns: Mapping[str, Column], indicators: Sequence[str], count: int = SHOWN) -> list[SheetRow]:
    """Rows for `sheet`: the first `count` images shown for each indicator that all columns have."""
    rows = []
    for name in indicators:
        if all(f"{name}/{method}" in arrays for arrays, method in columns.values()):
            shown = next((arrays for arrays, _ in columns.values() if f"{name}/images" in arrays), {})
            for index, image in enumerate(shown.get(f"{name}/images", ())[:count]):
                maps = {title: arrays[f"{name}/{method}"][index] for title, (arrays, method) in columns.items()}
                rows.append((paper.TITLES.get(name, name), image, shown[f"{name}/masks"][index], maps))
    return rows


def draw_run(path: Path) -> list[Path]:
    """Everything one `train` run can show, into its figures/ folder: sheets an indicator (figs. 3, 7 to 10), twelve maps, thresholds."""
    folder = RunFolder.of(path)
    metrics, config, arrays = folder.read_json("metrics.json"), folder.read_json("config.json"), read_arrays(folder)
    synthetic, target = bool(config.get("synthetic")), folder.path / "figures"
    drawn = [save(threshold_curves(metrics["localisation"], synthetic=synthetic), target / "thresholds.png")]
    for name in metrics["localisation"]["gradcam"]:
        columns = {"Grad-CAM, last block": "gradcam", "U-Net's mask": "unet_mask"}
        rows = sheet_rows({label: (arrays, key) for label, key in columns.items() if f"{name}/{key}" in arrays}, [name])
        title = paper.TITLES.get(name, name)
        if rows:
            drawn.append(save(sheet(rows, title, synthetic=synthetic), target / f"sheet_{name}.png"))
        if rows and f"{name}/heatmap_01" in arrays:
            maps = [arrays[f"{name}/heatmap_{number:02d}"][0] for number in range(1, 13)]
            figure = twelve_sheet(rows[0][1], rows[0][2], maps, f"Twelve heatmaps, {title}", synthetic=synthetic)
            drawn.append(save(figure, target / f"heatmaps_{name}.png"))
    return drawn


# The paper's figures of further examples, by indicator; those it has none for are called by their name.
EXAMPLES = {"globules": "figure_7", "milia_like_cyst": "figure_8", "negative_network": "figure_9", "streaks": "figure_10"}


def sheets(target: Path, kinds: Mapping[Path, tuple[str, str]]) -> list[Path]:
    """Figs. 1, 3 to 5 and 7 to 10: the same test images under several runs, those of the first seed. kinds: folder -> (command, row)."""
    configs = {path: RunFolder.of(path).read_json("config.json") for path in kinds}
    settings = {path: config["settings"] for path, config in configs.items()}
    seed = min((each["seed"] for each in settings.values()), default=0)
    arrays = {path: kept for path in kinds if settings[path]["seed"] == seed and (kept := read_arrays(path))}
    if not arrays:
        return []
    synthetic = any(config.get("synthetic") for config in configs.values())
    indicators, drawn = list(dict.fromkeys(key.split("/")[0] for kept in arrays.values() for key in kept)), []

    def first(row: str, **wanted: object) -> Mapping[str, np.ndarray] | None:
        """The arrays of a `train` run of a row of Table 3."""
        asked = {"repeats": 1, "tasks": "one", "order": "phases", **wanted}
        own = [path for path in arrays if kinds[path] == ("train", row)]
        fits = [path for path in own if all(settings[path].get(key) in (None, value) for key, value in asked.items())]
        return arrays[fits[0]] if fits else None

    def add(name: str, title: str, columns: Mapping[str, Column], shown: Sequence[str], count: int = 2) -> None:
        rows = sheet_rows(columns, shown, count)
        if rows and len(columns) > 1:
            drawn.append(save(sheet(rows, title, synthetic=synthetic), target / f"{name}.png"))

    # The order of the paper's fig. 4, which is not Table 3's.
    rows = {row: found for row in ("f_res", "f_res_clr", "f_res_seg", "bio_u_net") if (found := first(row)) is not None}
    if f"{indicators[0]}/images" in (plain := rows.get("f_res", {})):
        image, heat = plain[f"{indicators[0]}/images"][0], plain[f"{indicators[0]}/gradcam"][0]
        figure = attention(image, heat, "Fig. 1: Grad-CAM of the diagnosis, plain classifier", synthetic=synthetic)
        drawn.append(save(figure, target / "figure_1.png"))
    others = {kinds[path][0]: arrays[path] for path in reversed(arrays)}
    methods = {paper.ROW_TITLES[m]: (others["cams"], m) for m in ("gradcam", "gradcam++", "layercam", "lime") if "cams" in others}
    methods |= {paper.ROW_TITLES[m]: (others[m], m) for m in ("vat", "unet") if m in others}
    if "bio_u_net" in rows:
        add("figure_3", "Fig. 3: methods", methods | {"Bio-U-Net": (rows["bio_u_net"], "gradcam")}, indicators)
    ablation = {paper.ROW_TITLES[row]: (found, "gradcam") for row, found in rows.items()}
    add("figure_4", "Fig. 4: ablation", ablation, indicators)
    repeated = {count: found for count in range(1, 6) if (found := first("bio_u_net", repeats=count)) is not None}
    add("figure_5", "Fig. 5: repeats", {f"repeat {count}": (found, "gradcam") for count, found in repeated.items()}, indicators)
    for name in indicators:
        place = EXAMPLES.get(name, f"examples_{name}")
        number = place.replace("figure_", "Fig. ") if name in EXAMPLES else "Examples"
        add(place, f"{number}: {paper.TITLES.get(name, name)} with and without f_Seg and f_CLR", ablation, (name,), SHOWN)
    return drawn
