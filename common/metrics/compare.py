"""The one comparison of methods: a difference of the reported metric itself, with the noise of test images and of training in it.

For two methods on a block (a data set, say) d is the difference of the metric, averaged over the S seeds that both have. Its variance is

    se² = (bootstrap variance of d over test groups, the same groups drawn for all methods and seeds) + 2 · max(0, s² − w) / S

s² is the method × seed residual variance of the metric, pooled over blocks and methods, and w the part of it that test groups alone would
give (the same residuals of the bootstrap's draws). d / se is taken as t with Σ (M − 1)(S − 1) degrees of freedom, at most one less than the
test groups; p is corrected over the table by Holm. One seed gives no verdict. Tables come in, numbers go out: nothing is read or written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from common.errors import UsageError
from common.metrics.draws import Block, Cell, Key, classes_of, evaluate, measure_named, same_images
from common.metrics.metric import Metric
from common.metrics.statistics import Ranks, average_ranks, holm, percentile_interval

DRAWS = 1000
ALPHA = 0.05
Verdict = Literal["better", "worse", "not shown", "one seed"]


@dataclass(frozen=True)
class Comparison:
    """`second` against `first` on one block; differences are second − first.

    Attributes:
        seeds: those that both have; for a pair without any training, ().
        values: the metric of first and second, averaged over `seeds`.
        low, high: 95 % interval, with training noise in it from two seeds on, of the test groups alone for one.
        p, p_holm: None without a verdict. by_seed: each seed's own difference.
        units: how many images, or groups of images (`grouped`), the bootstrap draws.
    """

    block: str
    first: str
    second: str
    metric: str
    seeds: tuple[int, ...]
    values: tuple[float, float]
    difference: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    units: int
    grouped: bool
    higher_is_better: bool = True
    p: float | None = None
    p_holm: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Of `second`, at a family-wise error of 0.05."""
        if self.p_holm is None:
            return "one seed"
        if self.p_holm >= ALPHA:
            return "not shown"
        return "better" if (self.difference > 0) == self.higher_is_better else "worse"

    @property
    def signs_differ(self) -> bool:
        """Whether one seed favours the first method and another the second."""
        return min(self.by_seed) < 0 < max(self.by_seed)

    def sentence(self) -> str:
        """What may be said of the pair."""
        what, where = self.metric.replace("_", " ").replace(" f1", " F1"), f" on {self.block}" if self.block else ""
        numbers = f"difference {self.difference:+.4f}, 95 % interval {self.low:+.4f} to {self.high:+.4f}"
        if self.p_holm is not None:
            numbers += f", p {self.p_holm:.3g} after Holm, {len(self.seeds)} seeds"
        if self.verdict == "one seed":
            units = "groups" if self.grouped else "images"
            said = f"{self.second} beside {self.first} in {what}{where}: {numbers} over test {units}; one seed gives no verdict."
        elif self.verdict == "not shown":
            said = f"No difference in {what} is shown between {self.second} and {self.first}{where} ({numbers})."
        else:
            said = f"{self.second} is {self.verdict} than {self.first} in {what}{where} ({numbers})."
        if self.signs_differ:
            said += f" The seeds disagree in sign: {', '.join(f'{value:+.4f}' for value in self.by_seed)}."
        return said


@dataclass(frozen=True)
class Comparisons:
    """All comparisons of one table.

    Attributes:
        rows: in the order asked for.
        left_out: a sentence for each pair or cell that could not be compared.
        scores: the metric of each (block, method, seed).
        intervals: (block, method) -> 95 % interval over test groups of the mean over its seeds.
        training_variance: max(0, s² − w), None where no two seeds are; degrees: Σ (M − 1)(S − 1).
    """

    rows: tuple[Comparison, ...]
    left_out: tuple[str, ...]
    scores: Mapping[Key, float]
    intervals: Mapping[tuple[str, str], tuple[float, float]]
    metric: Metric
    training_variance: float | None
    degrees: int

    def frame(self) -> pd.DataFrame:
        """One row per comparison, for a CSV."""
        return pd.DataFrame([
            {
                "block": row.block, "method": row.second, "against": row.first, "metric": row.metric, "seeds": len(row.seeds),
                "method_value": row.values[1], "against_value": row.values[0], "difference": row.difference, "low": row.low,
                "high": row.high, "p": row.p, "p_holm": row.p_holm, "verdict": row.verdict,
                "by_seed": " ".join(f"{value:+.4f}" for value in row.by_seed),
            }
            for row in self.rows
        ])  # fmt: skip

    def ranks(self) -> tuple[list[str], Ranks] | None:
        """(methods, their average ranks) over the blocks in which they all have a common seed; None for fewer than two of either.

        Methods without training noise are not ranked.
        """
        methods = list(dict.fromkeys(method for _, method, seed in self.scores if seed is not None))
        lines = []
        for block in dict.fromkeys(block for block, _, _ in self.scores):
            seeds = [{seed for b, m, seed in self.scores if (b, m) == (block, method)} for method in methods]
            common = set.intersection(*seeds)
            if common:
                lines.append([np.mean([self.scores[block, method, seed] for seed in common]) for method in methods])
        if len(lines) < 2 or len(methods) < 2:
            return None
        return methods, average_ranks(np.array(lines), self.metric.higher_is_better)


