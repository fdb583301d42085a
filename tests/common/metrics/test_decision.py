"""Decisions by cost against values by hand; intervals that keep groups and seeds together."""

import numpy as np
import pandas as pd
import pytest

from common.metrics.decision import ARGMAX, MINIMUM_COST, decision_metrics, decisions

CLASSES = ("normal", "ill")
# Calling an ill cell normal costs 10, the other mistake 1: ill is decided from a probability of 1/11 on.
COSTS = np.array([[0.0, 1.0], [10.0, 0.0]])


def rows(*ill: float) -> np.ndarray:
    return np.array([[1 - p, p] for p in ill])


def table(labels: list[int], ill: tuple[float, ...], groups: list[str] | None = None) -> pd.DataFrame:
    found = pd.DataFrame({"image": [f"{i:03d}" for i in range(len(labels))], "label": [CLASSES[each] for each in labels]})
    found = found.assign(prob_normal=[1 - p for p in ill], prob_ill=ill)
    return found if groups is None else found.assign(group=groups)


def test_the_threshold_is_the_one_of_the_costs():
    found = decisions(rows(0.05, 0.09, 0.1, 0.6), COSTS)
    assert found[ARGMAX].tolist() == [0, 0, 0, 1] and found[MINIMUM_COST].tolist() == [0, 0, 1, 1]
    assert set(decisions(rows(0.5), None)) == {ARGMAX}


def test_costs_accuracy_and_kinds_by_hand():
    kinds = {"healthy": ("normal",), "abnormal": ("ill",)}
    found = decision_metrics([table([0, 0, 1, 1], (0.05, 0.2, 0.3, 0.9))], CLASSES, cost_matrix=COSTS, kinds=kinds)
    plain, cheap = (found["rules"][rule] for rule in (ARGMAX, MINIMUM_COST))
    assert plain["accuracy"]["value"] == 0.75 and plain["expected_cost"]["value"] == 2.5  # the third cell is missed
    assert cheap["accuracy"]["value"] == 0.75 and cheap["expected_cost"]["value"] == 0.25  # the second is called ill
    assert found["difference"]["expected_cost"]["value"] == -2.25 and found["difference"]["accuracy"]["value"] == 0.0
    assert plain["kinds"]["abnormal"]["sensitivity"]["value"] == 0.5 and plain["kinds"]["abnormal"]["specificity"]["value"] == 1.0
    assert cheap["kinds"]["abnormal"]["sensitivity"]["value"] == 1.0 and cheap["kinds"]["abnormal"]["specificity"]["value"] == 0.5
    assert cheap["kinds"]["healthy"]["sensitivity"]["value"] == 0.5 and found["images_of_kind"] == {"healthy": 2, "abnormal": 2}


def test_seeds_are_averaged_and_a_missing_kind_has_no_number():
    found = decision_metrics([table([0, 0], (0.1, 0.1)), table([0, 0], (0.1, 0.9))], CLASSES, kinds={"abnormal": ("ill",)})
    assert found["rules"][ARGMAX]["accuracy"]["value"] == 0.75 and found["seeds"] == 2
    assert found["rules"][ARGMAX]["kinds"]["abnormal"]["sensitivity"] == {"value": None, "interval": None}
    assert found["rules"][ARGMAX]["kinds"]["abnormal"]["specificity"]["value"] == 0.75
    assert "difference" not in found and "expected_cost" not in found["rules"][ARGMAX]


def test_groups_are_drawn_whole():
    ill = (0.1,) * 50 + (0.9,) * 50  # the second half is called ill and is not
    groups = [name for name in "abcd" for _ in range(25)]
    alone, grouped = (
        decision_metrics([table([0] * 100, ill, each)], CLASSES)["rules"][ARGMAX]["accuracy"]["interval"] for each in (None, groups)
    )
    # By hand: a share of 100 independent images, and the mean of four draws of 1, 1, 0, 0.
    assert alone[1] - alone[0] == pytest.approx(2 * 1.96 * 0.05, rel=0.15) and grouped == [0.0, 1.0]
