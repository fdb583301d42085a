"""The threshold of the map (section 3.4, figure 3.3): the average Jaccard index at 0 to 100 % of the maximum."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common import device
from common.data.dataset import Dataset
from common.data.images import cached_images
from common.errors import UsageError
from common.metrics.overlap import jaccard_index
from common.report.tables import markdown, number
from common.runs.files import atomic, read_json
from common.runs.folder import Run
from feedback import data, reporting
from feedback.assessment import Explainer, trivial_maps
from feedback.experiments.simulate import SimulateSettings, stored
from feedback.experiments.thresholds import ThresholdsSettings
from feedback.training.online import self_explaining
from feedback.training.stage import load_classifier, numbers

THRESHOLDS = tuple(np.round(np.linspace(0, 1, 21), 2))


@dataclass(frozen=True)
class Finished:
    """A finished simulation with its images: `images` and `masks` `(N, size, size, …)` uint8, aligned with `manifest` (copies left out)."""

    config: dict
    settings: SimulateSettings
    manifest: pd.DataFrame
    images: np.ndarray
    masks: np.ndarray
    labels: np.ndarray


def reopen(run: Path, data_dir: Path | None, cache_dir: Path) -> Finished:
    """The images, masks and settings of a finished simulation. UsageError when its images are not where they were."""
    config = read_json(run / "config.json")
    if config["experiment"] not in ("simulate", "slices"):
        raise UsageError(f"{run}: not a run of simulate or slices")
    settings = stored(config["settings"])
    manifest = pd.read_csv(
        run / "manifest.csv", keep_default_na=False, dtype={"label": str, "group": str}, encoding_errors="surrogateescape"
    )
    manifest = manifest[manifest["copy"] == 0].reset_index(drop=True)
    folder = data_dir or Run(run, config).data_dir
    if folder is None or not (folder / manifest["image"].iloc[0]).is_file():
        raise UsageError(f"{run}: its images are not at {folder}; give their folder with --data-dir")
    dataset = Dataset(str(config["dataset"]), folder, manifest, bool(config["synthetic"]))
    size = int(config["image_size"])
    images = cached_images(dataset, size, config["resize_filter"], cache_dir)
    masks = data.feedback_masks(dataset, size, cache_dir, settings.feedback_form)
    return Finished(config, settings, manifest, images, masks, numbers(manifest["label"], tuple(config["classes"])))


def run_thresholds(options: ThresholdsSettings) -> Path:
    """`feedback thresholds RUN`: thresholds.csv, thresholds.md and two figures in the run folder; returns it."""
    found = reopen(options.run, options.data_dir, options.cache_dir)
    device.configure(int(found.config["seed"]))
    explainer = Explainer(self_explaining(load_classifier(options.run), found.settings), options.batch_size)
    table = pd.DataFrame({"threshold": THRESHOLDS})
    baselines = {}
    for split in ("validation", "test"):
        rows = np.flatnonzero(found.manifest["split"].eq(split) & found.masks.any(axis=(1, 2)))
        if not len(rows):
            raise UsageError(f"{options.run}: no {split} image has a mask")
        table[split] = jaccard_by_threshold(explainer, found.images, found.masks, rows, THRESHOLDS)
        baselines[split] = trivial_maps(found.masks[rows], found.masks[found.manifest["split"].eq("train").to_numpy()])
    best = table.loc[table["validation"].idxmax()]
    half = table.loc[(table["threshold"] - 0.5).abs().idxmin()]
    blob = baselines["test"]["centred_blob"]["mean"]
    lines = [[f"{line.threshold:.2f}", number(line.validation), number(line.test)] for line in table.itertuples()]
    text = (
        f"# Threshold of the map\n\n{'Synthetic data. ' if found.config['synthetic'] else ''}"
        f"Best on validation: **{best['threshold']:.2f}** (validation {number(best['validation'])}, test {number(best['test'])}); at "
        f"the thesis's 0.50: validation {number(half['validation'])}, test {number(half['test'])}. A centred circle of the average "
        f"area: test {number(blob)}.\n\n"
        + markdown(("threshold", "validation", "test"), lines)
        + "\n![curve](figures/thresholds.png)\n\n![strip](figures/threshold_strip.png)\n"
    )
    with atomic(options.run / "thresholds.csv") as temporary:
        table.to_csv(temporary, index=False, errors="surrogateescape")
    with atomic(options.run / "thresholds.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    _draw(options.run, explainer, found, table, blob)
    return options.run


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


def _draw(run: Path, explainer: Explainer, found: Finished, table: pd.DataFrame, blob: float | None) -> None:
    # The marked test image with the median area: typical, and not chosen by its map.
    rows = np.flatnonzero(found.manifest["split"].eq("test") & found.masks.any(axis=(1, 2)))
    areas = (found.masks[rows] >= 128).sum(axis=(1, 2))
    row = rows[np.argsort(areas, kind="stable")[len(rows) // 2]]
    _, maps, _ = explainer(found.images[row : row + 1], size=found.masks.shape[1])
    reporting.thresholds(run, table, blob, (found.images[row], maps[0], found.masks[row]), bool(found.config["synthetic"]))
