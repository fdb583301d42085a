"""External validation in numbers: joined classes and the two-sample test."""

import numpy as np
import pytest

from common.metrics.external import joined_probabilities, two_sample_test


def test_joined_classes_have_the_sum_of_their_parts() -> None:
    rows = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    sums, names = joined_probabilities(rows, ("a", "b", "c"), {"a": "normal", "b": "normal"})
    assert names == ("c", "normal") and sums == pytest.approx(np.array([[0.5, 0.5], [0.1, 0.9]]))
    same, names = joined_probabilities(rows, ("a", "b", "c"), {})
    assert names == ("a", "b", "c") and np.array_equal(same, rows)


def test_the_two_sample_test_tells_a_shift_from_none() -> None:
    rng = np.random.default_rng(0)
    same = two_sample_test(rng.normal(size=(200, 10)), rng.normal(size=(300, 10)))
    assert abs(same[0] - 0.5) < 0.1 and same[1] > 0.05
    moved = two_sample_test(rng.normal(size=(200, 10)), rng.normal(size=(300, 10)) + 1)
    assert moved[0] > 0.8 and moved[1] < 1e-6
    with pytest.raises(ValueError, match="at least 4 rows"):
        two_sample_test(np.zeros((3, 2)), np.zeros((9, 2)))
