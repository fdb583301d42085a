"""Scores of a block's cells (method and seed on one data set, say) and their bootstrap draws, the same test groups for every cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.errors import UsageError
from common.metrics.classification import class_indices, confusions_by_group
from common.metrics.metric import Metric, metric_named
from common.metrics.statistics import group_counts

PREFIX, GROUP, SCORE = "prob_", "group", "score"
Key = tuple[str, str, int | None]  # block, method and seed
Cell = tuple[str, int | None]  # method and seed; seed None: no training noise


class Block(NamedTuple):
    """What one block's cells give: scores, and `(resamples,)` draws of each; every draw is the same test groups for all cells."""

    scores: dict[Cell, float]
    draws: dict[Cell, np.ndarray]
    units: int
    grouped: bool


def same_images(name: str, cells: Mapping[Cell, pd.DataFrame], repeated_splits: bool, left_out: list[str]) -> dict[Cell, pd.DataFrame]:
    """The cells whose test images fit: those of the first cell, or of the first cell of their seed where splits are repeated."""
    first: dict[int | None, pd.DataFrame] = {}
    kept = {}
    for (method, number), table in cells.items():
        missing = [column for column in ("image", *(() if SCORE in table else ("label", "predicted"))) if column not in table]
        if missing:
            raise UsageError(f"{method}, seed {number}: the table lacks the column {missing[0]}")
        table = table.sort_values("image", ignore_index=True)
        own = first.setdefault(number if repeated_splits else None, table)
        columns = ["image"] if SCORE in table or SCORE in own else ["image", "label"]
        if own[columns].equals(table[columns]):
            kept[method, number] = table
        else:
            where = f" on {name}" if name else ""
            why = "another split is a table of its own" if not repeated_splits else "methods are compared on the same ones only"
            left_out.append(f"{method}, seed {number}{where}: its test images or labels are not those of the others; {why}")
    return kept


def classes_of(tables: Iterable[pd.DataFrame]) -> list[str]:
    """Classes of predictions tables, from their probability columns, or from labels and predictions where there are none."""
    found: dict[str, None] = {}
    for table in tables:
        if SCORE not in table:
            named = [column.removeprefix(PREFIX) for column in table.columns if column.startswith(PREFIX)]
            found |= dict.fromkeys(named or sorted({*table["label"], *table["predicted"]}))
    return list(found)


def measure_named(name: str, classes: Sequence[str]) -> Metric:
    """`metric_named`; without classes (tables of scores, whose mean is the metric) a label. UsageError names the known metrics."""
    if not classes:
        return Metric(name, of_confusion=lambda matrix: np.full(matrix.shape[:-2], np.nan))
    try:
        return metric_named(name, classes)
    except ValueError as error:
        raise UsageError(str(error)) from None


def evaluate(
    name: str,
    cells: Mapping[Cell, pd.DataFrame],
    classes: Sequence[str],
    metric: Metric,
    resamples: int,
    seed: int,
) -> Block:
    """The metric of each cell's table, and its values in `resamples` bootstrap draws of test groups (images where none are shared).

    Args:
        name: of the block, for messages. cells: predictions or scores per image, as `compare.compare` takes them.
        classes: K names, in the order of the metric's confusion matrices `(…, K, K)`.

    Raises:
        UsageError: the tables group images so differently that together no groups are left.
    """
    unit_of, count, grouped = _units(name, list(cells.values()))
    counts = group_counts(count, resamples, seed)
    # One more draw, that of every unit once, is the score itself.
    counts = np.vstack([counts, np.ones(count)])
    scores, draws = {}, {}
    for cell, table in cells.items():
        values = _scores(table, unit_of[table["image"]].to_numpy(), counts, classes, metric)
        scores[cell], draws[cell] = float(values[-1]), values[:-1]
    return Block(scores, draws, count, grouped)


def _units(name: str, tables: Sequence[pd.DataFrame]) -> tuple[pd.Series, int, bool]:
    """Number of each image's unit (itself, or its group) over all tables, how many units there are, and whether they are groups.

    Where tables group an image differently, what any of them puts together is one unit.
    """
    images = pd.concat([table[["image"]] for table in tables]).drop_duplicates()["image"]
    grouped = [table[["image", GROUP]].astype(str) for table in tables if GROUP in table]
    named = pd.concat(grouped).drop_duplicates() if grouped else pd.DataFrame({"image": [], GROUP: []})
    differently = bool(named["image"].duplicated().any())
    if differently:
        named = _joined(named)
    # Resampling groups has a meaning where every image has one, some share theirs and not all share the same.
    by_group = len(named) == len(images) and 1 < named[GROUP].nunique() < len(named)
    if differently and not by_group:
        raise UsageError(f"{name or 'the runs'}: their test images are grouped differently, and together no groups are left")
    units = named.set_index("image")[GROUP] if by_group else pd.Series(images.to_numpy(), index=images.to_numpy())
    numbers, names = pd.factorize(units, sort=True)
    return pd.Series(numbers, index=units.index), len(names), by_group


def _joined(named: pd.DataFrame) -> pd.DataFrame:
    """image, group: an image once, groups that share one joined under the first of their names."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    (image, images), (group, groups) = pd.factorize(named["image"]), pd.factorize(named[GROUP], sort=True)
    links = coo_matrix((np.ones(len(named)), (group, len(groups) + image)), shape=(len(groups) + len(images),) * 2)
    part = connected_components(links, directed=False)[1]
    first = pd.Series(groups).groupby(part[: len(groups)]).first()
    return pd.DataFrame({"image": images, GROUP: first[part[len(groups) :]].to_numpy()})


def _scores(table: pd.DataFrame, units: np.ndarray, counts: np.ndarray, classes: Sequence[str], metric: Metric) -> np.ndarray:
    """`(draws,)` values of the metric, from how often each draw holds each unit, `counts` `(draws, units)`."""
    present, places = np.unique(units, return_inverse=True)
    counts = counts[:, present]
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw of a repeated split may hold no test image of one seed
        if SCORE in table:
            sums = np.bincount(places, weights=table[SCORE].to_numpy(np.float64))
            return (counts @ sums) / (counts @ np.bincount(places))
        truth, called = class_indices(table["label"], classes), class_indices(table["predicted"], classes)
        if metric.of_confusion is not None:
            matrices = confusions_by_group(truth, called, places, len(classes))
            drawn = counts @ matrices.reshape(len(present), -1)
            return metric.of_confusion(drawn.reshape(len(drawn), len(classes), len(classes)))
    columns = [PREFIX + name for name in classes]
    probabilities = table[columns].to_numpy(np.float64) if set(columns) <= set(table.columns) else None
    rows = [np.repeat(np.arange(len(table)), draw[places].astype(np.int64)) for draw in counts]
    assert metric.of_rows is not None
    return np.array([metric.of_rows(truth[r], called[r], None if probabilities is None else probabilities[r]) for r in rows])
