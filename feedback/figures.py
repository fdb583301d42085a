"""The thesis's figures from finished runs: curves over epochs and slices, maps before and after, masks, samples, class distributions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from common.report.plots import COLOURS, bars, curves, panels, save, styled
from common.runs.files import read_json

MAP = "inferno"


def simulation_figures(run: Path) -> None:
    """Curves (figures 5.4 to 5.13), maps before and after, Jaccard histogram of a finished simulation."""
    config, folder = read_json(run / "config.json"), run / "figures"
    synthetic, settings = bool(config.get("synthetic")), config["settings"]
    history = pd.read_csv(run / "history.csv")
    history = history[history["stage"] != "adaptation"].reset_index(drop=True)
    if history.empty:  # --epochs 0: the adapted base is the result
        return
    if history["stage"].nunique() > 1:  # slices: their epochs follow one another
        history["epoch"] = np.arange(1, len(history) + 1)
        save(slice_curves({settings["objective"]: pd.read_csv(run / "slices.csv")}, synthetic=synthetic), folder / "slices.png")
    table = pd.read_csv(run / "jaccard.csv", encoding_errors="surrogateescape")
    save(learning_curves({settings["objective"]: history}, synthetic=synthetic), folder / "curves.png")
    if (run / "maps.npz").is_file():
        with np.load(run / "maps.npz") as kept:
            parts = {name: kept[name] for name in kept.files}
        captions = [
            (f"{line.label}: {line.predicted_before}, J {line.jaccard_before:.2f}", f"{line.predicted_after}, J {line.jaccard_after:.2f}")
            for line in table.iloc[parts["row"]].itertuples()
        ]
        pictures = [
            parts[name].astype("float32") if name in ("before", "after") else parts[name] for name in ("images", "masks", "before", "after")
        ]
        drawn = before_after(*pictures, captions, float(settings["threshold"]), synthetic=synthetic)
        save(drawn, folder / "before_after.png")


@styled
def learning_curves(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Loss, accuracy and average Jaccard index over the epochs of feedback, training solid, validation dashed; one colour an objective."""
    figure, axes = panels(1, 3, width=3.6, height=3.0)
    titles = {"loss": "loss", "accuracy": "accuracy", "jaccard": "average Jaccard index"}
    for axis, (column, title) in zip(axes[0], titles.items(), strict=True):
        for colour, (name, history) in zip(COLOURS, histories.items(), strict=False):
            tuned = history[history["stage"] != "adaptation"]
            mark = "o" if len(tuned) < 3 else None  # a line through one epoch would not be seen
            axis.plot(tuned["epoch"], tuned[column], color=colour, marker=mark, label=name)
            axis.plot(tuned["epoch"], tuned[f"val_{column}"], "--", color=colour, marker=mark)
        axis.set(xlabel="epoch", title=title)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(True)
    lines = [Line2D([], [], color="0.3", linestyle=style, label=name) for style, name in (("-", "training"), ("--", "validation"))]
    figure.legend(handles=[*axes[0, 0].get_legend_handles_labels()[0], *lines], loc="outside upper center", ncols=3)
    return figure


@styled
def before_after(
    images: np.ndarray, masks: np.ndarray, before: np.ndarray, after: np.ndarray, captions: Sequence[tuple[str, str]], threshold: float
) -> Figure:
    """One row an image: image with the mask's outline, map before, map after; the dashed line is the map's cut, the solid one the mask.

    Images `(n, h, w, 3)` uint8, masks `(n, h, w)` 0..255, maps `(n, h, w)` 0..1.
    """
    figure, axes = panels(len(images), 3, width=2.1, height=2.2)
    for index, row in enumerate(axes):
        titles = ("image and marked region", f"before — {captions[index][0]}", f"after — {captions[index][1]}")
        for axis, content, title in zip(row, (None, before[index], after[index]), titles, strict=True):
            axis.imshow(images[index])
            if content is not None:
                axis.imshow(content, cmap=MAP, alpha=0.5, vmin=0, vmax=1)
                _outline(axis, content >= threshold, "white", "--")
            _outline(axis, masks[index] >= 128, COLOURS[4], "-")
            axis.set_title(title, fontsize=7)
            axis.axis("off")
    return figure


