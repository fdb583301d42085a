"""Conformal sets against sets made by hand, and their promise on exchangeable data."""

import math

import numpy as np
import pytest

from common.errors import UsageError
from common.metrics.conformal import ConformalSets, coverage_of_halves, covered, scores, smallest_calibration


def test_scores_by_hand() -> None:
    rows = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    assert scores(rows, "lac") == pytest.approx(np.array([[0.5, 0.7, 0.8], [0.9, 0.2, 0.9]]))
    # Cumulated from the most probable class down, half of the own; the two classes of 0.1 count each other.
    assert scores(rows, "aps") == pytest.approx(np.array([[0.25, 0.65, 0.9], [0.95, 0.4, 0.95]]))


def test_aps_sets_of_a_model_that_is_sure_are_small() -> None:
    """With all of the own probability every score of the right class would be 1, and every set would hold every class."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 5, 400)
    rows = np.full((400, 5), 1e-7)
    called = np.where(rng.random(400) < 0.93, labels, (labels + 1) % 5)
    rows[np.arange(400), called] = 1 - 4e-7
    sets = ConformalSets.fit(rows, labels, "aps").predict(rows, 0.9)
    assert sets.sum(axis=1).mean() < 1.5 and covered(sets, labels).mean() > 0.9


@pytest.mark.parametrize("kind", ["lac", "aps"])
def test_sets_are_those_of_the_quantile_worked_out_by_hand(kind: str) -> None:
    rng = np.random.default_rng(1)
    rows, labels = rng.dirichlet(np.ones(4), 57), rng.integers(0, 4, 57)
    new = rng.dirichlet(np.ones(4), 30)
    sets = ConformalSets.fit(rows, labels, kind).predict(new, 0.8)  # type: ignore[arg-type]
    mine = scores(rows, kind)[np.arange(57), labels]  # type: ignore[arg-type]
    limit = np.sort(mine)[math.ceil(58 * 0.8) - 1]
    assert np.array_equal(sets, scores(new, kind) <= limit)  # type: ignore[arg-type]


def test_by_class_each_class_has_a_limit_of_its_own() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], [40, 60])
    rows = np.stack([rng.beta(5, 2, 100), np.zeros(100)], axis=1)
    rows[labels == 1, 0] = rng.beta(2, 2, 60)
    rows[:, 1] = 1 - rows[:, 0]
    new = rows[::7]
    sets = ConformalSets.fit(rows, labels, by_class=True).predict(new, 0.9)
    for number, count in ((0, 40), (1, 60)):
        limit = np.sort(1 - rows[labels == number, number])[math.ceil((count + 1) * 0.9) - 1]
        assert np.array_equal(sets[:, number], 1 - new[:, number] <= limit)


@pytest.mark.parametrize("kind", ["lac", "aps"])
@pytest.mark.parametrize("by_class", [False, True])
def test_mean_coverage_over_grouped_halves_is_the_nominal_one(kind: str, by_class: bool) -> None:
    """Lesions of one to six images that share their class and most of their look."""
    rng = np.random.default_rng(4)
    sizes = rng.integers(1, 7, 1200)
    groups = np.repeat(np.arange(1200), sizes)
    truth = rng.integers(0, 4, 1200)[groups]
    logits = (rng.normal(size=(1200, 4)))[groups] + 0.3 * rng.normal(size=(len(groups), 4))
    logits[np.arange(len(groups)), truth] += 1.5
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for coverage in (0.8, 0.9):
        found = coverage_of_halves(rows, truth, groups, coverage, kind, by_class)
        assert len(found) == 20 and abs(found.mean() - coverage) < 0.02
    alone = coverage_of_halves(rows, truth, None, 0.9, kind, by_class)
    assert alone.std() < found.std(), "images of one lesion say less than independent ones"


def test_too_few_calibration_images_are_told_with_the_number_needed() -> None:
    assert (smallest_calibration(0.9), smallest_calibration(0.95)) == (9, 19)
    rows, labels = np.full((18, 2), 0.5), np.arange(18) % 2
    with pytest.raises(UsageError, match=r"--coverage 0.95: needs at least 19 calibration images, there are 18"):
        ConformalSets.fit(rows, labels).predict(rows, 0.95)
    with pytest.raises(UsageError, match="needs at least 19 calibration images of the rarest class, there are 9"):
        ConformalSets.fit(rows, labels, by_class=True).predict(rows, 0.95)


@pytest.mark.parametrize("coverage", [0.0, 1.0, -1, 2, math.nan])
def test_coverage_lies_between_0_and_1(coverage: float) -> None:
    sets = ConformalSets.fit(np.full((30, 2), 0.5), np.arange(30) % 2)
    with pytest.raises(UsageError, match="--coverage"):
        sets.predict(np.full((2, 2), 0.5), coverage)


def test_wrong_shapes_are_errors() -> None:
    with pytest.raises(ValueError, match="one label"):
        ConformalSets.fit(np.full((3, 2), 0.5), np.array([0]))
    with pytest.raises(ValueError, match="2 classes, got 3"):
        ConformalSets.fit(np.full((30, 2), 0.5), np.arange(30) % 2).predict(np.full((2, 3), 1 / 3), 0.9)
    with pytest.raises(ValueError, match="finite"):
        scores(np.array([[math.nan, 1.0]]))