def compare(
    tables: Mapping[Key, pd.DataFrame],
    metric: str | Metric = "macro_f1",
    *,
    baseline: str | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    repeated_splits: bool = False,
    resamples: int = DRAWS,
    seed: int = 0,
) -> Comparisons:
    """Compare methods block by block.

    Args:
        tables: (block, method, seed) -> predictions (`image`, `label`, `predicted`, `prob_<class>`, perhaps `group`) or scores per image
            (`image`, `score`, perhaps `group`), whose mean is then the metric. Seed None: a method without training noise, such as a fixed
            map, which stands beside every seed.
        metric: its name in metrics.json, or a `Metric`; a label for tables of scores.
        baseline: compare each method with this one; pairs: compare these (first, second); default: every two methods of a block.
        repeated_splits: seeds have test images of their own. Otherwise cells whose test images differ are left out, with a sentence.

    Raises:
        UsageError: no table; an image has two labels or groups within a block; a table misses a column.
    """
    if not tables:
        raise UsageError("nothing to compare: no finished run")
    left_out: list[str] = []
    blocks, measure = {}, None
    for name in dict.fromkeys(block for block, _, _ in tables):
        cells = {(method, number): table for (block, method, number), table in tables.items() if block == name}
        cells = same_images(name, cells, repeated_splits, left_out)
        classes = classes_of(cells.values())
        measure = metric if isinstance(metric, Metric) else measure_named(metric, classes)
        blocks[name] = evaluate(name, cells, classes, measure, resamples, seed)
    assert measure is not None
    return compare_blocks(blocks, measure, baseline, pairs, left_out)


def compare_blocks(
    blocks: Mapping[str, Block],
    measure: Metric,
    baseline: str | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    left_out: Sequence[str] = (),
) -> Comparisons:
    """`compare` from the scores and draws of each block's cells."""
    left_out = list(left_out)
    variance, degrees = training_variance(list(blocks.values()))
    rows = []
    for name, block in blocks.items():
        methods = list(dict.fromkeys(method for method, _ in block.scores))
        wanted = pairs or ([(baseline, m) for m in methods if m != baseline] if baseline else list(combinations(methods, 2)))
        for first, second in wanted:
            if first in methods and second in methods:
                row = _compared(name, block, first, second, measure, blocks, (variance, degrees))
                if row is None:
                    left_out.append(f"{second} and {first}{f' on {name}' if name else ''}: no seed that both have")
                else:
                    rows.append(row)
    scores = {(name, *cell): value for name, block in blocks.items() for cell, value in block.scores.items()}
    intervals = {
        (name, method): _interval(block, method) for name, block in blocks.items() for method in dict.fromkeys(m for m, _ in block.scores)
    }
    found = Comparisons(tuple(rows), tuple(left_out), scores, intervals, measure, variance, degrees)
    return corrected_together([found])[0]


def corrected_together(results: Sequence[Comparisons]) -> list[Comparisons]:
    """The comparisons of several metrics of one table, Holm's correction over all of them."""
    judged = [row for result in results for row in result.rows if row.p is not None]
    values = iter(holm([row.p for row in judged]) if judged else ())
    return [
        replace(result, rows=tuple(row if row.p is None else replace(row, p_holm=float(next(values))) for row in result.rows))
        for result in results
    ]


