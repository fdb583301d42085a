import numpy as np
import pytest

from common.metrics.calibration import apply_temperature, calibration_bins, expected_calibration_error, fit_platt, fit_temperature


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


def test_temperature_is_found_again_and_keeps_the_order() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 3))
    truth = np.array([rng.choice(3, p=np.exp(row) / np.exp(row).sum()) for row in logits])
    sure = np.exp(3 * logits) / np.exp(3 * logits).sum(axis=1, keepdims=True)  # three times too sure
    temperature = fit_temperature(sure, truth)
    assert temperature == pytest.approx(3, abs=0.15)
    cooled = apply_temperature(sure, temperature)
    assert np.array_equal(cooled.argmax(axis=1), sure.argmax(axis=1)) and cooled.sum(axis=1) == pytest.approx(1)


def test_temperature_against_a_search_over_a_grid() -> None:
    rows, labels = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.9, 0.1]]), np.array([0, 1, 0, 0])

    def loss(temperature: float) -> float:
        powers = rows ** (1 / temperature)
        return float(-np.log((powers / powers.sum(axis=1, keepdims=True))[np.arange(4), labels]).mean())

    grid = np.linspace(0.1, 10, 20_000)
    assert fit_temperature(rows, labels) == pytest.approx(grid[np.argmin([loss(value) for value in grid])], rel=1e-2)


def test_a_model_that_is_always_right_keeps_a_finite_temperature() -> None:
    assert 0.05 <= fit_temperature(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1])) < 0.06


def test_platt_by_hand() -> None:
    """Two logits, -1 and 2, with 1 of 5 and 4 of 5 positives: the line meets both log odds, a (-1) + b = -ln 4 and 2 a + b = ln 4."""
    logits = np.repeat([-1.0, 2.0], 5)
    labels = np.array([1, 0, 0, 0, 0, 1, 1, 1, 1, 0])
    slope, offset = fit_platt(1 / (1 + np.exp(-logits)), labels)
    assert slope == pytest.approx(2 * np.log(4) / 3, abs=1e-3)
    assert offset == pytest.approx(-np.log(4) / 3, abs=1e-3)


def test_platt_where_nothing_rises() -> None:
    assert fit_platt(np.array([0.1, 0.9]), np.array([1, 1])) is None
    assert fit_platt(np.array([0.1, 0.2, 0.8, 0.9]), np.array([1, 1, 0, 1])) is None
