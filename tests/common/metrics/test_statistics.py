import math

import numpy as np
import pytest
from scipy import stats

from common.metrics.statistics import (
    average_deviation,
    average_ranks,
    bootstrap_interval,
    group_numbers,
    holm,
    mcnemar,
    mean_and_deviation,
    paired_bootstrap,
    ranks_with_ties,
    wilson_interval,
)


def test_bootstrap_interval_equals_a_loop():
    values = np.random.default_rng(0).normal(size=40)
    rng = np.random.default_rng(7)
    draws = rng.integers(0, 40, size=(500, 40), dtype=np.int32)
    means = [np.mean([values[index] for index in row]) for row in draws]
    assert bootstrap_interval(values, resamples=500, seed=7) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_bootstrap_interval_of_a_share_is_near_the_normal_one():
    right = np.zeros(800, dtype=bool)
    right[:720] = True
    low, high = bootstrap_interval(right)
    half = 1.96 * math.sqrt(0.9 * 0.1 / 800)
    assert low == pytest.approx(0.9 - half, abs=0.003)
    assert high == pytest.approx(0.9 + half, abs=0.003)


def test_bootstrap_interval_is_seeded_and_takes_any_statistic():
    values = np.random.default_rng(1).normal(size=(60, 2))

    def correlation(rows):
        return np.corrcoef(rows.T)[0, 1]

    first = bootstrap_interval(values, correlation, seed=3, resamples=200)
    assert first == bootstrap_interval(values, correlation, seed=3, resamples=200)
    assert first != bootstrap_interval(values, correlation, seed=4, resamples=200)
    assert first[0] < correlation(values) < first[1]
    wide = bootstrap_interval(values, correlation, seed=3, resamples=200, confidence=0.99)
    assert wide[0] < first[0] < first[1] < wide[1]


@pytest.mark.parametrize("values", [np.array([]), np.array([1.0, np.nan]), np.ones((3, 2))])
def test_bootstrap_interval_refuses(values):
    with pytest.raises(ValueError):
        bootstrap_interval(values)


def test_paired_bootstrap_is_narrower_than_two_separate_ones():
    rng = np.random.default_rng(0)
    first = rng.random(500) < 0.8
    second = first ^ (rng.random(500) < 0.02)
    paired = paired_bootstrap(first, second)
    one, two = bootstrap_interval(first, seed=1), bootstrap_interval(second, seed=2)
    assert paired.high - paired.low < 0.5 * ((one[1] - one[0]) + (two[1] - two[0])) / math.sqrt(2)
    assert paired.value == pytest.approx(second.mean() - first.mean())


def test_paired_bootstrap_with_a_statistic_draws_the_same_images_for_both():
    rng = np.random.default_rng(0)
    first, second = rng.random(50), rng.random(50)
    assert paired_bootstrap(first, second, np.mean) == pytest.approx(paired_bootstrap(first, second))
    assert paired_bootstrap(first, first + 0.5, np.median) == pytest.approx((0.5, 0.5, 0.5))


def test_paired_bootstrap_refuses_other_images():
    with pytest.raises(ValueError, match="same images"):
        paired_bootstrap(np.ones(3), np.ones(4))


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (3, 7), (780, 812)])
def test_wilson_interval_equals_scipy(hits, n):
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson_interval(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_interval_of_nothing():
    assert wilson_interval(0, 0) is None
    with pytest.raises(ValueError, match="3 of 2"):
        wilson_interval(3, 2)


def test_mcnemar_by_hand():
    # 9 images: both right 3, only the first 4, only the second 1, both wrong 1; p = 2 (1 + 5) / 2^5.
    labels = np.zeros(9, dtype=int)
    first = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1])
    second = np.array([0, 0, 0, 1, 1, 1, 1, 0, 1])
    result = mcnemar(labels, first, second)
    assert (result.n, result.only_first, result.only_second) == (9, 4, 1)
    assert result.p_value == pytest.approx(2 * (1 + 5) / 32)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (5, 5), (0, 8), (30, 12), (900, 1100)])
def test_mcnemar_equals_the_binomial_test(b, c):
    labels = np.array(["x"] * (b + c + 1))
    first = np.array(["x"] * b + ["y"] * c + ["x"])
    second = np.array(["y"] * b + ["x"] * c + ["x"])
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar(labels, first, second).p_value == pytest.approx(expected)


def test_mcnemar_refuses_other_lengths():
    with pytest.raises(ValueError, match=r"\(3,\), \(3,\) and \(2,\)"):
        mcnemar([0, 1, 2], [0, 1, 2], [0, 1])


