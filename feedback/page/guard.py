"""Accuracy on validation images while corrections come in: a few wrong or lopsided corrections can spoil a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.data.images import read_image, resize
from common.errors import UsageError
from common.runs import Run
from feedback.page.model import TunedModel


@dataclass(frozen=True)
class Reading:
    """The guard after one change of the model: accuracy now and before the first correction, on the same `images` images."""

    accuracy: float
    start: float
    images: int
    newly_wrong: int
    newly_right: int
    harm: bool

    @property
    def text(self) -> str:
        """One sentence for the page and the report."""
        change = f"newly wrong: {self.newly_wrong}, newly right: {self.newly_right}"
        said = f"{self.accuracy:.0%} of {self.images} validation images right; {self.start:.0%} before the first correction ({change})."
        return f"Warning: the corrections do harm. {said} Consider undoing the last one." if self.harm else said


class Guard:
    """Watches the accuracy on `images` `(n, size, size, 3)` uint8 with class numbers `labels` `(n,)`.

    Args:
        model: as it is before the first correction.
        drop: fall of accuracy above which it warns.
    """

    def __init__(self, model: TunedModel, images: np.ndarray, labels: np.ndarray, drop: float = 0.05) -> None:
        self.images, self.labels, self.drop = images, labels, drop
        self._right = self._hits(model)

    def check(self, model: TunedModel) -> Reading:
        """Accuracy of the model as it is now."""
        right = self._hits(model)
        now, start = float(right.mean()), float(self._right.mean())
        lost, gained = int((self._right & ~right).sum()), int((~self._right & right).sum())
        return Reading(now, start, len(right), lost, gained, start - now > self.drop + 1e-9)

    def _hits(self, model: TunedModel) -> np.ndarray:
        return model.probabilities(self.images).argmax(axis=1) == self.labels


def validation_images(run: Path, config: dict[str, Any], count: int, data_dir: Path | None = None) -> tuple[np.ndarray, np.ndarray] | None:
    """Up to `count` validation images of a run, spread over its classes: `(n, size, size, 3)` uint8 and class numbers `(n,)`.

    Returns None when the run's images are not on this machine and no `data_dir` is given.

    Raises:
        UsageError: `data_dir` does not hold them, or one cannot be read.
    """
    root = data_dir or Run(run, config).data_dir
    table = run / "manifest.csv"
    if not table.is_file() or root is None:
        return None
    manifest = pd.read_csv(table, keep_default_na=False, dtype={"label": str, "group": str})
    rows = manifest[(manifest["split"] == "validation") & manifest["label"].isin(config["classes"])]
    rows = rows.drop_duplicates("image").sort_values(["label", "image"])
    rows = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))] if len(rows) else rows
    if rows.empty or (data_dir is None and not (root / rows["image"].iloc[0]).is_file()):
        return None
    size, method = int(config["image_size"]), config["resize_filter"]
    try:
        images = np.stack([resize(read_image(root / name), size, method) for name in rows["image"]])
    except UsageError as error:
        raise UsageError(f"the guard's validation images: {error}; give their folder with --data-dir, or --guard-images 0") from None
    return images, rows["label"].map({name: k for k, name in enumerate(config["classes"])}).to_numpy(dtype=int)
