"""Risk against coverage, by hand."""

import numpy as np
import pytest

from common.metrics.selective import aurc, excess_aurc, risk_coverage


def test_four_images_by_hand() -> None:
    coverage, risk = risk_coverage(np.array([0.9, 0.6, 0.8, 0.7]), np.array([True, False, False, True]))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])  # in the order 0.9 right, 0.8 wrong, 0.7 right, 0.6 wrong
    assert aurc(np.array([0.9, 0.6, 0.8, 0.7]), np.array([True, False, False, True])) == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_the_best_order_has_no_excess() -> None:
    correct = np.array([True, True, False, True, False])
    assert excess_aurc(correct.astype(float), correct) == pytest.approx(0)
    assert aurc(correct.astype(float), correct) == pytest.approx((1 / 4 + 2 / 5) / 5)
    assert excess_aurc(-correct.astype(float), correct) > 0


def test_equally_sure_images_have_no_order() -> None:
    correct = np.array([True, False, True, False])
    _, risk = risk_coverage(np.full(4, 0.5), correct)
    assert risk == pytest.approx([0.5] * 4)
    assert aurc(np.full(4, 0.5), correct[::-1]) == pytest.approx(aurc(np.full(4, 0.5), correct))


def test_no_image_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        risk_coverage(np.zeros(0), np.zeros(0, bool))
