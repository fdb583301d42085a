import numpy as np
import pytest

from common.metrics.calibration import calibration_bins, expected_calibration_error


def test_ece_equals_a_loop():
    rng = np.random.default_rng(0)
    confidence, correct = rng.random(300), rng.random(300) < 0.6
    bins = calibration_bins(correct, confidence, 10)
    expected = 0.0
    for low in np.arange(10) / 10:
        inside = [index for index in range(300) if low < confidence[index] <= low + 0.1]
        if inside:
            gap = np.mean([correct[index] for index in inside]) - np.mean([confidence[index] for index in inside])
            expected += len(inside) / 300 * abs(gap)
    assert expected_calibration_error(bins) == pytest.approx(expected)
    assert sum(row["count"] for row in bins) == 300


def test_a_calibrated_and_an_overconfident_model():
    confidence = np.full(100, 0.75)
    correct = np.arange(100) < 75
    assert expected_calibration_error(calibration_bins(correct, confidence)) == pytest.approx(0.0)
    assert expected_calibration_error(calibration_bins(~correct, confidence)) == pytest.approx(0.5)


def test_edges_belong_to_the_bin_below_and_empty_bins_say_so():
    bins = calibration_bins(np.array([True, False, True]), np.array([0.0, 0.5, 1.0]), bins=4)
    assert [row["count"] for row in bins] == [1, 1, 0, 1]
    assert bins[2]["accuracy"] is None and bins[2]["confidence"] is None


@pytest.mark.parametrize("bins", [0, -1])
def test_a_number_of_bins_that_is_none(bins):
    with pytest.raises(ValueError, match="at least one bin"):
        calibration_bins(np.ones(3, dtype=bool), np.ones(3), bins)


def test_shapes_must_fit():
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        calibration_bins(np.ones(3, dtype=bool), np.ones(2))
    with pytest.raises(ValueError, match="no prediction"):
        expected_calibration_error([])