def test_average_ranks_equal_scipy():
    scores = np.round(np.random.default_rng(2).random((12, 5)), 1)
    result = average_ranks(scores)
    table = np.array([stats.rankdata(-row) for row in scores])
    assert result.ranks == pytest.approx(table.mean(axis=0))
    friedman = stats.friedmanchisquare(*scores.T)
    assert (result.friedman, result.p_value) == pytest.approx((friedman.statistic, friedman.pvalue))
    assert average_ranks(-scores, higher_is_better=False).ranks == pytest.approx(result.ranks)


@pytest.mark.parametrize(("methods", "q"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_critical_difference_uses_demsars_table(methods, q):
    # q at 0.05: Demšar 2006, table 5(a).
    result = average_ranks(np.random.default_rng(0).random((14, methods)))
    assert result.critical_difference == pytest.approx(q * math.sqrt(methods * (methods + 1) / (6 * 14)), rel=1e-3)


def test_equal_methods_are_never_told_apart():
    result = average_ranks(np.ones((6, 3)))
    assert result.ranks == pytest.approx([2, 2, 2])
    assert (result.friedman, result.p_value) == (0.0, 1.0)


@pytest.mark.parametrize("scores", [np.ones((1, 3)), np.ones((3, 1)), np.ones(3), np.full((3, 3), np.nan)])
def test_average_ranks_refuse(scores):
    with pytest.raises(ValueError, match="at least 2 x 2"):
        average_ranks(scores)


def test_ranks_with_ties():
    assert ranks_with_ties(np.array([3.0, 1.0, 3.0, 2.0])) == pytest.approx([3.5, 1, 3.5, 2])


def test_holm_by_hand():
    # 0.01 x 4, 0.02 x 3, then 0.03 x 2 (kept at 0.06), 0.9 x 1.
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])


def test_means_and_deviations_by_hand():
    assert mean_and_deviation([1, 2, 3, 6]) == pytest.approx((3, math.sqrt(14 / 3)))
    assert mean_and_deviation([0.5]) == (0.5, None)
    assert average_deviation([1, 2, 3, 6]) == pytest.approx((3, 1.5))
    for function in (mean_and_deviation, average_deviation):
        with pytest.raises(ValueError):
            function([])


def test_groups_of_one_image_and_one_group_of_all_resample_images():
    rng = np.random.default_rng(0)
    first, second = rng.random(60) < 0.7, rng.random(60) < 0.8
    for groups in ([f"lesion {number}" for number in rng.permutation(60)], ["the only one"] * 60):
        assert group_numbers(groups) is None
        assert bootstrap_interval(first, groups=groups) == bootstrap_interval(first)
        assert paired_bootstrap(first, second, groups=groups) == paired_bootstrap(first, second)
        assert paired_bootstrap(first, second, np.mean, groups=groups) == paired_bootstrap(first, second, np.mean)


@pytest.mark.parametrize("statistic", [None, np.mean])
def test_group_intervals_equal_a_loop_over_drawn_groups(statistic):
    rng = np.random.default_rng(3)
    groups = rng.choice(["d", "b", "c", "a", "e", "f"], 50, p=[0.4, 0.2, 0.2, 0.1, 0.05, 0.05])
    first, second = rng.normal(size=50), rng.normal(size=50)
    names = sorted(set(groups))
    draws = np.random.default_rng(7).integers(0, len(names), size=(300, len(names)), dtype=np.int32)
    means, gaps = [], []
    for draw in draws:
        chosen = [index for number in draw for index in range(50) if groups[index] == names[number]]
        means.append(sum(first[chosen]) / len(chosen))
        gaps.append(sum(second[chosen]) / len(chosen) - means[-1])
    found = bootstrap_interval(first, statistic, groups=groups, resamples=300, seed=7)
    assert found == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    paired = paired_bootstrap(first, second, statistic, groups=groups, resamples=300, seed=7)
    assert paired == pytest.approx((np.mean(second) - np.mean(first), *np.quantile(gaps, [0.025, 0.975])))


def test_copies_of_an_image_add_no_certainty():
    right = np.random.default_rng(0).random(100) < 0.8
    groups, copies = np.repeat(np.arange(100), 9), np.repeat(right, 9)
    (low, high), (few, many) = bootstrap_interval(copies, groups=groups), bootstrap_interval(copies)
    distinct = bootstrap_interval(right, seed=1)
    assert high - low == pytest.approx(distinct[1] - distinct[0], rel=0.1)
    assert high - low > 2.5 * (many - few)  # sqrt(9) = 3


def test_a_group_is_needed_for_every_row():
    with pytest.raises(ValueError, match="each of 3 rows, got 2"):
        bootstrap_interval(np.ones(3), groups=["a", "a"])
