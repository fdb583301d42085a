"""F1 of frequent and rare classes: thirds by hand, scores beside scikit-learn's, paired differences through the one comparison."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from common.metrics.compare import compare
from common.metrics.tail import part_metric, part_scores, thirds

COUNTS = [229, 360, 769, 81, 779, 4693, 100]
CLASSES = [f"c{index}" for index in range(7)]


def test_thirds_by_hand():
    assert thirds(COUNTS) == {"head": [5, 4], "middle": [2, 1, 0], "tail": [6, 3]}
    assert thirds([3, 9]) == {"head": [1], "middle": [], "tail": [0]}
    assert thirds([5, 5, 5, 5]) == {"head": [0], "middle": [1, 2], "tail": [3]}
    with pytest.raises(ValueError, match="at least two classes"):
        thirds([4])


def test_scores_are_scikit_learns_over_the_parts_classes():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 7, 200), rng.integers(0, 7, 200)
    found = part_scores(labels, predicted, CLASSES, COUNTS)
    for part, members in thirds(COUNTS).items():
        assert found[f"{part}_f1"] == pytest.approx(f1_score(labels, predicted, labels=members, average="macro", zero_division=0))
    assert set(part_scores([0, 1], [0, 0], ["a", "b"], [5, 2])) == {"head_f1", "tail_f1"}


def test_a_class_that_does_not_occur_is_left_out():
    # Of the tail (classes 3 and 6) only 3 occurs, and it is always right.
    assert part_scores([3, 3, 5], [3, 3, 5], CLASSES, COUNTS)["tail_f1"] == 1.0
    assert part_scores([5, 5], [5, 5], CLASSES, COUNTS)["tail_f1"] == 0.0


def test_a_gain_in_the_tail_alone_is_seen_in_the_tail():
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(7), 60)
    tables = {}
    for method in ("cce", "lmf"):
        for seed in range(3):
            wrong = rng.random(len(labels)) < np.where(np.isin(labels, thirds(COUNTS)["tail"]) & (method == "lmf"), 0.02, 0.5)
            called = np.where(wrong, 5, labels)
            names = np.array(CLASSES)
            tables["", method, seed] = pd.DataFrame(
                {"image": [f"{i:03}" for i in range(len(labels))], "label": names[labels], "predicted": names[called]}
            )
    tail, middle = (compare(tables, part_metric(part, COUNTS)).rows[0] for part in ("tail", "middle"))
    assert tail.metric == "tail_f1" and tail.verdict == "better" and tail.low > 0.2
    assert middle.verdict == "not shown" and abs(middle.difference) < 0.05
