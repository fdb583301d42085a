"""The four figures of the LMF paper, drawn from finished runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from common.explanation.drawing import overlay
from common.metrics.statistics import average_deviation
from common.report.plots import COLOURS, bars, panels, styled
from lmf import paper
from lmf.experiments.sweep import SWEPT


def title_of(dataset: str) -> str:
    """`ham10000` -> `HAM-10K`; a drawn sample says so."""
    name = dataset.removeprefix("sample-")
    return paper.TITLES.get(name, name) + (" (sample)" if dataset != name else "")


def macro_f1_bars(cells: pd.DataFrame) -> Figure:
    """Fig. 1: macro F1 of each loss on each data set, mean with average deviation over backbones and seeds; printed means as ticks.

    cells: one row a run with `dataset`, `backbone`, `loss`, `macro_f1` (0..1), `differs` (it is not the paper's problem: nothing printed
    stands beside it) and `synthetic`; rows without a score are left out.
    """
    cells = cells.dropna(subset=["macro_f1"])
    datasets, losses = list(dict.fromkeys(cells["dataset"])), list(dict.fromkeys(cells["loss"]))
    values, errors, printed = {}, {}, {}
    for loss in losses:
        parts = [cells[(cells["dataset"] == name) & (cells["loss"] == loss)] for name in datasets]
        name = paper.LOSS_TITLES[loss]
        values[name] = [part["macro_f1"].mean() if len(part) else None for part in parts]
        # One run has no deviation, which is not a deviation of 0.
        errors[name] = [average_deviation(part["macro_f1"])[1] if len(part) > 1 else None for part in parts]
        printed[name] = [
            None if part["differs"].any() else printed_mean(dataset, loss, sorted(set(part["backbone"])))
            for dataset, part in zip(datasets, parts, strict=True)
        ]
    known = any(value is not None for row in printed.values() for value in row)
    return bars(
        [title_of(name) for name in datasets],
        values,
        errors,
        ylabel="macro F1 (mean, average deviation)",
        title="Fig. 1: macro F1",
        printed=printed if known else None,
        synthetic=bool(cells["synthetic"].any()),
    )


def printed_mean(dataset: str, loss: str, backbones: Sequence[str]) -> float | None:
    """Mean printed macro F1 (0..1) of the same backbones; None unless all of them were printed."""
    found = [paper.scores(dataset, backbone, loss) for backbone in backbones]
    return float(np.mean([row[0]["macro_f1"] for row in found if row])) / 100 if found and all(found) else None


@styled
def class_distribution(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Fig. 2: images of each class, one panel a data set, largest class first. counts: data set -> class -> images."""
    columns = min(2, len(counts))
    figure, axes = panels(-(-len(counts) // columns), columns, width=4.2, height=2.8)
    flat = axes.ravel()
    for axis, (dataset, classes) in zip(flat, counts.items(), strict=False):
        ordered = sorted(classes.items(), key=lambda item: -item[1])
        places = axis.bar([paper.printed_class(name) for name, _ in ordered], [n for _, n in ordered], color=COLOURS[0])
        axis.bar_label(places, fontsize=7)
        ratio = ordered[0][1] / ordered[-1][1]
        axis.set(ylabel="images", title=f"{title_of(dataset)}: {sum(classes.values())} images, ratio {ratio:.1f}")
        axis.margins(y=0.12)
    for axis in flat[len(counts) :]:
        axis.set_visible(False)
    figure.suptitle("Fig. 2: images of each class")
    return figure


@styled
def alpha_beta_means(table: pd.DataFrame, score: str = "macro_f1") -> Figure:
    """Fig. 4: one panel of means with average deviation a setting, one of the values behind them.

    table: one row a run and setting with `setting`, `value` (what varies) and `score` (0..1).
    """
    figure, axes = panels(1, 2, width=4.4, height=3.2)
    left, right = axes[0]
    settings = list(dict.fromkeys(table["setting"]))
    for index, setting in enumerate(settings):
        part = table[table["setting"] == setting].dropna(subset=[score])
        mean, deviation = average_deviation(part[score])
        left.errorbar([index], [mean], yerr=[[deviation], [deviation]], fmt="o", color=COLOURS[index], capsize=5)
        left.annotate(f"{mean:.4f}", (index, mean), xytext=(8, 0), textcoords="offset points", va="center", fontsize=8)
        means = part.groupby("value")[score].mean()
        right.plot(means.index, means.to_numpy(), "o-", color=COLOURS[index], markersize=3.5, label=SWEPT[setting])
    left.set_xticks(range(len(settings)), [SWEPT[name].replace(", ", ",\n") for name in settings], fontsize=8)
    left.set(ylabel=f"{score.replace('_f1', ' F1').replace('_', ' ')} (mean, average deviation)", xlim=(-0.5, len(settings) - 0.3))
    right.set(xlabel="value", ylabel=score.replace("_f1", " F1").replace("_", " "))
    right.legend()
    for axis in (left, right):
        axis.grid(True, axis="y")
    figure.suptitle("Fig. 4: LMF under three ways of choosing alpha and beta")
    return figure


@dataclass(frozen=True)
class LossMap:
    """Grad-CAM `(h, w)` in 0..1 for the class one run predicts, and that class with its probability."""

    map: np.ndarray
    predicted: str
    probability: float


@dataclass(frozen=True)
class MapRow:
    """One image of fig. 3: pixels `(h, w, 3)` uint8, a caption, its path, its true class, boxes `(n, 4)` (x, y, width, height), maps."""

    image: np.ndarray
    caption: str
    image_name: str
    label: str
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    maps: dict[str, LossMap] = field(default_factory=dict)


@styled
def loss_maps(rows: Sequence[MapRow]) -> Figure:
    """Fig. 3: a row an image, a column a loss; over each map what the run predicts, green when right. Boxes are green rectangles."""
    losses = [loss for loss in paper.LOSS_TITLES if any(loss in row.maps for row in rows)]
    figure, axes = panels(len(rows), len(losses) + 1, width=1.7, height=1.95)
    for line, row in zip(axes, rows, strict=True):
        pictures = [("image", None), *((paper.LOSS_TITLES[loss], row.maps.get(loss)) for loss in losses)]
        for axis, (name, found) in zip(line, pictures, strict=True):
            axis.set_axis_off()
            if name != "image" and found is None:
                continue
            axis.imshow(row.image if found is None else overlay(row.image, found.map))
            for left, top, width, height in row.boxes:
                axis.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor="#00CC44", linewidth=1.5))
            if found is None:
                axis.set_title(f"{row.caption}\ntrue: {paper.printed_class(row.label)}", fontsize=7)
            else:
                right = found.predicted == row.label
                title = f"{name}\n{paper.printed_class(found.predicted)} {found.probability:.0%}"
                axis.set_title(title, fontsize=7, color=COLOURS[2] if right else COLOURS[1])
    figure.suptitle("Fig. 3: Grad-CAM of the predicted class for each loss")
    return figure
