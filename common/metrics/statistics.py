"""Uncertainty and comparison: bootstrap, McNemar, ranks over data sets, means with their deviation. NumPy, seeded."""

import math
from collections.abc import Callable, Sequence
from itertools import permutations
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

RESAMPLES = 2000
EXACT_ORDERS = 2_000_000


class Difference(NamedTuple):
    """`value` = second − first, with the interval `low`..`high` of a paired bootstrap."""

    value: float
    low: float
    high: float


class McNemar(NamedTuple):
    """`only_first`: images that only the first method got right; `p_value`: exact, two-sided."""

    n: int
    only_first: int
    only_second: int
    p_value: float


class Ranks(NamedTuple):
    """`ranks` `(methods,)`, 1 is best; two methods differ when their ranks are further apart than `critical_difference`.

    exact: whether `p_value` is Friedman's exact one. claimable: whether so many blocks could show any difference of ranks at all.
    """

    ranks: np.ndarray
    friedman: float
    p_value: float
    critical_difference: float
    exact: bool = False

    @property
    def claimable(self) -> bool:
        # Ranks of k methods are at most k - 1 apart.
        return self.critical_difference < len(self.ranks) - 1


def resample_indices(n: int, resamples: int, seed: int) -> np.ndarray:
    """`(resamples, n)` row numbers drawn with replacement; the same for the same three numbers."""
    return np.random.default_rng(seed).integers(0, n, size=(resamples, n), dtype=np.int32)


def group_numbers(groups: Sequence | np.ndarray | None) -> np.ndarray | None:
    """`(n,)` numbers 0..G−1 of the images' groups, from the groups' names `(n,)`.

    None where resampling groups has no meaning, so that images are resampled: without groups, where every image is alone in its group,
    and where all are in one (which shows nothing of how groups differ; its intervals would have no width).
    """
    if groups is None:
        return None
    names, numbers = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    return None if len(names) in (1, len(numbers)) else numbers


def group_counts(groups: int, resamples: int, seed: int) -> np.ndarray:
    """`(resamples, groups)` float64: how often each resample holds each group, as many drawn as there are, with replacement.

    The draws are those of `resample_indices`. Sums over the drawn groups' images are then one matrix product with sums by group.
    """
    cells = resample_indices(groups, resamples, seed) + groups * np.arange(resamples, dtype=np.int64)[:, None]
    return np.bincount(cells.ravel(), minlength=resamples * groups).reshape(resamples, groups).astype(np.float64)


def percentile_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """The middle `confidence` part of `values`, as (low, high)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_interval(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], float] | None = None,
    *,
    groups: Sequence | np.ndarray | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13) of `statistic` over the rows of `values`.

    values: `(n,)`, or `(n, …)` with one row an image; `statistic` takes rows of that shape, None is the mean.
    For accuracy, pass `labels == predicted`. groups: `(n,)` names of slides, lesions or patients; where two images share one, whole
    groups are drawn, as many as there are, and the statistic is that of all their images (Davison & Hinkley 1997, section 3.8; Cameron,
    Gelbach & Miller 2008, whose simulations find it too narrow with few groups, 5 to 30). Otherwise images are, see `group_numbers`.
    Raises ValueError for no rows, values that are not finite, or groups of another length.
    """
    rows = _rows(values, "bootstrap_interval")
    return percentile_interval(_resampled(rows, statistic, resamples, seed, groups), confidence)