def _outline(axis, inside: np.ndarray, colour: str, line: str) -> None:
    if inside.any() and not inside.all():
        axis.contour(inside.astype(float), levels=[0.5], colors=[colour], linestyles=line, linewidths=1.0)


@styled
def threshold_strip(image: np.ndarray, saliency: np.ndarray, mask: np.ndarray) -> Figure:
    """Figure 3.3: image, map, and the map cut at 0 %, 10 %, … 100 % of its maximum, beside the mask."""
    figure, axes = panels(2, 7, width=1.5, height=1.7)
    cells = [("image", image), ("map", saliency), ("marked", mask >= 128)]
    cells += [(f"{percent} %", saliency >= percent / 100) for percent in range(0, 101, 10)]
    for axis, (title, content) in zip(axes.ravel(), cells, strict=True):
        axis.imshow(content, cmap=MAP if title == "map" else "gray", vmin=0, vmax=None if title == "image" else 1)
        axis.set_title(title, fontsize=8)
        axis.axis("off")
    return figure


def threshold_figures(run: Path, table: pd.DataFrame, blob: float | None, shown: Sequence[np.ndarray], synthetic: bool) -> None:
    """Figure 3.3 of a run: average Jaccard index against the threshold, and one image, map and mask `shown` at each threshold."""
    drawn = {name: (table["threshold"].tolist(), table[name].tolist()) for name in ("validation", "test")}
    levels = {} if blob is None else {"centred circle": blob}
    curve = curves(drawn, "threshold (share of the map's maximum)", "average Jaccard index", levels=levels, synthetic=synthetic)
    save(curve, run / "figures" / "thresholds.png")
    save(threshold_strip(*shown, synthetic=synthetic), run / "figures" / "threshold_strip.png")


@styled
def slice_curves(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Figures 5.14 and 5.15: test accuracy and average Jaccard index after each slice."""
    figure, axes = panels(1, 2, width=4.2)
    for axis, column, title in zip(axes[0], ("accuracy", "jaccard"), ("test accuracy", "average Jaccard index"), strict=True):
        for colour, (name, table) in zip(COLOURS, tables.items(), strict=False):
            axis.plot(table["slice"], table[column], marker="o", markersize=3, color=colour, label=name)
        axis.set(xlabel="slice (−1: before tuning)", title=title)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(True)
    axes[0, 0].legend()
    return figure


def class_distribution(manifest: pd.DataFrame, synthetic: bool) -> Figure:
    """Figures 5.3 and 5.7: images of each class in each split."""
    names = sorted(set(manifest["label"]))
    splits = ("train", "validation", "test")
    counts = {split: [int(((manifest["label"] == name) & (manifest["split"] == split)).sum()) for name in names] for split in splits}
    return bars(names, counts, ylabel="images", title="Images by class and split", synthetic=synthetic)


@styled
def sample_sheet(rows: Sequence[tuple[str, np.ndarray, Mapping[str, np.ndarray]]]) -> Figure:
    """Figures 5.1 and 5.2: one row a class: image, each mask, and their union."""
    names = list(rows[0][2])
    figure, axes = panels(len(rows), len(names) + 2, width=1.7, height=1.6)
    for line, (label, image, masks) in zip(axes, rows, strict=True):
        union = np.any(list(masks.values()), axis=0)
        cells = [(label, image), *((name.replace("_", " "), masks[name]) for name in names), ("union", union)]
        for axis, (title, content) in zip(line, cells, strict=True):
            axis.imshow(content, cmap="gray", vmin=0, vmax=None if content.ndim == 3 else 1)
            axis.set_title(title, fontsize=8)
            axis.axis("off")
    return figure