def _interval(block: Block, method: str) -> tuple[float, float]:
    drawn = np.mean([draws for (name, _), draws in block.draws.items() if name == method], axis=0)
    return percentile_interval(drawn[np.isfinite(drawn)])


def training_variance(blocks: Sequence[Block]) -> tuple[float | None, int]:
    """(max(0, s² − w), degrees of freedom): the method × seed residual variance that test groups do not explain, pooled over blocks.

    Cells that are missing are no harm: residuals are those of the additive model (method + seed) fitted to the cells there are.
    Methods without training noise (seed None) do not count. (None, 0) where no residual is left.
    """
    squares = expected = 0.0
    degrees = 0
    for block in blocks:
        cells = [cell for cell in block.scores if cell[1] is not None]
        if not cells:
            continue
        columns = [[cell[place] == value for cell in cells] for place in (0, 1) for value in dict.fromkeys(cell[place] for cell in cells)]
        design = np.array(columns, dtype=np.float64).T
        residual = np.eye(len(cells)) - design @ np.linalg.pinv(design)
        left = len(cells) - int(np.linalg.matrix_rank(design))
        draws = np.stack([block.draws[cell] for cell in cells])
        draws = draws[:, np.isfinite(draws).all(axis=0)]  # a draw of repeated splits may hold no test image of one seed
        draws = draws - draws.mean(axis=1, keepdims=True)
        scores = np.array([block.scores[cell] for cell in cells])
        squares += float(np.sum((residual @ scores) ** 2))
        expected += float(np.sum((residual @ draws) ** 2) / (draws.shape[1] - 1))
        degrees += left
    return (max(0.0, squares - expected) / degrees, degrees) if degrees else (None, 0)


def _compared(
    name: str,
    block: Block,
    first: str,
    second: str,
    metric: Metric,
    blocks: Mapping[str, Block],
    pooled: tuple[float | None, int],
) -> Comparison | None:
    """One row, without Holm's correction; None where the two have no seed in common."""
    numbers = [{number for method, number in block.scores if method == each} for each in (first, second)]
    fixed = [None in each for each in numbers]
    shared = numbers[0] & numbers[1] if not any(fixed) else set.union(*numbers)
    common = sorted(each for each in shared if each is not None)
    places: Sequence[int | None] = common or ([None] if all(fixed) else [])
    if not places:
        return None
    cells = [tuple((each, None if still else number) for each, still in zip((first, second), fixed, strict=True)) for number in places]
    own = np.array([block.scores[b] - block.scores[a] for a, b in cells])
    drawn = np.mean([block.draws[b] - block.draws[a] for a, b in cells], axis=0)
    drawn = drawn[np.isfinite(drawn)]
    values = [float(np.mean([block.scores[cell[place]] for cell in cells])) for place in (0, 1)]
    difference = float(own.mean())
    low, high = percentile_interval(drawn)
    p = None
    variance, degrees = pooled
    if any(fixed) and len(places) > 1:
        # The seeds' common effect does not cancel beside a method that has none: this pair's own residuals, over all blocks.
        variance, degrees = training_variance([_beside_fixed(each, first, second) for each in blocks.values()])
    if len(places) > 1 and variance is not None:
        from scipy import stats

        error = float(np.sqrt(drawn.var(ddof=1) + 2 * variance / len(places)))
        freedom = max(1, min(degrees, block.units - 1))
        p = float(2 * stats.t.sf(abs(difference) / error, freedom)) if error > 0 else 1.0
        half = float(stats.t.ppf(1 - ALPHA / 2, freedom)) * error
        low, high = difference - half, difference + half
    seeds = tuple(common)
    return Comparison(
        name, first, second, metric.name, seeds, (values[0], values[1]), difference, low, high,
        tuple(own.tolist()), block.units, block.grouped, metric.higher_is_better, p,
    )  # fmt: skip


def _beside_fixed(block: Block, first: str, second: str) -> Block:
    """The two methods' cells, the one without seeds repeated for each seed of the other."""
    seeds = [number for method, number in block.scores if method in (first, second) and number is not None]

    def spread(values: Mapping[Cell, object]) -> dict:
        known = {method for method, _ in values}
        return {(each, n): values[each, n if (each, n) in values else None] for each in (first, second) if each in known for n in seeds}

    return Block(spread(block.scores), spread(block.draws), block.units, block.grouped)