def paired_bootstrap(
    first: np.ndarray,
    second: np.ndarray,
    statistic: Callable[[np.ndarray], float] | None = None,
    *,
    groups: Sequence | np.ndarray | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """statistic(second) − statistic(first) on the same images, each resample drawing the same images (or groups of them) for both.

    first, second: `(n, …)` rows of the same images in the same order; those and `groups` as in `bootstrap_interval`. For accuracy: two
    arrays of right/wrong.
    """
    one, two = _rows(first, "paired_bootstrap"), _rows(second, "paired_bootstrap")
    if one.shape != two.shape:
        raise ValueError(f"paired_bootstrap compares the same images: got shapes {one.shape} and {two.shape}")
    if statistic is None:
        rows = two.astype(np.float64) - one
        value, draws = float(rows.mean()), _resampled(rows, None, resamples, seed, groups)
    else:
        value = float(statistic(two)) - float(statistic(one))
        # The same seed draws the same images for both, which is what makes the bootstrap paired.
        draws = _resampled(two, statistic, resamples, seed, groups) - _resampled(one, statistic, resamples, seed, groups)
    return Difference(value, *percentile_interval(draws, confidence))


def wilson_interval(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Wilson's score interval of a share (Wilson 1927): unlike a bootstrap it keeps its width at 0 of n and n of n. None for n = 0."""
    if not 0 <= hits <= n:
        raise ValueError(f"expected 0 <= hits <= n, got {hits} of {n}")
    if not n:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre, below = (hits + z * z / 2) / (n + z * z), 1 + z * z / n
    half = z * math.sqrt(hits * (n - hits) / n**3 + z * z / (4 * n * n)) / below
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar(labels: Sequence | np.ndarray, first: Sequence | np.ndarray, second: Sequence | np.ndarray) -> McNemar:
    """Exact McNemar test of two methods on the same images (McNemar 1947; the binomial form, right for any count).

    labels, first, second: `(n,)` true and predicted classes, of one type. p = 2·P(X ≤ min(b, c)), X ~ Binomial(b + c, ½), at most 1,
    where b and c count the images that only one of the two got right; b + c = 0 gives 1.
    """
    labels, first, second = np.asarray(labels), np.asarray(first), np.asarray(second)
    if labels.ndim != 1 or not labels.shape == first.shape == second.shape or not labels.size:
        raise ValueError(f"mcnemar expects three (n,) arrays, got {labels.shape}, {first.shape} and {second.shape}")
    right_first, right_second = first == labels, second == labels
    b, c = int(np.sum(right_first & ~right_second)), int(np.sum(~right_first & right_second))
    # Whole numbers until the division, so that large counts neither overflow nor lose digits.
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1))
    return McNemar(int(labels.size), b, c, min(1.0, 2 * tail / 2 ** (b + c)))


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """P-values corrected for their number by Holm's step-down method (Holm 1979), `(n,)` in the order given."""
    p_values = _finite(p_values)
    order = np.argsort(p_values, kind="stable")
    steps = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(steps, 1.0)
    return corrected


def average_ranks(scores: np.ndarray, higher_is_better: bool = True, alpha: float = 0.05) -> Ranks:
    """Average ranks of methods over data sets, Friedman's test and Nemenyi's critical difference (Demšar 2006, section 3.2.2).

    scores: `(data sets, methods)`, at least two of each; ties share the mean rank. CD = q_α · sqrt(k(k+1) / 6N), q_α = the studentised
    range's quantile (k groups, infinite degrees of freedom) over √2. Friedman's χ² is corrected for ties; its p is exact, over all orders
    of the ranks within the data sets, where these are at most `EXACT_ORDERS`, and otherwise that of χ².
    """
    from scipy import stats

    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or min(scores.shape) < 2 or not np.isfinite(scores).all():
        raise ValueError(f"average_ranks expects finite scores (data sets, methods), at least 2 x 2, got shape {scores.shape}")
    n, k = scores.shape
    table = np.stack([ranks_with_ties(-row if higher_is_better else row) for row in scores])
    ranks = table.mean(axis=0)
    spread = np.sum((table - (k + 1) / 2) ** 2) / (n * (k - 1))
    friedman = n * np.sum((ranks - (k + 1) / 2) ** 2) / spread if spread else 0.0
    q = stats.studentized_range.ppf(1 - alpha, k, np.inf) / math.sqrt(2)
    exact = math.factorial(k) ** (n - 1) <= EXACT_ORDERS
    p = _friedman_p(table) if exact else float(stats.chi2.sf(friedman, k - 1))
    return Ranks(ranks, float(friedman), p, float(q * math.sqrt(k * (k + 1) / (6 * n))), exact)


