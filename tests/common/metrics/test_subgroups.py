"""Metrics of subgroups against scikit-learn's, and gaps that are there or not."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score, roc_auc_score

from common.metrics.subgroups import UNKNOWN, parts_of, subgroup_metrics

CLASSES = ("a", "b", "c")


def drawn(n: int, skill: np.ndarray | float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    logits = rng.normal(size=(n, 3))
    logits[np.arange(n), truth] += skill
    return truth, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def table(truth: np.ndarray, probabilities: np.ndarray, groups: np.ndarray | None = None) -> pd.DataFrame:
    names = np.array(CLASSES)
    rows = pd.DataFrame(
        {"image": [f"{i:04d}" for i in range(len(truth))], "label": names[truth], "predicted": names[probabilities.argmax(axis=1)]}
    )
    rows = rows.assign(**{f"prob_{name}": probabilities[:, number] for number, name in enumerate(CLASSES)})
    return rows if groups is None else rows.assign(group=groups.astype(str))


def test_values_are_scikit_learns_on_each_part() -> None:
    truth, probabilities = drawn(300, 1.0)
    parts = np.array(["x", "y", "z"])[np.random.default_rng(1).integers(0, 3, 300)]
    rows, _ = subgroup_metrics(table(truth, probabilities), parts, CLASSES, resamples=50)
    for row in rows:
        own = parts == row["part"]
        called = probabilities[own].argmax(axis=1)
        assert row["n"] == own.sum()
        assert row["accuracy"] == pytest.approx(accuracy_score(truth[own], called))
        assert row["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth[own], called))
        assert row["auc"] == pytest.approx(roc_auc_score(truth[own], probabilities[own], multi_class="ovr", average="macro"))
        recalls = recall_score(truth[own], called, average=None, labels=[0, 1, 2])
        assert [row[f"sensitivity_{name}"] for name in CLASSES] == pytest.approx(list(recalls))
        assert row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"]


def test_a_gap_that_is_there_is_shown_and_chance_is_not() -> None:
    parts = np.repeat(["x", "y"], 300)
    truth, probabilities = drawn(600, np.where(parts == "x", 3.0, 0.3)[:, None].ravel())
    _, gaps = subgroup_metrics(table(truth, probabilities), parts, CLASSES)
    accuracy = next(gap for gap in gaps if gap["metric"] == "accuracy")
    assert (accuracy["part"], accuracy["other"]) == ("x", "y") and accuracy["p_holm"] < 0.001 and accuracy["low"] > 0
    false = sum(
        min(
            gap["p_holm"]
            for gap in subgroup_metrics(table(*drawn(300, 1.0, seed)), np.repeat(["x", "y", "z"], 100), CLASSES, resamples=200)[1]
        )
        < 0.05
        for seed in range(40)
    )
    assert false <= 6  # 40 tables without a gap: about two fall below 5 %


def test_groups_that_hold_images_together_widen_the_intervals() -> None:
    truth, probabilities = drawn(60, 1.0)
    truth, probabilities = np.repeat(truth, 10), np.repeat(probabilities, 10, axis=0)
    parts, groups = np.full(600, "x"), np.repeat(np.arange(60), 10)
    alone = subgroup_metrics(table(truth, probabilities), parts, CLASSES)[0][0]
    together = subgroup_metrics(table(truth, probabilities, groups), parts, CLASSES)[0][0]
    assert together["accuracy"] == alone["accuracy"]
    width = [row["accuracy_high"] - row["accuracy_low"] for row in (alone, together)]
    assert width[1] / width[0] == pytest.approx(np.sqrt(10), rel=0.2)


def test_small_and_unknown_parts_are_in_no_gap() -> None:
    truth, probabilities = drawn(130, 1.0)
    parts = np.array(["big"] * 60 + ["few"] * 10 + [UNKNOWN] * 60)
    rows, gaps = subgroup_metrics(table(truth, probabilities), parts, CLASSES, resamples=50)
    assert {row["part"]: row["small"] for row in rows} == {"big": False, "few": True, UNKNOWN: False} and gaps == []


def test_numbers_become_quartiles_and_words_stay() -> None:
    parts = parts_of(pd.Series([str(value) for value in range(100)] + ["", "unknown"]))
    assert parts[:100].value_counts().tolist() == [25, 25, 25, 25] and set(parts[100:]) == {UNKNOWN}
    assert parts[0] == "[0, 24.75]" and parts[99] == "(74.25, 99]"
    assert parts_of(pd.Series(["m", "f", None, " f "])).tolist() == ["m", "f", UNKNOWN, "f"]
    assert parts_of(pd.Series(["1", "2", "1"])).tolist() == ["1", "2", "1"], "a few numbers are names"
