"""Intervals of the diagnosis and of differences of two rows' diagnoses, for one run or several seeds together (percentile bootstrap)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.metrics.classification import auc, percentile_interval
from common.metrics.statistics import Difference, resample_indices
from melanoma.config import CLASSES

RESAMPLES = 1000


class Diagnosis(NamedTuple):
    """One run's diagnoses: names of the images, and `(n, 3)` float: melanoma or not, its probability (or logit), diagnosis right or not."""

    images: list[str]
    rows: np.ndarray


def diagnosis(images: Sequence[str], truth: np.ndarray, score: np.ndarray, middle: float) -> Diagnosis:
    """truth `(n,)` 0 or 1, score `(n,)`; called melanoma where it is above `middle`."""
    truth, score = np.asarray(truth) > 0.5, np.asarray(score, dtype=np.float64)
    return Diagnosis(list(images), np.stack([truth, score, (score > middle) == truth], axis=1).astype(np.float64))


def from_predictions(table: pd.DataFrame) -> Diagnosis:
    """From a run's predictions.csv."""
    truth, right = table["label"] == CLASSES[0], table["label"] == table["predicted"]
    return Diagnosis(list(table["image"]), np.stack([truth, table[f"prob_{CLASSES[0]}"], right], axis=1).astype(np.float64))


def accuracy_of(rows: np.ndarray) -> float | None:
    """Share of right diagnoses in `(n, 3)` rows; None without any."""
    return float(rows[:, 2].mean()) if len(rows) else None


def auc_of(rows: np.ndarray) -> float | None:
    """Area under the ROC curve of melanoma in `(n, 3)` rows; None where one of the two classes is missing."""
    return auc(rows[:, 0] > 0.5, rows[:, 1])


def interval(runs: Sequence[Diagnosis], statistic: Callable[[np.ndarray], float | None], seed: int = 0) -> tuple[list[float] | None, int]:
    """(95 % interval [low, high] of the mean of `statistic` over the runs, number of different images).

    A resample draws images from all that any run has; a run counts with those of them that it has. Resamples in which a statistic is
    undefined (an AUC of one class) are left out; the interval is None where that leaves fewer than half of them.
    """
    images = sorted({image for run in runs for image in run.images})
    places = [pd.Series(range(len(run.images)), index=run.images).reindex(images, fill_value=-1).to_numpy() for run in runs]
    draws = []
    for chosen in resample_indices(len(images), RESAMPLES, seed):
        found = [statistic(run.rows[place[chosen][place[chosen] >= 0]]) for run, place in zip(runs, places, strict=True)]
        defined = [value for value in found if value is not None]
        if len(defined) == len(runs):
            draws.append(np.mean(defined))
    return (list(percentile_interval(np.array(draws))) if 2 * len(draws) >= RESAMPLES else None), len(images)


def difference(
    pairs: Sequence[tuple[Diagnosis, Diagnosis]], statistic: Callable[[np.ndarray], float | None], seed: int = 0
) -> tuple[Difference | None, int]:
    """(Mean over the pairs of statistic(second) - statistic(first) with its 95 % interval, number of different images).

    pairs: the two runs of one seed each. Of a pair those images count that both have, and a resample draws the same ones for both, so what
    makes an image hard cancels, as it does not between two intervals of `interval`. None where a statistic or the interval is undefined.
    """
    joined = []
    for one, two in pairs:
        images = sorted(set(one.images) & set(two.images))
        sides = [run.rows[pd.Series(range(len(run.images)), index=run.images)[images].to_numpy()] for run in (one, two)]
        joined.append(Diagnosis(images, np.concatenate(sides, axis=1)))

    def gap(rows: np.ndarray) -> float | None:
        first, second = statistic(rows[:, :3]), statistic(rows[:, 3:])
        return None if first is None or second is None else second - first

    values = [gap(pair.rows) for pair in joined]
    if not values or None in values:
        return None, len({image for pair in joined for image in pair.images})
    between, count = interval(joined, gap, seed)
    return (None if between is None else Difference(float(np.mean(values)), *between)), count
