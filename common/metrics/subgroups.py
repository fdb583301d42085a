"""For whom is a classifier worse? Its metrics in parts of the test images, and the largest gap between two parts with a corrected test.

Test groups (lesions, patients) are drawn once for all parts together, so a group that lies in several parts moves them together.
"""

from __future__ import annotations

from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from common.metrics.classification import auc, confusions_by_group
from common.metrics.statistics import group_counts, holm, percentile_interval

# Parts of fewer images are marked: their intervals are wide and what is seen may be chance.
SMALL = 30
UNKNOWN = "unknown"
METRICS = ("accuracy", "balanced_accuracy", "auc")


def parts_of(column: pd.Series) -> pd.Series:
    """The part each image is in, as text: a column of numbers with more than ten values in quartiles, any other by its values.

    Missing and empty values are "unknown".
    """
    text = column.astype("string").str.strip()
    missing = text.isna() | text.eq("") | text.str.lower().isin(["nan", "none", "na", UNKNOWN])
    numbers = pd.to_numeric(text.mask(missing), errors="coerce")
    if numbers[~missing].notna().all() and numbers.nunique() > 10:
        edges = np.unique(np.quantile(numbers[~missing], [0, 0.25, 0.5, 0.75, 1]))
        place = np.clip(np.searchsorted(edges, numbers.to_numpy(), side="left") - 1, 0, len(edges) - 2)
        # Edges belong to the part below them, but for the very lowest value.
        names = [f"{'[' if i == 0 else '('}{edges[i]:g}, {edges[i + 1]:g}]" for i in range(len(edges) - 1)]
        text = pd.Series([names[i] for i in place], index=column.index, dtype="string")
    return text.mask(missing, UNKNOWN).astype(str)


def _averages(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy and balanced accuracy (mean recall of the classes present) of confusion matrices `(…, K, K)`; NaN without images."""
    support = matrices.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.where(support > 0, np.diagonal(matrices, axis1=-2, axis2=-1) / support, np.nan)
        accuracy = np.trace(matrices, axis1=-2, axis2=-1) / support.sum(axis=-1)
        there = (support > 0).sum(axis=-1)
        balanced = np.where(there > 0, np.nansum(recall, axis=-1) / there, np.nan)
    return {"accuracy": accuracy, "balanced_accuracy": balanced}


def _macro_auc(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean one-against-rest AUC over the classes that have images and lack some; NaN where there are none."""
    areas = [auc(truth == number, probabilities[:, number]) for number in range(probabilities.shape[1])]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else float("nan")


def subgroup_metrics(
    truth: np.ndarray,
    probabilities: np.ndarray,
    parts: np.ndarray,
    classes: tuple[str, ...],
    groups: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the parts, and the gaps between every two of them.

    truth `(n,)` class numbers; probabilities `(n, K)`; parts `(n,)` names; groups `(n,)` names or None (each image by itself).
    A part's row: part, n, small, and per metric (accuracy, balanced_accuracy, auc: macro, one against rest) value, `_low`, `_high`, and
    `sensitivity_<class>` with `_low`, `_high`. A gap's row: metric, part, other, difference (part − other, the larger minus the smaller),
    low, high, p (normal, from the bootstrap's deviation) and p_holm over all gaps of the table; small parts and "unknown" are in no gap.
    """
    truth, parts = np.asarray(truth), np.asarray(parts)
    called = probabilities.argmax(axis=1)
    names, numbers = np.unique(np.arange(len(truth)) if groups is None else np.asarray(groups).astype(str), return_inverse=True)
    draws = group_counts(len(names), resamples, seed)
    rows, values, drawn = [], {}, {}
    for part in sorted(set(parts)):
        inside = parts == part
        present, own = np.unique(numbers[inside], return_inverse=True)
        matrices = confusions_by_group(truth[inside], called[inside], own, len(classes))
        resampled = (draws[:, present] @ matrices.reshape(len(present), -1)).reshape(resamples, len(classes), len(classes))
        found, spread = _averages(matrices.sum(axis=0)), _averages(resampled)
        value = {name: float(found[name]) for name in found} | {"auc": _macro_auc(truth[inside], probabilities[inside])}
        spread["auc"] = _resampled_auc(truth[inside], probabilities[inside], own, draws[:200, present])
        row: dict[str, Any] = {"part": part, "n": int(inside.sum()), "small": bool(inside.sum() < SMALL)}
        for name in METRICS:
            low, high = _interval(spread[name])
            row |= {name: value[name], f"{name}_low": low, f"{name}_high": high}
        for number, label in enumerate(classes):
            support = resampled[:, number].sum(axis=-1)
            recall = np.divide(resampled[:, number, number], support, out=np.full(resamples, np.nan), where=support > 0)
            total = matrices[:, number].sum()
            own_value = float(matrices[:, number, number].sum() / total) if total else float("nan")
            low, high = _interval(recall)
            row |= {f"sensitivity_{label}": own_value, f"sensitivity_{label}_low": low, f"sensitivity_{label}_high": high}
        rows.append(row)
        if not row["small"] and part != UNKNOWN:
            values[part], drawn[part] = value, spread
    return rows, _gaps(values, drawn)


def _resampled_auc(truth: np.ndarray, probabilities: np.ndarray, own: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Macro AUC of each resample `(resamples,)`, from how often it holds each of the part's groups `(resamples, G)`."""
    rows = [np.repeat(np.arange(len(truth)), draw[own].astype(int)) for draw in draws]
    return np.array([_macro_auc(truth[each], probabilities[each]) if len(each) else np.nan for each in rows])


def _interval(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    return percentile_interval(known) if len(known) else (float("nan"), float("nan"))


def _gaps(values: dict[str, dict[str, float]], drawn: dict[str, dict[str, np.ndarray]]) -> list[dict[str, Any]]:
    rows = []
    for metric in METRICS:
        for first, second in combinations(values, 2):
            high, low = (first, second) if values[first][metric] >= values[second][metric] else (second, first)
            gap = values[high][metric] - values[low][metric]
            spread = drawn[high][metric] - drawn[low][metric]
            spread = spread[np.isfinite(spread)]
            if not np.isfinite(gap) or len(spread) < 2 or spread.std() == 0:
                continue
            p = 2 * (1 - NormalDist().cdf(abs(gap) / float(spread.std(ddof=1))))
            ends = percentile_interval(spread)
            rows.append({"metric": metric, "part": high, "other": low, "difference": gap, "low": ends[0], "high": ends[1], "p": p})
    corrected = holm([row["p"] for row in rows]) if rows else []
    return [{**row, "p_holm": float(p)} for row, p in zip(rows, corrected, strict=True)]
