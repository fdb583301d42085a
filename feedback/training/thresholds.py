"""The threshold of the map (section 3.4, figure 3.3): the average Jaccard index at 0 to 100 % of the maximum."""

from pathlib import Path

import numpy as np
import pandas as pd

from common import device
from common.data.dataset import Dataset
from common.data.images import cached_images
from common.errors import UsageError
from common.metrics.overlap import jaccard_index
from common.report.tables import markdown, number
from common.runs.files import read_json
from common.runs.reading import RunFolder, data_dir_of, run_files
from feedback import data, figures
from feedback.assessment import Explainer, trivial_maps
from feedback.experiments.simulate import SimulateSettings, stored
from feedback.experiments.thresholds import ThresholdsSettings
from feedback.training.online import self_explaining
from feedback.training.stage import load_classifier

THRESHOLDS = tuple(np.round(np.linspace(0, 1, 21), 2))


def run_thresholds(options: ThresholdsSettings) -> Path:
    """`feedback thresholds RUN`: thresholds.csv, thresholds.md and two figures in the run folder; returns it.

    Raises:
        UsageError: no run of simulate or slices, its images are not where or what they were, or a split has no mask.
    """
    config = read_json(options.run / "config.json")
    dataset, images, masks, settings = reopen(options, config)
    device.configure(int(config["seed"]))
    explainer = Explainer(self_explaining(load_classifier(options.run), settings), options.batch_size)
    table, marked, split = pd.DataFrame({"threshold": THRESHOLDS}), masks.any(axis=(1, 2)), dataset.manifest["split"].to_numpy()
    for part in ("validation", "test"):
        rows = np.flatnonzero((split == part) & marked)
        if not len(rows):
            raise UsageError(f"{options.run}: no {part} image has a mask")
        table[part] = jaccard_by_threshold(explainer, images, masks, rows, THRESHOLDS)
    blob = trivial_maps(masks[rows], masks[split == "train"])["centred_blob"]["mean"]
    best, half = table.loc[table["validation"].idxmax()], table.loc[(table["threshold"] - 0.5).abs().idxmin()]
    lines = [[f"{line.threshold:.2f}", number(line.validation), number(line.test)] for line in table.itertuples()]
    text = (
        f"# Threshold of the map\n\n{'Synthetic data. ' if config['synthetic'] else ''}"
        f"Best on validation: **{best['threshold']:.2f}** (validation {number(best['validation'])}, test {number(best['test'])}); at "
        f"the thesis's 0.50: validation {number(half['validation'])}, test {number(half['test'])}. A centred circle of the average "
        f"area: test {number(blob)}.\n\n"
        + markdown(("threshold", "validation", "test"), lines)
        + "\n![curve](figures/thresholds.png)\n\n![strip](figures/threshold_strip.png)\n"
    )
    RunFolder.of(options.run).write_table("thresholds.csv", table)
    RunFolder.of(options.run).write_text("thresholds.md", text)
    # The marked test image with the median area: typical, and not chosen by its map.
    row = rows[np.argsort((masks[rows] >= 128).sum(axis=(1, 2)), kind="stable")[len(rows) // 2]]
    _, maps, _ = explainer(images[row : row + 1], size=masks.shape[1])
    figures.threshold_figures(options.run, table, blob, (images[row], maps[0], masks[row]), bool(config["synthetic"]))
    return options.run


def reopen(options: ThresholdsSettings, config: dict) -> tuple[Dataset, np.ndarray, np.ndarray, SimulateSettings]:
    """Images and masks `(N, size, size, …)` uint8 of a finished simulation, aligned with its manifest without copies; its settings."""
    if config["experiment"] not in ("simulate", "slices"):
        raise UsageError(f"{options.run}: not a run of simulate or slices")
    settings, size = stored(config["settings"]), int(config["image_size"])
    folder = RunFolder.of(options.run)
    manifest = folder.read_table("manifest.csv", keep_default_na=False, dtype={"label": str, "group": str})
    manifest = manifest[manifest["copy"] == 0].reset_index(drop=True)
    names = [name for column in ("image", *data.mask_columns(manifest)) for name in manifest[column] if name]
    run_files(folder, options.data_dir, names)  # what has changed since is named
    dataset = Dataset(str(config["dataset"]), data_dir_of(folder, options.data_dir), manifest, bool(config["synthetic"]))
    images = cached_images(dataset, size, config["resize_filter"], options.cache_dir)
    return dataset, images, data.feedback_masks(dataset, size, options.cache_dir, settings.feedback_form), settings


def jaccard_by_threshold(
    explainer: Explainer, images: np.ndarray, masks: np.ndarray, rows: np.ndarray, thresholds: tuple[float, ...]
) -> np.ndarray:
    """Average Jaccard index `(thresholds,)` of the predicted class's maps over the images `rows`, all of them marked.

    Threshold 0 covers the whole image; a map without any positive weight is empty at every other one.
    """
    totals, step = np.zeros(len(thresholds)), 8 * explainer.batch_size
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        _, maps, _ = explainer(images[part], size=masks.shape[1])
        totals += [float(np.sum(jaccard_index(masks[part] >= 128, maps, cut))) for cut in thresholds]
    return totals / len(rows)
