"""Validation images while corrections come in: a few wrong or lopsided corrections can spoil a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.data.images import read_image, resize
from common.errors import UsageError
from common.metrics.statistics import paired_bootstrap
from common.runs.folder import Run
from common.runs.reading import RunFolder, run_files
from feedback.assessment import balanced_accuracy

RESAMPLES = 500


@dataclass(frozen=True)
class Reading:
    """The guard after one change of the model, against before the first correction, on the same `images` images.

    Attributes:
        balanced, start: balanced accuracy (average sensitivity) now and then; low, high: 95 % interval of the change.
        shares, start_shares: class -> share of the images that are called so.
        newly_wrong, newly_right: images whose answer became wrong or right.
        harm: the balanced accuracy fell by more than is allowed, or a class is called that much more or less often.
    """

    balanced: float
    start: float
    low: float
    high: float
    images: int
    newly_wrong: int
    newly_right: int
    harm: bool
    shares: Mapping[str, float] = field(default_factory=dict)
    start_shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def moved(self) -> str:
        """The class whose share of the answers changed most."""
        return max(self.shares, key=lambda name: abs(self.shares[name] - self.start_shares[name]))

    @property
    def text(self) -> str:
        """What the page and the report say."""
        name = self.moved
        said = (
            f"On {self.images} validation images each class is recognised in {self.balanced:.0%} of its images on average; before the "
            f"first correction {self.start:.0%} (change {self.balanced - self.start:+.0%}, 95 % interval {self.low:+.0%} to "
            f"{self.high:+.0%}; newly wrong: {self.newly_wrong}, newly right: {self.newly_right}). {name} is said of "
            f"{self.shares[name]:.0%} of them; before of {self.start_shares[name]:.0%}."
        )
        return f"Warning: the corrections do harm. {said} Consider undoing the last one." if self.harm else said


@dataclass(frozen=True)
class GuardLimits:
    """From when on the guard sees harm, and whether the model then goes back by itself.

    Attributes:
        drop: fall of the balanced accuracy above which it warns.
        share_drop: change of a class's share of the answers above which it warns: a model that says one class of everything can keep
            its accuracy where that class is frequent.
        rollback: go back to the model before a correction that does harm.
    """

    drop: float = 0.05
    share_drop: float = 0.2
    rollback: bool = False


class Guard:
    """Watches `images` `(n, size, size, 3)` uint8 with class numbers `labels` `(n,)`; `model` (it has `probabilities(images)`): as it is
    before the first correction."""

    def __init__(
        self,
        model: Any,
        images: np.ndarray,
        labels: np.ndarray,
        classes: tuple[str, ...],
        limits: GuardLimits = GuardLimits(),  # noqa: B008
    ) -> None:
        self.images, self.labels, self.classes, self.limits = images, labels, classes, limits
        self._start = self._answers(model)

    def check(self, model: Any) -> Reading:
        """The model as it is now."""
        now, start = self._answers(model), self._start
        pairs = [np.stack([self.labels, answers], axis=1) for answers in (start, now)]
        change = paired_bootstrap(*pairs, balanced_accuracy, resamples=RESAMPLES)
        right, before = now == self.labels, start == self.labels
        shares, start_shares = ({name: float((one == k).mean()) for k, name in enumerate(self.classes)} for one in (now, start))
        moved = max(abs(shares[name] - start_shares[name]) for name in self.classes)
        return Reading(
            balanced=balanced_accuracy(pairs[1]), start=balanced_accuracy(pairs[0]), low=change.low, high=change.high,
            images=len(right), newly_wrong=int((before & ~right).sum()), newly_right=int((~before & right).sum()),
            harm=-change.value > self.limits.drop + 1e-9 or moved > self.limits.share_drop + 1e-9, shares=shares, start_shares=start_shares,
        )  # fmt: skip

    def _answers(self, model: Any) -> np.ndarray:
        return model.probabilities(self.images).argmax(axis=1)


def run_images(
    run: Path, config: dict[str, Any], split: str, count: int, data_dir: Path | None = None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Up to `count` images of a split of a run, as many of each class as there are, spread over the split: `(n, size, size, 3)` uint8 and
    class numbers `(n,)`.

    Returns None when the run's images are not on this machine and no `data_dir` is given.

    Raises:
        UsageError: `data_dir` does not hold them, one cannot be read, or is not what it was when the run began.
    """
    root = data_dir or Run(run, config).data_dir
    table = run / "manifest.csv"
    if not table.is_file() or root is None:
        return None
    manifest = pd.read_csv(table, keep_default_na=False, dtype={"label": str, "group": str}, encoding_errors="surrogateescape")
    rows = manifest[(manifest["split"] == split) & manifest["label"].isin(config["classes"])].drop_duplicates("image")
    if rows.empty or (data_dir is None and not (root / rows["image"].iloc[0]).is_file()):
        return None
    rows = _evenly(rows.sort_values(["label", "image"]), count)
    size, method = int(config["image_size"]), config["resize_filter"]
    try:
        images = np.stack([resize(read_image(path), size, method) for path in run_files(RunFolder.of(run), root, rows["image"])])
    except UsageError as error:
        raise UsageError(f"the run's {split} images: {error}; give their folder with --data-dir, or --guard-images 0") from None
    return images, rows["label"].map({name: k for k, name in enumerate(config["classes"])}).to_numpy(dtype=int)


def _evenly(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """At most `count` rows: small classes whole, the others at equal numbers, each spread over its rows."""
    sizes, left, kept = rows["label"].value_counts(ascending=True), count, []
    for place, (label, size) in enumerate(sizes.items()):
        take = min(int(size), left // (len(sizes) - place))
        left -= take
        members = rows[rows["label"] == label]
        kept.append(members.iloc[np.unique(np.linspace(0, size - 1, take).round().astype(int))] if take else members.iloc[:0])
    return pd.concat(kept).sort_values(["label", "image"])
