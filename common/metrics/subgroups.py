"""For whom is a classifier worse? Its metrics in parts of the test images, and the largest gap between two parts with a corrected test.

Test groups (lesions, patients) are drawn once for all parts together, so a group that lies in several parts moves them together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from common.metrics.draws import Block, Cell, evaluate
from common.metrics.metric import metric_named, sensitivity
from common.metrics.statistics import holm, percentile_interval

# Parts of fewer images are marked: their intervals are wide and what is seen may be chance.
SMALL = 30
UNKNOWN = "unknown"
METRICS = ("accuracy", "balanced_accuracy", "auc")
MOST_AREAS = 200


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


def subgroup_metrics(
    table: pd.DataFrame, parts: np.ndarray, classes: Sequence[str], seed: int = 0, resamples: int = 1000
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the parts, and the gaps between every two of them.

    table: predictions (`image`, `label`, `predicted`, `prob_<class>`, perhaps `group`); parts `(n,)` names.
    A part's row: part, n, small, and per metric (accuracy, balanced_accuracy, auc: macro, one against rest) value, `_low`, `_high`, and
    `sensitivity_<class>` with `_low`, `_high`. A gap's row: metric, part, other, difference (part − other, the larger minus the smaller),
    low, high, p (normal, from the bootstrap's deviation) and p_holm over all gaps of the table; small parts and "unknown" are in no gap.
    """
    sizes = dict(zip(*np.unique(np.asarray(parts), return_counts=True), strict=True))
    cells: dict[Cell, pd.DataFrame] = {(str(part), None): table[np.asarray(parts) == part] for part in sizes}
    measures = {name: metric_named(name, classes) for name in METRICS}
    measures |= {f"sensitivity_{label}": sensitivity([number]) for number, label in enumerate(classes)}
    # An area takes a sort for each class and draw.
    draws = {name: resamples if measure.of_rows is None else min(resamples, MOST_AREAS) for name, measure in measures.items()}
    blocks = {name: evaluate("", cells, classes, measure, draws[name], seed) for name, measure in measures.items()}
    rows: list[dict[str, Any]] = []
    for part, size in sizes.items():
        row: dict[str, Any] = {"part": str(part), "n": int(size), "small": bool(size < SMALL)}
        for name, block in blocks.items():
            low, high = _interval(block.draws[str(part), None])
            row |= {name: block.scores[str(part), None], f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    compared = [row["part"] for row in rows if not row["small"] and row["part"] != UNKNOWN]
    return rows, _gaps({name: blocks[name] for name in METRICS}, compared)


def _interval(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    return percentile_interval(known) if len(known) else (float("nan"), float("nan"))


def _gaps(blocks: Mapping[str, Block], parts: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for metric, block in blocks.items():
        for pair in combinations(parts, 2):
            low, high = sorted(pair, key=lambda part: block.scores[part, None])
            gap = block.scores[high, None] - block.scores[low, None]
            spread = block.draws[high, None] - block.draws[low, None]
            spread = spread[np.isfinite(spread)]
            if not np.isfinite(gap) or len(spread) < 2 or spread.std() == 0:
                continue
            p = math.erfc(abs(gap) / float(spread.std(ddof=1)) / math.sqrt(2))  # two-sided normal, also far out
            ends = percentile_interval(spread)
            rows.append({"metric": metric, "part": high, "other": low, "difference": gap, "low": ends[0], "high": ends[1], "p": p})
    corrected = holm([row["p"] for row in rows]) if rows else []
    return [{**row, "p_holm": float(p)} for row, p in zip(rows, corrected, strict=True)]
