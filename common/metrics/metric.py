"""A metric as a comparison needs it: one definition for a number in a table, for its bootstrap and for differences between methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from common.metrics.calibration import calibration_bins, expected_calibration_error
from common.metrics.classification import SCORES, auc, average_precision, averages, class_scores, cost_values

Confusions = Callable[[np.ndarray], np.ndarray]
Rows = Callable[[np.ndarray, np.ndarray, np.ndarray | None], float]
LOWER_IS_BETTER = ("ece", "expected_cost")


@dataclass(frozen=True)
class Metric:
    """One of the two functions is given.

    Attributes:
        name: as in metrics.json.
        of_confusion: confusion matrices `(…, K, K)`, rows the truth -> scores `(…)`.
        of_rows: labels `(n,)`, predicted `(n,)` (class numbers), probabilities `(n, K)` or None -> a score.
        higher_is_better: False for costs and errors.
    """

    name: str
    of_confusion: Confusions | None = None
    of_rows: Rows | None = None
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if (self.of_confusion is None) == (self.of_rows is None):
            raise ValueError(f"metric {self.name}: expected a function of confusion matrices or one of rows")


def metric_named(name: str, classes: Sequence[str]) -> Metric:
    """The metric of that name in metrics.json. ValueError names the known ones.

    Macro averages run over the classes that occur in the truth or the predictions of the images at hand (scikit-learn's), balanced
    accuracy and geometric mean over those in the truth, AUC and average precision over the classes that have images and are not all.
    """
    rows = {"auc": _mean_area(auc), "auc.macro": _mean_area(auc), "average_precision": _mean_area(average_precision), "ece": _ece}
    if name in rows:
        return Metric(name, of_rows=rows[name], higher_is_better=name not in LOWER_IS_BETTER)
    owner, _, score = name.removeprefix("per_class.").rpartition(".")
    if name.startswith("per_class.") and owner in classes and score in SCORES:
        place = list(classes).index(owner)
        return Metric(name, of_confusion=lambda matrix: class_scores(matrix)[score][..., place])
    known = list(averages(np.eye(2)))
    if name not in known:
        raise ValueError(f"metric {name}: expected one of {', '.join([*known, *rows])}, per_class.<class>.<{'|'.join(SCORES)}>")
    return Metric(name, of_confusion=lambda matrix: np.asarray(averages(matrix)[name]))


def cost_metric(cost_matrix: np.ndarray) -> Metric:
    """Mean of `cost_matrix[label, prediction]`, `(K, K)`; lower is better."""
    costs = cost_values(cost_matrix)
    return Metric(
        "expected_cost", of_confusion=lambda matrix: (matrix * costs).sum((-2, -1)) / matrix.sum((-2, -1)), higher_is_better=False
    )


def sensitivity(members: Sequence[int]) -> Metric:
    """Share of the images of these classes that are called one of them; of all other classes it is the specificity. NaN without images."""
    rows = list(members)
    return Metric("sensitivity", of_confusion=lambda m: m[..., rows, :][..., rows].sum((-2, -1)) / m[..., rows, :].sum((-2, -1)))


def _mean_area(area: Callable[[np.ndarray, np.ndarray], float | None]) -> Rows:
    def mean(labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None) -> float:
        if probabilities is None:
            raise ValueError("areas under a curve need probabilities")
        found = [area(labels == index, column) for index, column in enumerate(probabilities.T)]
        known = [value for value in found if value is not None]
        return float(np.mean(known)) if known else float("nan")

    return mean


def _ece(labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None) -> float:
    if probabilities is None:
        raise ValueError("calibration needs probabilities")
    return float(expected_calibration_error(calibration_bins(labels == predicted, probabilities[np.arange(len(labels)), predicted])))
