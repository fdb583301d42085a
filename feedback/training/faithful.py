"""Faithfulness of the maps of a simulation: the measuring. What is made of the numbers is in `feedback/faithfulness.py`."""

import numpy as np
import pandas as pd
from keras import ops

from common.explanation.faithfulness import measure
from common.runs.files import atomic
from common.runs.folder import Run
from feedback.assessment import Explainer
from feedback.models import upsample
from feedback.training.stage import Stage


def measure_once(run: Run, name: str, explainer: Explainer, stage: Stage, count: int, seed: int) -> pd.DataFrame:
    """Areas under the deletion and insertion curves of the predicted class's maps, on `count` marked test images spread over the set.

    Kept in the run folder until the run is finished, as the untuned model's other scores are (`assess_once`).

    Returns:
        One row an image: `image`, the areas `deletion` and `insertion` and `pointing` of its map, 0..1, and `random_deletion` and
        `random_insertion` of a random map of the same coarseness on the same model, the same one before and after tuning.
    """
    path = run.path / "checkpoints" / f"faithfulness_{name}.csv"
    if path.is_file():
        return pd.read_csv(path, dtype={"image": str}, encoding_errors="surrogateescape")
    rows = stage.part("test")
    rows = rows[stage.masks[rows].any(axis=(1, 2))]
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))]
    probabilities, maps, _ = explainer(stage.images[rows])
    size, grid = stage.images.shape[1], (maps.shape[1], maps.shape[2])
    maps = ops.convert_to_numpy(upsample(ops.convert_to_tensor(maps), (size, size)))
    names, masks = stage.dataset.manifest["image"].to_numpy()[rows], stage.masks[rows] >= 128
    table, _ = measure(
        explainer.model.classifier, stage.images[rows], {"map": maps}, probabilities.argmax(axis=1), masks=masks, names=names, seed=seed,
        grid=grid,
    )  # fmt: skip
    # Both parts list the images in the same order.
    map_, random = (table[table["method"] == method].reset_index(drop=True) for method in ("map", "random"))
    found = map_[["image", "deletion", "insertion"]].assign(random_deletion=random["deletion"], random_insertion=random["insertion"])
    found["pointing"] = map_.get("pointing", np.nan)
    with atomic(path) as temporary:
        found.to_csv(temporary, index=False, errors="surrogateescape")
    return found
