"""`lmf explain`: one run through the shared explanations, or several runs side by side as in fig. 3 (Grad-CAM, doctor's boxes)."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from common.data.images import Filter, read_image, resize
from common.errors import UsageError
from common.explanation.cams import cam
from common.explanation.prepared import probabilities
from common.explanation.sheet import explain_command as explain_one
from common.report.plots import save
from common.report.predict import load_model
from common.runs.outcome import read_predictions
from common.runs.reading import RunFolder, data_dir_of, read_option_table, run_files
from lmf import paper
from lmf.data import listed, name_of
from lmf.experiments.explain import LossMapsOptions
from lmf.figures import LossMap, MapRow, loss_maps, title_of

log = logging.getLogger(__name__)
BOX_COLUMNS = ("image", "x", "y", "width", "height")


@dataclass(frozen=True)
class Explained:
    """A finished run: its folder, its config.json, and its test predictions indexed by image."""

    folder: RunFolder
    config: Mapping[str, Any]
    predictions: pd.DataFrame
    data_dir: Path

    @property
    def loss(self) -> str:
        return str(self.config["settings"]["loss"])


def explain_command(options: LossMapsOptions) -> None:
    """`lmf explain RUN`: the shared sheet; side by side (see `LossMapsOptions`): losses.png and losses.csv in the folder for explanations.

    UsageError for boxes on images that are no shared test images, --data-dir with several data sets, two runs of one loss on one data
    set, runs without a common test image, and images that are gone.
    """
    if not options.side_by_side:
        explain_one(options)
        return
    runs = [opened(path, options.data_dir) for path in (options.run, *options.beside)]
    by_dataset: dict[str, list[Explained]] = {}
    for run in runs:
        by_dataset.setdefault(name_of(run.config["settings"]), []).append(run)
    if options.data_dir is not None and len(by_dataset) > 1:
        raise UsageError("--data-dir names one folder, but the runs are of several data sets; leave it out, each run knows its own")
    boxes = read_boxes(options.boxes) if options.boxes else {}
    known = set().union(*(shared_images(dataset, group) for dataset, group in by_dataset.items()))
    unknown = sorted(set(boxes) - known)
    if unknown:
        raise UsageError(f"--boxes {options.boxes}: {len(unknown)} images are no test images that the runs share: {listed(unknown)}")
    rows = [row for dataset, group in by_dataset.items() for row in dataset_rows(dataset, group, boxes, options)]
    output = RunFolder(options.output or RunFolder.of(options.run).path / "explanations")
    output.write_table("losses.csv", pd.DataFrame([line for row in rows for line in lines(row)]))
    synthetic = any(bool(run.config.get("synthetic")) for run in runs)
    save(loss_maps(rows, synthetic=synthetic), output.path / "losses.png")
    log.info("%d images, %d runs: %s", len(rows), len(runs), output.path / "losses.png")


def opened(path: Path, data_dir: Path | None) -> Explained:
    """A run of `lmf train`. UsageError when it is none, or when its images are not where they were."""
    folder = RunFolder.existing(path)
    config = folder.read_json("config.json")
    if "loss" not in config.get("settings", {}):
        raise UsageError(f"{path}: not a run of lmf train")
    table, _ = read_predictions(folder)
    return Explained(folder, config, table.set_index("image"), data_dir_of(folder, data_dir))


def dataset_rows(dataset: str, runs: list[Explained], boxes: Mapping[str, np.ndarray], options: LossMapsOptions) -> list[MapRow]:
    """The rows of one data set: each chosen test image with one Grad-CAM map a run."""
    losses = [run.loss for run in runs]
    if len(set(losses)) < len(losses):
        raise UsageError(f"explain: two runs of one loss on {dataset}; expected one run a loss")
    size, method = int(runs[0].config["image_size"]), cast(Filter, runs[0].config.get("resize_filter") or "bilinear")
    names = chosen_images(dataset, runs, boxes)
    originals = [read_image(path) for path in run_files(runs[0].folder, runs[0].data_dir, names)]
    rows = [
        MapRow(resize(image, size, method), f"{title_of(dataset)}\n{Path(name).name}", name, str(runs[0].predictions.loc[name, "label"]))
        for image, name in zip(originals, names, strict=True)
    ]
    rows = [replace(row, boxes=scaled(boxes.get(row.image_name), each.shape, size)) for row, each in zip(rows, originals, strict=True)]
    images = np.stack([row.image for row in rows])
    for run in sorted(runs, key=lambda run: list(paper.LOSS_TITLES).index(run.loss)):
        if int(run.config["image_size"]) != size:
            raise UsageError(f"{run.folder.path}: image size {run.config['image_size']}, but the first run of {dataset} has {size}")
        model, classes = load_model(run.folder), run.config["classes"]
        predicted = probabilities(model, images.astype("float32"))
        numbers = predicted.argmax(axis=1)
        maps = cam("gradcam", model, images.astype("float32"), numbers, options.layers[0])
        for row, map, number, row_probabilities in zip(rows, maps, numbers, predicted, strict=True):
            row.maps[run.loss] = LossMap(map, str(classes[number]), float(row_probabilities[number]))
    return rows


def shared_images(dataset: str, runs: list[Explained]) -> list[str]:
    """Test images that all runs of one data set have, by name; UsageError when there is none."""
    shared = sorted(set.intersection(*(set(run.predictions.index) for run in runs)))
    if not shared:
        raise UsageError(f"explain: the runs on {dataset} have no test image in common; expected runs of the same split and seed")
    return shared


def chosen_images(dataset: str, runs: list[Explained], boxes: Mapping[str, np.ndarray]) -> list[str]:
    """Test images that all runs share: those with boxes, else the first by name of the class with the fewest training images.

    The paper shows cases where LMF is right and others are wrong; this choice looks at no prediction.
    """
    shared = shared_images(dataset, runs)
    marked = [name for name in shared if name in boxes]
    if marked:
        return marked
    settings = runs[0].config["settings"]
    rarest = min(zip(settings["class_counts"], settings["classes"], strict=True))[1]
    labels = runs[0].predictions["label"]
    return [next((name for name in shared if labels[name] == rarest), shared[0])]


def read_boxes(path: Path) -> dict[str, np.ndarray]:
    """Image path, as in manifest.csv -> boxes `(n, 4)`: x, y, width, height in pixels of the original image, from its top left corner."""
    table = read_option_table("--boxes", path)
    missing = [name for name in BOX_COLUMNS if name not in table.columns]
    if missing:
        raise UsageError(f"--boxes {path}: lacks the column {missing[0]}; expected {','.join(BOX_COLUMNS)}")
    numbers = table[list(BOX_COLUMNS[1:])].apply(pd.to_numeric, errors="coerce")
    wrong = numbers.isna().any(axis=1) | (numbers[["width", "height"]] <= 0).any(axis=1) | (numbers[["x", "y"]] < 0).any(axis=1)
    if wrong.any():
        raise UsageError(f"--boxes {path}: row {int(np.flatnonzero(wrong)[0]) + 2} has no box; expected x, y >= 0 and width, height > 0")
    return {str(name): part[list(BOX_COLUMNS[1:])].to_numpy(float) for name, part in table.groupby("image", sort=False)}


def scaled(boxes: np.ndarray | None, shape: tuple[int, ...], size: int) -> np.ndarray:
    """Boxes of an original of `shape` (h, w, 3) in pixels of the square network input; `(n, 4)`."""
    if boxes is None:
        return np.zeros((0, 4))
    return boxes * np.array([size / shape[1], size / shape[0]] * 2)


def inside(map: np.ndarray, boxes: np.ndarray) -> float | None:
    """Share of a map's sum `(h, w)` that lies in the boxes, 0..1; None without boxes or for an empty map."""
    if not len(boxes) or not map.sum():
        return None
    y, x = np.mgrid[: map.shape[0], : map.shape[1]] + 0.5
    covered = np.zeros(map.shape, bool)
    for left, top, width, height in boxes:
        covered |= (x >= left) & (x < left + width) & (y >= top) & (y < top + height)
    return float(map[covered].sum() / map.sum())


def lines(row: MapRow) -> list[dict[str, Any]]:
    """losses.csv: one line an image and loss."""
    return [
        {
            "image": row.image_name,
            "label": row.label,
            "loss": loss,
            "predicted": found.predicted,
            "probability": round(found.probability, 6),
            "map_inside_boxes": inside(found.map, row.boxes),
        }
        for loss, found in row.maps.items()
    ]
