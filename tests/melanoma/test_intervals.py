"""Intervals of accuracy and AUC over one run and over seeds with different test images."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from melanoma import intervals


def run(seed: int, first: int = 0, n: int = 60) -> intervals.Diagnosis:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    return intervals.diagnosis([f"{first + i}.jpg" for i in range(n)], truth, rng.normal(size=n) + truth, 0.5)


def test_accuracy_and_area_of_a_run() -> None:
    found = run(0)
    truth, score, _ = found.rows.T
    assert intervals.auc_of(found.rows) == pytest.approx(roc_auc_score(truth, score))
    assert intervals.accuracy_of(found.rows) == pytest.approx(np.mean((score > 0.5) == truth))


def test_the_interval_is_a_percentile_bootstrap_over_images() -> None:
    found = run(1)
    (low, high), n = intervals.interval([found], intervals.auc_of, seed=3)
    rng = np.random.default_rng(0)
    draws = [found.rows[rng.integers(0, 60, 60)] for _ in range(400)]
    expected = np.quantile([roc_auc_score(rows[:, 0], rows[:, 1]) for rows in draws], [0.025, 0.975])
    assert n == 60
    assert (low, high) == pytest.approx(tuple(expected), abs=0.04)


def test_seeds_share_one_interval_over_all_their_images() -> None:
    one, other = run(1), run(2, first=30)
    (low, high), n = intervals.interval([one, other], intervals.accuracy_of)
    assert n == 90
    mean = np.mean([intervals.accuracy_of(each.rows) for each in (one, other)])
    assert low < mean < high
    alone, _ = intervals.interval([one], intervals.accuracy_of)
    assert high - low < alone[1] - alone[0]


def worse(found: intervals.Diagnosis, seed: int) -> intervals.Diagnosis:
    """The same images in another order, their scores blurred a little."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(found.images))
    truth, score, _ = found.rows[order].T
    return intervals.diagnosis([found.images[i] for i in order], truth, score + 0.2 * rng.normal(size=len(order)), 0.5)


def test_the_difference_of_two_runs_is_paired_by_image() -> None:
    one = run(1, n=120)
    two = worse(one, 2)
    for statistic in (intervals.auc_of, intervals.accuracy_of):
        found, n = intervals.difference([(one, two)], statistic)
        assert n == 120
        assert found.value == pytest.approx(statistic(two.rows) - statistic(one.rows))
        assert found.low <= found.value <= found.high
        # The same images on both sides: much narrower than either row's own interval.
        assert found.high - found.low < np.diff(intervals.interval([one], statistic)[0])[0]
    assert intervals.difference([(one, one)], intervals.auc_of)[0] == (0, 0, 0)


def test_the_difference_over_seeds_is_their_mean_over_all_their_images() -> None:
    pairs = [(one, worse(one, 3)) for one in (run(1), run(2, first=30))]
    found, n = intervals.difference(pairs, intervals.auc_of)
    assert n == 90
    assert found.value == pytest.approx(np.mean([intervals.auc_of(two.rows) - intervals.auc_of(one.rows) for one, two in pairs]))
    fewer = intervals.Diagnosis(pairs[0][1].images[:50], pairs[0][1].rows[:50])
    assert intervals.difference([(pairs[0][0], fewer)], intervals.accuracy_of)[1] == 50
    other = run(4, first=500)
    assert intervals.difference([(pairs[0][0], other)], intervals.accuracy_of) == (None, 0)


def test_one_class_has_no_area() -> None:
    found = intervals.diagnosis(["a", "b"], np.array([1, 1]), np.array([0.2, 0.8]), 0.5)
    assert intervals.interval([found], intervals.auc_of) == (None, 2)
    assert intervals.difference([(found, found)], intervals.auc_of) == (None, 2)
