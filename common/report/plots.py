"""Figures in one style: colour-blind-safe, without global state, written whole. Every drawing function returns a matplotlib `Figure`.

`synthetic=True` writes "synthetic data" on the figure, so that it cannot lose its label when somebody copies it into a talk.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.report.markup import BOOKKEEPING
from common.runs.files import atomic

# Okabe & Ito's palette (2008), told apart with any colour vision; yellow comes last because it is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": mpl.cycler(color=COLOURS),  # type: ignore[attr-defined]
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.dpi": 150,
    "text.parse_math": False,  # a class may be called "$x"; no figure has a formula or a logarithmic axis
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the common style and, for `synthetic=True`, label the figure. The decorated function does not see `synthetic`."""

    @wraps(draw)
    def wrapper(*arguments: Any, synthetic: bool = False, **options: Any) -> Figure:
        with mpl.rc_context(STYLE):
            figure = draw(*arguments, **options)
            if synthetic:
                label_synthetic(figure)
            return figure

    return wrapper


def label_synthetic(figure: Figure) -> None:
    """Write "synthetic data" below the plot, in room that the layout keeps free for it."""
    figure.supxlabel("synthetic data", fontsize=9, color=COLOURS[1], fontweight="bold")


def save(figure: Figure, path: Path, compress_level: int = 6) -> Path:
    """Write a PNG (or what the suffix says) under a temporary name, then rename. The same figure gives the same bytes.

    `compress_level` of a PNG, 0 to 9: 1 takes half the time of 6 for a tenth more bytes where photographs are drawn.
    """
    with mpl.rc_context(STYLE), atomic(Path(path)) as temporary:
        # Without the version of matplotlib inside, two machines with the same fonts write the same file.
        png = {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": compress_level}} if Path(path).suffix == ".png" else {}
        figure.savefig(temporary, **png)
    return Path(path)


def panels(rows: int = 1, columns: int = 1, width: float = 4.2, height: float = 3.2) -> tuple[Figure, np.ndarray]:
    """A figure with `(rows, columns)` axes; width and height are one panel's, in inches."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


@styled
def confusion_matrix(matrix: Sequence[Sequence[int]] | np.ndarray, classes: Sequence[str], title: str = "Confusion matrix") -> Figure:
    """Counts `(K, K)`, rows the truth; the colour is the share of the row, so rare classes are as visible as frequent ones."""
    counts = np.asarray(matrix)
    size = len(classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    long = max(len(name) for name in classes)
    side = 0.45 * max(size, 3)
    figure = Figure(figsize=(side + 1.9 + 0.06 * long, side + 1.1 + 0.05 * long), layout="compressed")
    axis: Axes = figure.subplots()
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(size):
        for column in range(size):
            if counts[row, column]:
                colour = "white" if shares[row, column] > 0.55 else "black"
                axis.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=colour, fontsize=8)
    axis.set_xticks(range(size), classes, rotation=35, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(size), classes)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set(xlabel="predicted", ylabel="truth")
    figure.suptitle("\n".join(wrap(title, int(13 * figure.get_figwidth()))), fontsize=10)
    figure.colorbar(image, ax=axis, label="share of the true class", shrink=0.8)
    return figure


MOST_COLUMNS, MOST_STAGES = 4, 6  # a larger figure cannot be read on a page


@styled
def training_curves(history: pd.DataFrame, title: str = "Training") -> Figure:
    """A row a stage (more with over four scores), one panel a score (loss first); training solid, validation dashed.

    history: columns `epoch`, optionally `stage`, `seconds`, `learning_rate`, and scores with their `val_` twins.
    Raises ValueError for a history without a score.
    """
    parts = list(history.groupby("stage", sort=False)) if "stage" in history else [("", history)]
    if len(parts) > MOST_STAGES:
        # Slices of one tuning, say: their epochs follow one another on one axis.
        parts = [(f"{parts[0][0]} to {parts[-1][0]}", history.assign(epoch=range(1, len(history) + 1)))]
    shown = {stage: _scores(part) for stage, part in parts}
    columns = min(max(len(scores) for scores in shown.values()), MOST_COLUMNS)
    if not columns:
        raise ValueError("the history holds no score to draw")
    rows = [(stage, part, shown[stage][at : at + columns]) for stage, part in parts for at in range(0, len(shown[stage]), columns)]
    figure, axes = panels(len(rows), columns, width=3.8, height=2.7)
    for line, (stage, part, scores) in zip(axes, rows, strict=True):
        for axis, score in zip(line, scores, strict=False):
            for name, label, index in ((score, "training", 0), (f"val_{score}", "validation", 1)):
                if name in part and part[name].notna().any():
                    mark = "o" if len(part) < 3 else None
                    axis.plot(part["epoch"], part[name], LINES[index], color=COLOURS[index], marker=mark, label=label)
            axis.set(xlabel="epoch", ylabel=score.replace("_", " "), title=f"{stage} {score}".strip().replace("_", " "))
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if len(part) < 3:
                axis.set_xlim(part["epoch"].min() - 0.5, part["epoch"].max() + 0.5)
            axis.grid(True)
            axis.legend()
        for axis in line[len(scores) :]:
            axis.set_visible(False)
    figure.suptitle(title)
    return figure


def _scores(part: pd.DataFrame) -> list[str]:
    """Columns to draw, loss first: numbers that are no bookkeeping and that this stage has."""
    names = [name.removeprefix("val_") for name in part.columns if name not in BOOKKEEPING and part[name].notna().any()]
    return sorted(dict.fromkeys(names), key=lambda name: name != "loss")


@styled
def reliability(bins: Sequence[Mapping[str, Any]], ece: float | None = None, title: str = "Reliability") -> Figure:
    """Accuracy against confidence, from `metrics.calibration_bins`; below it how many images each bin holds."""
    figure = Figure(figsize=(4.0, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = bins[0]["high"] - bins[0]["low"]
    centres = np.array([(row["low"] + row["high"]) / 2 for row in bins])
    full = [index for index, row in enumerate(bins) if row["count"]]
    upper.plot([0, 1], [0, 1], color="#666666", linewidth=1, linestyle="--", label="perfect")
    accuracy = [bins[index]["accuracy"] for index in full]
    upper.bar(centres[full], accuracy, 0.92 * width, color=COLOURS[4], edgecolor=COLOURS[0], label="bin's accuracy")
    confidence = [bins[index]["confidence"] for index in full]
    upper.plot(confidence, accuracy, "D", markersize=3.5, color=COLOURS[1], label="its mean confidence")
    upper.set(ylabel="accuracy", ylim=(0, 1.02), xlim=(0, 1), title=title if ece is None else f"{title}, ECE {ece:.3f}")
    upper.grid(True)
    lower.bar(centres, [row["count"] for row in bins], 0.92 * width, color="#999999")
    lower.set(xlabel="confidence (largest probability)", ylabel="images")
    lower.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    # Above the axes: a good model fills the upper left corner with bars.
    figure.legend(*upper.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


@styled
def bars(
    groups: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    errors: Mapping[str, Sequence[Sequence[float] | float | None]] | None = None,
    ylabel: str = "accuracy",
    title: str = "",
    printed: Mapping[str, Sequence[float | None]] | None = None,
    ylim: tuple[float, float] | None = None,
) -> Figure:
    """Grouped bars: one cluster a group, one colour a series; None leaves a gap.

    errors: series -> per group an interval (low, high) or a deviation. printed: series -> the paper's numbers, drawn as black ticks.
    """
    figure, axes = panels(width=max(4.0, 1.2 + 0.28 * len(groups) * (len(series) + 1)), height=3.3)
    axis: Axes = axes[0, 0]
    places, width = np.arange(len(groups)), 0.8 / max(len(series), 1)
    for index, (name, values) in enumerate(series.items()):
        at = places + (index - (len(series) - 1) / 2) * width
        heights = np.array([np.nan if value is None else value for value in values], dtype=float)
        hatch = None if index < len(COLOURS) else "//"
        axis.bar(at, heights, 0.92 * width, color=COLOURS[index % len(COLOURS)], hatch=hatch, label=name)
        if errors and name in errors:
            spans = _spans(heights, errors[name])
            axis.errorbar(at, heights, yerr=spans, fmt="none", ecolor="#333333", elinewidth=1, capsize=2)
        for place, value in zip(at, (printed or {}).get(name, ()), strict=False):
            if value is not None:
                axis.plot([place - width / 2, place + width / 2], [value, value], color="black", linewidth=2)
    if printed:
        axis.plot([], [], color="black", linewidth=2, label="printed")
    long = max(len(group) for group in groups) * len(groups) > 60
    axis.set_xticks(places, groups, **({"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if long else {}))
    axis.set(ylabel=ylabel, title=title, xlim=(-0.6, len(groups) - 0.4))
    if ylim:
        axis.set_ylim(ylim)
    axis.grid(True, axis="y")
    if len(series) > 1 or printed:
        figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper")
    return figure


def _spans(heights: np.ndarray, errors: Sequence[Sequence[float] | float | None]) -> np.ndarray:
    """`(2, n)` distances below and above the bar; a missing error has no length."""
    spans = np.zeros((2, len(heights)))
    for index, error in enumerate(errors):
        if isinstance(error, int | float):
            spans[:, index] = error
        elif error is not None:
            spans[:, index] = max(heights[index] - error[0], 0), max(error[1] - heights[index], 0)
    return np.nan_to_num(spans)


@styled
def scatter_hexbin(
    x: np.ndarray, y: np.ndarray, xlabel: str, ylabel: str, title: str = "", grid: int = 30, mark: tuple[float, float] | None = None
) -> Figure:
    """The same points twice: as a scatter, and counted in hexagons. `mark` draws a cross on both, such as the densest place."""
    figure, axes = panels(1, 2, width=4.0, height=3.4)
    left, right = axes[0]
    left.scatter(x, y, s=5, alpha=0.35, color=COLOURS[0], linewidths=0)
    counts = right.hexbin(x, y, gridsize=grid, cmap="cividis", mincnt=1)
    figure.colorbar(counts, ax=right, label="images")
    for axis in (left, right):
        axis.set(xlabel=xlabel, ylabel=ylabel)
        if mark:
            axis.plot(*mark, "+", markersize=14, markeredgewidth=2, color=COLOURS[1], label=f"{mark[0]:.4g} × {mark[1]:.4g}")
    if mark:
        left.legend()
    figure.suptitle(title)
    return figure


@styled
def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    title: str = "",
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """Several curves in one plot, each with its own colour, dash and marker.

    lines: name -> (x, y); bands: name -> (low, high) around that curve; levels: name -> height of a thin horizontal line.
    """
    figure, axes = panels(width=5.4, height=3.4)
    axis: Axes = axes[0, 0]
    for index, (name, (x, y)) in enumerate(lines.items()):
        colour, dash = COLOURS[index % len(COLOURS)], LINES[index % len(LINES)]
        mark = MARKERS[index % len(MARKERS)] if len(x) <= 25 else None
        axis.plot(x, y, dash, color=colour, marker=mark, markersize=3.5, label=name)
        if bands and name in bands:
            axis.fill_between(x, *bands[name], color=colour, alpha=0.15, linewidth=0)
    for index, (name, level) in enumerate((levels or {}).items()):
        axis.axhline(level, color="#666666", linewidth=1, linestyle=LINES[(index + 1) % len(LINES)], label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axis.grid(True)
    axis.legend()
    return figure


def standard_figures(run: Any) -> list[Path]:
    """figures/{confusion,reliability,training_curves}.png of a run folder, as far as metrics.json and history.csv go."""
    from common.runs.reading import RunFolder

    folder = RunFolder.of(run)
    metrics = folder.read_json("metrics.json")
    synthetic, place = bool(metrics.get("synthetic")), folder.path / "figures"
    name = " ".join(str(metrics[key]) for key in ("study", "experiment") if metrics.get(key))
    classes = list(metrics["per_class"])
    title = f"{name}: accuracy {metrics['accuracy']:.4f} on {metrics['n']} images".removeprefix(": ")
    paths = [save(confusion_matrix(metrics["confusion"], classes, title, synthetic=synthetic), place / "confusion.png")]
    if metrics.get("calibration"):
        drawn = reliability(metrics["calibration"], metrics.get("ece"), name or "Reliability", synthetic=synthetic)
        paths.append(save(drawn, place / "reliability.png"))
    if folder.has("history.csv"):
        history = folder.read_table("history.csv")
        if any(_scores(part) for _, part in (history.groupby("stage") if "stage" in history else [("", history)])):
            drawn = training_curves(history, name or "Training", synthetic=synthetic)
            paths.append(save(drawn, place / "training_curves.png"))
    return paths
