"""Costs from the training set, from the paper, and from a user's file."""

import json

import numpy as np
import pytest

from cervical.experiments.base import CLASSES
from cervical.training.costs import balanced_costs, read_costs
from common.errors import UsageError
from common.report.decision import cost_matrix

TRAIN = (520, 528, 507, 503, 531)  # facts 1.1


def test_balanced_costs_of_the_training_set():
    # facts 1.5: the weights that the training set would give.
    assert read_costs("balanced", CLASSES, TRAIN) == pytest.approx([0.995769, 0.980682, 1.021302, 1.029423, 0.975141], abs=1e-6)
    assert balanced_costs([10, 10]).tolist() == [1.0, 1.0]


def test_printed_costs_are_for_the_papers_classes_only():
    assert read_costs("printed", CLASSES, TRAIN)[0] == 0.996319018404908
    with pytest.raises(UsageError, match="--costs printed"):
        read_costs("printed", ("a", "b"), (1, 2))


@pytest.mark.parametrize("text", ["a,1\nb,5\n", "class,cost\nb,5\na,1\n"])
def test_csv_of_class_costs(tmp_path, text):
    (tmp_path / "costs.csv").write_text(text)
    assert read_costs(str(tmp_path / "costs.csv"), ("a", "b"), (1, 1)).tolist() == [1.0, 5.0]


def test_matrix_as_csv_and_json_in_any_order(tmp_path):
    (tmp_path / "costs.csv").write_text("truth,b,a\na,1,0\nb,0,5\n")
    (tmp_path / "costs.json").write_text(json.dumps({"b": {"a": 5, "b": 0}, "a": {"a": 0, "b": 1}}))
    for name in ("costs.csv", "costs.json"):
        assert read_costs(str(tmp_path / name), ("a", "b"), (1, 1)).tolist() == [[0, 1], [5, 0]]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "a,1\n", "no entry for 'b'"),
        ("c.csv", "a,1\nb,-1\n", "0 or more"),
        ("c.csv", "a,1\nb,x\n", "not a table of costs"),
        ("c.csv", "", "empty"),
        ("c.json", "[1, 2]", "expected an object"),
        ("c.json", '{"a": {"a": 1, "b": 2}, "b": {"a": 1, "b": 0}}', "diagonal"),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message):
        read_costs(str(tmp_path / name), ("a", "b"), (1, 1))


def test_class_costs_as_a_matrix_leave_right_answers_free():
    assert cost_matrix(np.array([2.0, 3.0])).tolist() == [[0, 2], [3, 0]]