def _friedman_p(table: np.ndarray) -> float:
    """Exact p of Friedman's test: the share of all orders of each row's ranks `(data sets, methods)` whose rank sums are as uneven."""
    # The first row may stay: only the rows' orders against each other count.
    sums = table[:1]
    for row in table[1:]:
        sums = (sums[:, None, :] + np.array(list(permutations(row)))[None]).reshape(-1, table.shape[1])
    mean = table.sum(axis=0).mean()
    uneven = ((sums - mean) ** 2).sum(axis=1)
    return float((uneven >= ((table.sum(axis=0) - mean) ** 2).sum() - 1e-9).mean())


def ranks_with_ties(values: np.ndarray) -> np.ndarray:
    """Ranks of `(n,)` values, 1 the smallest; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def mean_and_deviation(values: Sequence[float] | np.ndarray) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n − 1). One value has no deviation: None, never 0."""
    values = _finite(values)
    return float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else None


def average_deviation(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Mean and average absolute deviation Σ|x − mean| / n, the bars of the LMF paper's figures 1 and 4."""
    values = _finite(values)
    return float(values.mean()), float(np.abs(values - values.mean()).mean())


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64).ravel()
    if not array.size or not np.isfinite(array).all():
        raise ValueError("expected at least one finite value")
    return array


def _rows(values: np.ndarray, name: str) -> np.ndarray:
    rows = np.asarray(values)
    if rows.ndim == 0 or not len(rows):
        raise ValueError(f"{name} expects at least one row, got shape {rows.shape}")
    if rows.dtype.kind in "fc" and not np.isfinite(rows).all():
        raise ValueError(f"{name} expects finite values")
    return rows


def _resampled(
    rows: np.ndarray,
    statistic: Callable[[np.ndarray], float] | None,
    resamples: int,
    seed: int,
    groups: Sequence | np.ndarray | None = None,
) -> np.ndarray:
    """`(resamples,)` values of the statistic."""
    if groups is not None and len(groups) != len(rows):
        raise ValueError(f"expected a group for each of {len(rows)} rows, got {len(groups)}")
    if statistic is None and rows.ndim != 1:
        raise ValueError(f"a mean is taken over (n,) values, got shape {rows.shape}: pass a statistic")
    numbers = group_numbers(groups)
    if numbers is not None:
        return _resampled_groups(rows, statistic, resamples, seed, numbers)
    indices = resample_indices(len(rows), resamples, seed)
    if statistic is None:
        # Row by row: gathering (resamples, n) float64 at once would cost eight times the indices.
        return np.array([rows[chosen].mean() for chosen in indices], dtype=np.float64)
    return np.array([statistic(rows[chosen]) for chosen in indices], dtype=np.float64)


def _resampled_groups(
    rows: np.ndarray, statistic: Callable[[np.ndarray], float] | None, resamples: int, seed: int, numbers: np.ndarray
) -> np.ndarray:
    """`(resamples,)` values of the statistic over all rows of the drawn groups, which `numbers` `(n,)` 0..G−1 names."""
    sizes = np.bincount(numbers)
    if statistic is None:
        counts = group_counts(len(sizes), resamples, seed)
        # Resamples differ in their number of images: a mean is the sum over the drawn images by their number.
        return (counts @ np.bincount(numbers, weights=rows.astype(np.float64))) / (counts @ sizes)
    members = np.split(np.argsort(numbers, kind="stable"), np.cumsum(sizes)[:-1])
    draws = resample_indices(len(sizes), resamples, seed)
    return np.array([statistic(rows[np.concatenate([members[group] for group in chosen])]) for chosen in draws], dtype=np.float64)
