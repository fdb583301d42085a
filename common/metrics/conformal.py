"""Prediction sets that hold the true class in a chosen share of cases: split conformal prediction, computed by `crepes`.

With n calibration images, a class k of a new image belongs to its set when its score is at most the ceil((n + 1) · coverage)-th smallest
calibration score (Vovk, Gammerman & Shafer 2005; Angelopoulos & Bates 2023, section 1). The promise is one on average over images drawn
like the calibration images; images that share a lesion or patient count as less than one each, so coverage is always measured as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from common.errors import UsageError

Score = Literal["lac", "aps"]
HALVES = 20


def scores(probabilities: np.ndarray, kind: Score = "lac") -> np.ndarray:
    """How strange each class would be for each image, `(n, K)` in 0..1, from class probabilities `(n, K)`.

    lac: 1 − p_k (Sadinle, Lei & Wasserman 2019), the smallest sets on average. aps: the sum of the probabilities of all other classes that
    are at least as probable as k, and half of its own (Romano, Sesia & Candès 2020, eq. 5 with its random part at its mean, so that the
    same image always gets the same set; with all of its own, every set of a model that is sure would hold every class), sets that grow
    with doubt.
    """
    rows = np.asarray(probabilities, np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(f"expected finite probabilities (n, classes), got {rows.shape}")
    if kind == "lac":
        return 1 - rows
    if kind != "aps":
        raise ValueError(f"score {kind!r}: expected 'lac' or 'aps'")
    return np.stack([np.where(rows >= own[:, None], rows, 0).sum(axis=1) - own / 2 for own in rows.T], axis=1)


def smallest_calibration(coverage: float) -> int:
    """Calibration images (of each class, when calibrated by class) that a coverage needs: fewer would put every class into every set."""
    return math.ceil(coverage / (1 - coverage) - 1e-9)


@dataclass(frozen=True)
class ConformalSets:
    """Calibrated on images that the model was not trained on.

    Attributes:
        calibration: `(n,)` scores of the calibration images' true classes.
        labels: `(n,)` their class numbers.
        classes: number of classes K.
        kind: which score.
        by_class: whether each class is calibrated on its own images ("class-conditional": the coverage then holds for each class).
    """

    calibration: np.ndarray
    labels: np.ndarray
    classes: int
    kind: Score = "lac"
    by_class: bool = False

    @classmethod
    def fit(cls, probabilities: np.ndarray, labels: np.ndarray, kind: Score = "lac", by_class: bool = False) -> ConformalSets:
        """Calibrate on probabilities `(n, K)` and class numbers `(n,)` of images the model has not seen."""
        labels = np.asarray(labels)
        found = scores(probabilities, kind)
        if labels.shape != (len(found),) or not len(labels):
            raise ValueError(f"expected one label for each of {len(found)} images, got {labels.shape}")
        return cls(found[np.arange(len(labels)), labels], labels, found.shape[1], kind, by_class)

    def predict(self, probabilities: np.ndarray, coverage: float) -> np.ndarray:
        """Sets as bool `(n, K)`; a set may be empty (no class is as usual as the calibration images' own), or hold every class.

        Raises:
            UsageError: `coverage` is not inside (0, 1), or the calibration images (of a class) are too few for it.
        """
        from crepes import ConformalClassifier

        if not 0 < coverage < 1:
            raise UsageError(f"--coverage {coverage}: expected more than 0 and less than 1")
        needed = smallest_calibration(coverage)
        have = np.bincount(self.labels, minlength=self.classes).min() if self.by_class else len(self.calibration)
        if have < needed:
            of = " of the rarest class" if self.by_class else ""
            raise UsageError(f"--coverage {coverage}: needs at least {needed} calibration images{of}, there are {have}")
        alphas = scores(probabilities, self.kind)
        if alphas.shape[1] != self.classes:
            raise ValueError(f"expected probabilities of {self.classes} classes, got {alphas.shape[1]}")
        sets = np.zeros(alphas.shape, bool)
        for number in range(self.classes):
            mine = self.calibration[self.labels == number] if self.by_class else self.calibration
            fitted = ConformalClassifier()
            fitted.fit(mine)
            # Without smoothing: the same images always get the same sets, which err on the side of too large.
            sets[:, number] = fitted.predict_set(alphas[:, [number]], confidence=coverage, smoothing=False)[:, 0].astype(bool)
        return sets


def covered(sets: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`(n,)` bool: whether each set `(n, K)` holds its true class `(n,)`."""
    return np.asarray(sets, bool)[np.arange(len(labels)), np.asarray(labels)]


def coverage_of_halves(
    probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray | None, coverage: float, kind: Score, by_class: bool, seed: int = 0
) -> np.ndarray:
    """`(HALVES,)` measured coverage where one half of the groups `(n,)` (None: of the images) calibrates and the other is tested.

    The halves are drawn anew each time. UsageError where a half is too small to calibrate on.
    """
    units = np.arange(len(labels)) if groups is None else np.unique(np.asarray(groups).astype(str), return_inverse=True)[1]
    rng, found = np.random.default_rng(seed), []
    for _ in range(HALVES):
        first = (rng.permutation(units.max() + 1) < (units.max() + 1) // 2)[units]
        sets = ConformalSets.fit(probabilities[first], labels[first], kind, by_class).predict(probabilities[~first], coverage)
        found.append(covered(sets, labels[~first]).mean())
    return np.array(found)
