"""What a simulation works on: base classifier, images, masks, split and balance, as arrays."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from common.data.dataset import Dataset
from common.data.images import cached_images
from common.errors import UsageError
from common.metrics.classification import class_indices
from common.runs.files import read_json
from common.runs.models import read_model
from feedback import data
from feedback.experiments.simulate import SimulateSettings


@dataclass(frozen=True)
class Stage:
    """Everything a simulation works on; arrays have one row a manifest row, copies of up-sampled images included.

    Attributes:
        base: run folder of the base classifier.
        manifest: with `split`, `overlap`, `copy`.
        images: `(N, size, size, 3)` uint8, labels `(N,)` int32, masks `(N, size, size)` uint8 0..255, each over the data set's own rows.
        rows: manifest row -> row of the arrays.
    """

    base: Path
    dataset: Dataset
    manifest: pd.DataFrame
    classes: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    rows: np.ndarray

    def part(self, split: str) -> np.ndarray:
        """Rows of the arrays that belong to a split, in the manifest's order."""
        return self.rows[self.manifest["split"].eq(split).to_numpy()]

    def groups(self, split: str) -> np.ndarray:
        """Names of the lesions of a split's images, in the same order."""
        return self.manifest.loc[self.manifest["split"].eq(split), "group"].to_numpy(str)


def prepare(settings: SimulateSettings) -> Stage:
    """Base, images, masks, split and balance of a simulation.

    Raises:
        UsageError: a label that is none of the base's classes, a base without model, bad data (see `feedback.data.load`).
    """
    dataset = data.load(settings, "simulation")
    base = settings.base
    if base is None:
        raise ValueError("prepare needs a base (feedback.training.baseline.with_base)")
    config = read_json(base / "config.json")
    classes = tuple(config["classes"])
    unknown = sorted(set(dataset.manifest["label"]) - set(classes))
    if unknown:
        raise UsageError(f"--base {base}: the label {unknown[0]} is outside its classes {', '.join(classes)}")
    size, resize_filter = int(config["image_size"]), config["resize_filter"]
    images = cached_images(dataset, size, resize_filter, settings.cache_dir, progress=True)
    masks = data.feedback_masks(dataset, size, settings.cache_dir, settings.feedback_form)
    split = data.split_rows(dataset.manifest, settings.split, settings.split_seed, settings.keep_overlap_in_training)
    manifest = data.balanced(split, settings.balance, settings.seed)
    number_of = {name: index for index, name in enumerate(dataset.manifest["image"])}
    rows = manifest["image"].map(number_of).to_numpy(dtype=np.int64)
    return Stage(base, dataset, manifest, classes, images, class_indices(dataset.manifest["label"], classes).astype("int32"), masks, rows)


def load_classifier(run: Path) -> keras.Model:
    """The classifier of a run folder; nothing in the file is run. UsageError when it is broken or hostile."""
    return read_model(run / "model.keras")
