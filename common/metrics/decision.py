"""What decisions cost and miss: the largest probability against the least expected cost, and sensitivity by kinds of classes.

The rule itself is `common.metrics.classification.minimum_cost_decision`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from common.metrics.classification import minimum_cost_decision
from common.metrics.draws import PREFIX, Cell, evaluate
from common.metrics.metric import Metric, cost_metric, metric_named, sensitivity
from common.metrics.statistics import RESAMPLES, percentile_interval

ARGMAX, MINIMUM_COST = "argmax", "minimum-cost"


def decisions(probabilities: np.ndarray, cost_matrix: np.ndarray | None) -> dict[str, np.ndarray]:
    """Rule -> `(n,)` class numbers decided from `(n, K)` probabilities; the least expected cost only with a matrix `(K, K)`."""
    found = {ARGMAX: np.asarray(probabilities).argmax(axis=1)}
    return found if cost_matrix is None else {**found, MINIMUM_COST: minimum_cost_decision(probabilities, cost_matrix)}


def decision_metrics(
    tables: Sequence[pd.DataFrame],
    classes: Sequence[str],
    *,
    cost_matrix: np.ndarray | None = None,
    kinds: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Both rules on the same test images, averaged over the seeds of one method.

    Args:
        tables: predictions (`image`, `label`, `prob_<class>`, perhaps `group`), one for each seed. classes: K names.
        cost_matrix: `(K, K)`, rows the truth, 0 on the diagonal. kinds: kind -> its classes, such as {"abnormal": (…)}.

    Returns:
        `rules`: rule -> {accuracy, expected_cost, kinds: {kind: {sensitivity, specificity}}}, `difference` (minimum cost minus argmax, of
        accuracy and expected cost), each {value, interval}; `kinds`, `cost_matrix`, `seeds`, `images`. Intervals: 95 %, one bootstrap over
        test groups for all seeds together; None where a kind has no image.
    """
    cells: dict[Cell, pd.DataFrame] = {}
    for number, table in enumerate(tables):
        called = decisions(table[[PREFIX + name for name in classes]].to_numpy(), cost_matrix)
        cells |= {(rule, number): table.assign(predicted=np.asarray(classes, object)[each]) for rule, each in called.items()}
    rules = list(dict.fromkeys(rule for rule, _ in cells))

    def measured(metric: Metric) -> dict[str, tuple[float, np.ndarray]]:
        block = evaluate("", cells, classes, metric, RESAMPLES, seed)
        seeds = range(len(tables))
        return {
            rule: (float(np.mean([block.scores[rule, n] for n in seeds])), np.mean([block.draws[rule, n] for n in seeds], axis=0))
            for rule in rules
        }

    found = {"accuracy": measured(metric_named("accuracy", classes))}
    if cost_matrix is not None:
        found["expected_cost"] = measured(cost_metric(cost_matrix))
    shares: dict[str, dict[str, Any]] = {rule: {name: _told(*each[rule]) for name, each in found.items()} | {"kinds": {}} for rule in rules}
    for kind, names in (kinds or {}).items():
        inside = [number for number, name in enumerate(classes) if name in names]
        outside = [number for number, name in enumerate(classes) if name not in names]
        for name, members in (("sensitivity", inside), ("specificity", outside)):
            for rule, each in measured(sensitivity(members)).items():
                shares[rule]["kinds"].setdefault(kind, {})[name] = _told(*each)
    result: dict[str, Any] = {"rules": shares, "images": len(tables[0]), "seeds": len(tables)}
    if cost_matrix is not None:
        pairs = {name: (each[MINIMUM_COST], each[ARGMAX]) for name, each in found.items()}
        result["difference"] = {name: _told(two[0] - one[0], two[1] - one[1]) for name, (two, one) in pairs.items()}
        result["cost_matrix"] = np.asarray(cost_matrix, float).tolist()
    if kinds:
        result["kinds"] = {kind: list(names) for kind, names in kinds.items()}
        result["images_of_kind"] = {kind: int(tables[0]["label"].isin(names).sum()) for kind, names in kinds.items()}
    return result


def _told(value: float, draws: np.ndarray) -> dict[str, Any]:
    if not np.isfinite(value):
        return {"value": None, "interval": None}
    return {"value": float(value), "interval": list(percentile_interval(draws[np.isfinite(draws)]))}
