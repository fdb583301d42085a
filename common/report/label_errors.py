"""`audit --run RUN`: test images of a finished run whose label is probably wrong, as a table and a sheet of pictures."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from common.data.dataset import Dataset
from common.data.images import read_image, resize
from common.errors import UsageError
from common.metrics.classification import class_indices
from common.report.plots import panels, save, styled
from common.runs.outcome import probabilities_of, read_predictions
from common.runs.reading import RunFolder

SHOWN, COLUMNS = 20, 5


def errors_of_run(run: Path, dataset: Dataset) -> pd.DataFrame:
    """`likely_errors` of a run's test predictions, out of sample. UsageError where an image is none of the data set's."""
    table, classes = read_predictions(RunFolder.existing(run))
    foreign = table["image"][~table["image"].isin(dataset.manifest["image"])]
    if len(foreign):
        raise UsageError(f"--run {run}: {len(foreign)} of its test images are not in this data set (first: {foreign.iloc[0]})")
    return likely_errors(table, classes)


def write_errors(found: pd.DataFrame, dataset: Dataset, folder: Path) -> None:
    """label_errors.csv and, where there are any, label_errors.png with the first `SHOWN` pictures."""
    RunFolder(folder).write_table("label_errors.csv", found)
    shown = found[:SHOWN]
    if len(shown):
        images = [resize(read_image(dataset.data_dir / name), 160, "bilinear") for name in shown["image"]]
        save(picture_sheet(images, shown, synthetic=dataset.synthetic), folder / "label_errors.png")


def likely_errors(table: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """Rows of a predictions table whose label confident learning takes for wrong, the least probable label first.

    Columns: image, label, suggested, probability_of_label. Classes without a test image are left out of the reckoning (their
    probabilities are shared out over the others).
    """
    from cleanlab.filter import find_label_issues

    truth = class_indices(table["label"], classes)
    present = np.unique(truth)
    if len(present) < 2:
        raise UsageError("--run: expected test images of at least two classes")
    probabilities = probabilities_of(table, classes)[:, present] + 1e-9
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = np.searchsorted(present, truth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cleanlab, about classes it has few images of
        chosen = np.asarray(find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1), int)
    names = np.asarray(classes, dtype=object)[present]
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
    figure, axes = panels(-(-len(images) // COLUMNS), COLUMNS, width=1.8, height=2.1)
    for axis in axes.ravel():
        axis.set_axis_off()
    for axis, image, row in zip(axes.ravel(), images, rows.to_dict("records"), strict=False):
        axis.imshow(image)
        axis.set_title(f"{Path(row['image']).name[:24]}\nlabel {row['label']}\nrather {row['suggested']}?", fontsize=6)
    figure.suptitle("Labels that are probably wrong")
    return figure
