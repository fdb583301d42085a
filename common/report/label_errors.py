"""`label-errors RUN`: test images whose label is probably wrong, as a table and a sheet of pictures."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from common.commands.label_errors import LabelErrorsOptions
from common.data.images import read_image, resize
from common.errors import UsageError
from common.explanation.sheet import run_files
from common.metrics.classification import class_indices
from common.report.plots import panels, save, styled
from common.runs.outcome import probabilities_of, read_predictions
from common.runs.reading import RunFolder

log = logging.getLogger(__name__)
COLUMNS = 5


def label_errors_command(options: LabelErrorsOptions) -> Path:
    """Write label_errors.csv (image, label, suggested, probability_of_label) and figures/label_errors.png; returns the CSV.

    Raises:
        UsageError: fewer than two classes have test images, or images are gone.
    """
    folder = RunFolder.existing(options.run)
    table, classes = read_predictions(folder)
    found = likely_errors(table, classes)
    path = folder.write_table("label_errors.csv", found)
    log.info("%s: %d of %d test images have a label that is probably wrong", path, len(found), len(table))
    shown = found[: options.shown]
    if len(shown):
        images = [resize(read_image(path), 160, "bilinear") for path in run_files(folder, options.data_dir, shown["image"])]
        synthetic = bool(folder.read_json("config.json").get("synthetic"))
        save(picture_sheet(images, shown, synthetic=synthetic), folder.path / "figures" / "label_errors.png")
    return path


def likely_errors(table: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """Rows of a predictions table whose label confident learning takes for wrong, the least probable label first.

    Classes without a test image are left out of the reckoning (their probabilities are shared out over the others).
    """
    from cleanlab.filter import find_label_issues

    truth = class_indices(table["label"], classes)
    present = np.unique(truth)
    if len(present) < 2:
        raise UsageError("label-errors: expected test images of at least two classes")
    probabilities = probabilities_of(table, classes)[:, present] + 1e-9
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = np.searchsorted(present, truth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cleanlab, about classes it has few images of
        order = find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    names = np.asarray(classes, dtype=object)[present]
    chosen = np.asarray(order, int)
    return pd.DataFrame(
        {
            "image": table["image"].to_numpy()[chosen],
            "label": names[labels[chosen]],
            "suggested": names[probabilities[chosen].argmax(axis=1)],
            "probability_of_label": probabilities[chosen, labels[chosen]].round(6),
        }
    )


@styled
def picture_sheet(images: list[np.ndarray], rows: pd.DataFrame) -> Figure:
    """The pictures (h, w, 3) uint8 with the label they have and the one suggested."""
    lines = -(-len(images) // COLUMNS)
    figure, axes = panels(lines, COLUMNS, width=1.8, height=2.1)
    for axis in axes.ravel():
        axis.set_axis_off()
    for axis, image, row in zip(axes.ravel(), images, rows.to_dict("records"), strict=False):
        axis.imshow(image)
        axis.set_title(f"{Path(row['image']).name[:24]}\nlabel {row['label']}\nrather {row['suggested']}?", fontsize=6)
    figure.suptitle("Labels that are probably wrong")
    return figure
