"""Figures of explanations: the papers' sheet (rows the images, columns the methods) and the faithfulness curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from common.explanation.faithfulness import Curves
from common.report.plots import COLOURS, LINES, MARKERS, panels, styled

COLOUR_MAP = "turbo"
TITLES = {
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "scorecam": "Score-CAM",
    "faster-scorecam": "Faster Score-CAM",
    "layercam": "LayerCAM",
    "lime": "LIME, for the class",
    "lime-pros-cons": "LIME, for and against",
    "random": "random map",
}


@dataclass(frozen=True)
class SheetRow:
    """One image of a sheet: what the model made of it, and one picture for each column.

    image: (h, w, 3) uint8. label: true class, "" if unknown. predicted, probability: the explained class. columns: method -> map
    (h, w) in 0..1, drawn over the image, or picture (h, w, 3) uint8, drawn as it is.
    """

    image: np.ndarray
    name: str
    label: str
    predicted: str
    probability: float
    columns: Mapping[str, np.ndarray]

    @property
    def correct(self) -> bool | None:
        return None if not self.label else self.label == self.predicted


def overlay(image: np.ndarray, map: np.ndarray, strength: float = 0.5) -> np.ndarray:
    """A map (h, w) in 0..1 in colour over an image (h, w, 3) uint8, half and half as tf-keras-vis' tutorial does; uint8."""
    colours = mpl.colormaps[COLOUR_MAP](np.clip(map, 0, 1))[..., :3] * 255
    return np.rint((1 - strength) * image + strength * colours).astype(np.uint8)


@styled
def sheet(rows: Sequence[SheetRow], title: str = "") -> Figure:
    """Rows the images, columns the methods; beside each row its true class, the explained class and its probability."""
    methods = list(rows[0].columns)
    size = 1.15
    figure = Figure(figsize=(size * (len(methods) + 1) + 2.2, size * len(rows) + 1.0), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.02, w_pad=0.02, hspace=0.02, wspace=0.02)  # type: ignore[union-attr, call-arg]
    grid = figure.subplots(len(rows), len(methods) + 1, squeeze=False)
    maps_drawn = False
    for index, row in enumerate(rows):
        grid[index, 0].imshow(row.image)
        colour = {True: COLOURS[2], False: COLOURS[1], None: "black"}[row.correct]
        truth = f"true: {row.label}\n" if row.label else f"{row.name}\n"
        grid[index, 0].set_ylabel(
            f"{truth}predicted: {row.predicted}\n{row.probability:.1%}",
            rotation=0,
            ha="right",
            va="center",
            fontsize=6.5,
            color=colour,
            labelpad=6,
        )
        for column, method in enumerate(methods, 1):
            drawn = row.columns[method]
            maps_drawn |= drawn.ndim == 2
            grid[index, column].imshow(overlay(row.image, drawn) if drawn.ndim == 2 else drawn)
    for column, method in enumerate(["image", *methods]):
        grid[0, column].set_title(TITLES.get(method, method), fontsize=7)
    for axis in grid.flat:
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set_visible(False)
    if maps_drawn:
        scale = figure.colorbar(ScalarMappable(Normalize(0, 1), COLOUR_MAP), ax=grid, shrink=min(1, 3 / len(rows)), aspect=25, pad=0.01)
        scale.set_label("map, divided by its maximum", fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


@styled
def faithfulness_curves(curves: Mapping[str, Curves], title: str = "") -> Figure:
    """Mean deletion (left) and insertion (right) curves, one line a method, the area under it in the legend."""
    figure, axes = panels(1, 2, width=4.6, height=3.4)
    names = ("deletion", "insertion")
    for axis, name, better in zip(axes[0], names, ("lower is better", "higher is better"), strict=True):
        for index, (method, found) in enumerate(curves.items()):
            random = method == "random"
            axis.plot(
                found.fraction,
                getattr(found, name),
                ":" if random else LINES[index % 3],
                color="#777777" if random else COLOURS[index % 7],
                marker=None if random else MARKERS[index % len(MARKERS)],
                markersize=3,
                markevery=2,
                label=f"{TITLES.get(method, method)} ({found.areas[name]:.3f})",
            )
        axis.set(xlabel="pixels removed" if name == "deletion" else "pixels shown", ylabel="probability of the class", xlim=(0, 1))
        axis.set_ylim(bottom=0)
        axis.set_title(f"{name.capitalize()} ({better})")
        axis.grid(True)
        axis.legend(fontsize=7)
    if title:
        figure.suptitle(title)
    return figure
