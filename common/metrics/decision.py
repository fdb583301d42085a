"""What decisions cost and miss: the largest probability against the least expected cost, and sensitivity by kinds of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.metrics.classification import minimum_cost_decision
from common.metrics.statistics import RESAMPLES, group_counts, group_numbers, percentile_interval

ARGMAX, MINIMUM_COST = "argmax", "minimum-cost"


class Draws:
    """One bootstrap over test images or their groups, the same draws for every number made from it.

    Args:
        count: number of images. groups: `(n,)` names; where images share one, whole groups are drawn.
    """

    def __init__(self, count: int, groups: Sequence | np.ndarray | None, seed: int = 0, resamples: int = RESAMPLES) -> None:
        numbers = group_numbers(groups)
        self.numbers = np.arange(count) if numbers is None else numbers
        self.counts = group_counts(int(self.numbers.max()) + 1, resamples, seed)

    def share(self, part: np.ndarray, whole: np.ndarray) -> tuple[float, np.ndarray]:
        """Sum of `part` `(n,)` over sum of `whole` `(n,)`: the value and `(resamples,)` draws of it; nan where `whole` is 0."""
        above, below = (np.bincount(self.numbers, weights=np.asarray(values, float)) for values in (part, whole))
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(np.divide(above.sum(), below.sum())), (self.counts @ above) / (self.counts @ below)


def decisions(probabilities: np.ndarray, cost_matrix: np.ndarray | None) -> dict[str, np.ndarray]:
    """Rule -> `(n,)` class numbers decided from `(n, K)` probabilities; the least expected cost only with a matrix `(K, K)`."""
    found = {ARGMAX: np.asarray(probabilities).argmax(axis=1)}
    return found if cost_matrix is None else {**found, MINIMUM_COST: minimum_cost_decision(probabilities, cost_matrix)}


def decision_metrics(
    labels: np.ndarray,
    probabilities: Sequence[np.ndarray],
    classes: Sequence[str],
    *,
    cost_matrix: np.ndarray | None = None,
    kinds: Mapping[str, Sequence[str]] | None = None,
    groups: Sequence | np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Both rules on the same test images, averaged over the seeds of one method.

    Args:
        labels: `(n,)` class numbers. probabilities: one `(n, K)` for each seed. classes: K names, in the columns' order.
        cost_matrix: `(K, K)`, rows the truth, 0 on the diagonal. kinds: kind -> its classes, such as {"abnormal": (…)}.
        groups: `(n,)` names of slide images or patients.

    Returns:
        `rules`: rule -> {accuracy, expected_cost, kinds: {kind: {sensitivity, specificity}}}, `difference` (minimum cost minus argmax, of
        accuracy and expected cost), each {value, interval}; `kinds`, `cost_matrix`, `seeds`, `images`. Intervals: 95 %, one bootstrap over
        test groups for all seeds together; None where a kind has no image.
    """
    labels, draws = np.asarray(labels), Draws(len(labels), groups, seed)
    members = {kind: np.isin(labels, [list(classes).index(name) for name in names]) for kind, names in (kinds or {}).items()}
    drawn: dict[str, dict[str, tuple[float, np.ndarray]]] = {}
    shares: dict[str, dict[str, Any]] = {}
    rules = [ARGMAX] + ([MINIMUM_COST] if cost_matrix is not None else [])
    ones = np.ones(len(labels))
    for rule in rules:
        called = [decisions(each, cost_matrix)[rule] for each in probabilities]
        found = {"accuracy": _mean([draws.share(each == labels, ones) for each in called])}
        if cost_matrix is not None:
            found["expected_cost"] = _mean([draws.share(np.asarray(cost_matrix)[labels, each], ones) for each in called])
        drawn[rule] = found
        shares[rule] = {name: _told(*value) for name, value in found.items()} | {"kinds": {}}
        for kind, inside in members.items():
            numbers = [list(classes).index(name) for name in (kinds or {})[kind]]
            into = [np.isin(each, numbers) for each in called]
            shares[rule]["kinds"][kind] = {
                "sensitivity": _told(*_mean([draws.share(inside & each, inside) for each in into])),
                "specificity": _told(*_mean([draws.share(~inside & ~each, ~inside) for each in into])),
            }
    result: dict[str, Any] = {"rules": shares, "images": len(labels), "seeds": len(probabilities)}
    if cost_matrix is not None:
        names = ("accuracy", "expected_cost")
        pairs = {name: (drawn[MINIMUM_COST][name], drawn[ARGMAX][name]) for name in names}
        result["difference"] = {name: _told(two[0] - one[0], two[1] - one[1]) for name, (two, one) in pairs.items()}
        result["cost_matrix"] = np.asarray(cost_matrix, float).tolist()
    if kinds:
        result["kinds"] = {kind: list(names) for kind, names in kinds.items()}
        result["images_of_kind"] = {kind: int(inside.sum()) for kind, inside in members.items()}
    return result


def _mean(each: Sequence[tuple[float, np.ndarray]]) -> tuple[float, np.ndarray]:
    return float(np.mean([value for value, _ in each])), np.mean([draws for _, draws in each], axis=0)


def _told(value: float, draws: np.ndarray) -> dict[str, Any]:
    if not np.isfinite(value):
        return {"value": None, "interval": None}
    return {"value": float(value), "interval": list(percentile_interval(draws[np.isfinite(draws)]))}
