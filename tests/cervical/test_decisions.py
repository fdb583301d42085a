"""The decision table scores the same models twice, image by image."""

import numpy as np
import pandas as pd
import pytest

from cervical.decisions import compared, decision_rows
from cervical.experiments.base import CLASSES, KINDS
from common.report.tables import write_table
from common.runs.finished import FoundRun

# What a disease called normal costs, and everything else.
COSTS = np.ones((5, 5)) - np.eye(5)
COSTS[:2, 3:] = 10


def test_rows_hold_what_the_decisions_come_to(finished, tmp_path):
    run = FoundRun.of(finished.finetune)
    rows = decision_rows([run], COSTS, KINDS, "MobileNetV2 0.35", "plain, ")
    assert [row.name for row in rows] == ["plain, argmax", "plain, minimum-cost"]
    names = ["accuracy", "expected_cost", "abnormal sensitivity", "abnormal specificity"]
    write_table(tmp_path, "Decisions", rows, metrics=names, compared=compared(KINDS))
    table = pd.read_csv(tmp_path / "table.csv")
    own = table[table["kind"] == "row"].set_index(["method", "metric"])["ours"]
    predictions, classes = run.predictions()
    assert classes == CLASSES and own["plain, argmax", "accuracy"] == pytest.approx(run.metrics()["accuracy"])
    ill = predictions[predictions["label"].isin(KINDS["abnormal"])]
    assert own["plain, argmax", "abnormal sensitivity"] == pytest.approx(ill["predicted"].isin(KINDS["abnormal"]).mean())
    truth, called = (predictions[name].map(classes.index) for name in ("label", "predicted"))
    assert own["plain, argmax", "expected_cost"] == pytest.approx(COSTS[truth, called].mean())
    probabilities = predictions[[f"prob_{name}" for name in classes]].to_numpy()
    best = (probabilities @ COSTS).argmin(axis=1)
    assert own["plain, minimum-cost", "expected_cost"] == pytest.approx(COSTS[truth, best].mean())
