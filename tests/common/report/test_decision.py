"""Files of costs and kinds, and the section that a run's report gets from them."""

import json

import numpy as np
import pandas as pd
import pytest

from common.errors import UsageError
from common.report.decision import cost_matrix, decision_of, decision_text, read_costs, read_kinds, write_decision
from common.runs.folder import Run
from common.runs.outcome import write_metrics, write_predictions
from common.runs.reading import RunFolder

CLASSES = ("a", "b")


def run_of(folder, probabilities, groups=None):
    run = Run.open("cervical", "finetune", {"seed": 0, "classes": CLASSES}, run_dir=folder)
    manifest = pd.DataFrame({"image": [f"{i}.png" for i in range(4)], "label": ["a", "a", "b", "b"]})
    write_predictions(run, manifest.assign(group=groups) if groups else manifest, np.array(probabilities), CLASSES)
    write_metrics(run, 0, extra={"validation_accuracy": 0.5})
    run.release()
    return RunFolder(run.path)


ROWS = [[0.95, 0.05], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9]]


def test_report_section_from_files_and_again_without_them(tmp_path):
    folder = run_of(tmp_path / "run", ROWS)
    (tmp_path / "costs.csv").write_text("truth,a,b\na,0,1\nb,10,0\n")
    (tmp_path / "kinds.json").write_text(json.dumps({"a": "normal", "b": "abnormal"}))
    write_decision(folder, tmp_path / "costs.csv", tmp_path / "kinds.json")
    metrics = folder.read_json("metrics.json")
    assert metrics["decision"]["difference"]["expected_cost"]["value"] == -2.25 and metrics["validation_accuracy"] == 0.5
    text = decision_text(metrics["decision"])
    assert "| minimum-cost | 0.7500" in text and "| abnormal (b; 2 images) | argmax | 0.5000" in text
    (tmp_path / "costs.csv").unlink()
    write_decision(folder)
    assert folder.read_json("metrics.json")["decision"] == metrics["decision"]


def test_nothing_asked_for_writes_nothing(tmp_path):
    folder = run_of(tmp_path / "run", ROWS)
    write_decision(folder)
    assert "decision" not in folder.read_json("metrics.json")


def test_seeds_must_share_their_test_images(tmp_path):
    one, two = run_of(tmp_path / "1", ROWS), run_of(tmp_path / "2", ROWS[::-1])
    assert decision_of([one, two], np.array([1.0, 2.0]))["seeds"] == 2
    table = two.read_table("predictions.csv").assign(image=["x.png", "y.png", "z.png", "w.png"])
    two.write_table("predictions.csv", table)
    with pytest.raises(UsageError, match="not seeds of one method"):
        decision_of([one, two])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("truth,a,b\na,0,1\nb,-1,0\n", "0 or more"),
        ("truth,a,c\na,0,1\nc,1,0\n", "no entry for 'b'"),
        ("a,1\nb,2\nc,3\n", "c is no class here"),
        ("truth,a,b\na,1,1\nb,1,0\n", "diagonal"),
        ("a,1\nb,2\na,3\n", "a stands there twice"),
        ("truth,a,b,b\na,0,1,2\nb,1,0,0\n", "b stands there twice"),
    ],
)
def test_costs_of_other_classes_or_below_zero_are_one_line(tmp_path, text, message):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(UsageError, match=message) as raised:
        read_costs(tmp_path / "c.csv", CLASSES, "--decision-costs")
    assert "--decision-costs" in str(raised.value)


def test_a_table_that_a_spreadsheet_wrote_is_read(tmp_path):
    (tmp_path / "c.csv").write_text("class,cost\na,1\nb,2\n", encoding="utf-8-sig")
    (tmp_path / "c.json").write_text('{"a": 1, "b": 2}', encoding="utf-8-sig")
    assert all(read_costs(tmp_path / name, CLASSES).tolist() == [1, 2] for name in ("c.csv", "c.json"))


def test_kinds_name_every_class(tmp_path):
    (tmp_path / "k.csv").write_text("class,kind\nb,ill\na,well\n")
    assert read_kinds(tmp_path / "k.csv", CLASSES) == {"well": ("a",), "ill": ("b",)}
    (tmp_path / "k.csv").write_text("a,well\n")
    with pytest.raises(UsageError, match="--kinds .*no kind for b; expected every class: a, b"):
        read_kinds(tmp_path / "k.csv", CLASSES)
    (tmp_path / "k.csv").write_text("a,well\nb,ill\nc,ill\n")
    with pytest.raises(UsageError, match="c is no class here"):
        read_kinds(tmp_path / "k.csv", CLASSES)


def test_class_costs_as_a_matrix():
    assert cost_matrix(np.array([2.0, 3.0])).tolist() == [[0, 2], [3, 0]]
