import json

import numpy as np
import pandas as pd
import pytest

from common.errors import UsageError
from common.runs.outcome import (
    add_groups,
    probabilities_of,
    read_predictions,
    remake_metrics,
    write_metrics,
    write_predictions,
)

CLASSES = ("NA", "b")
ROWS = pd.DataFrame({"image": ["1.png", "2.png", "3.png"], "label": ["NA", "b", "b"], "split": "test"})
PROBABILITIES = np.array([[0.9, 0.1], [0.6, 0.4], [0.123456789, 0.876543211]], dtype=np.float32)


def test_predictions_are_written_as_documented(tmp_path):
    write_predictions(tmp_path, ROWS, PROBABILITIES, CLASSES)
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert lines[0] == "image,label,predicted,prob_NA,prob_b"
    assert lines[1:3] == ["1.png,NA,NA,0.9,0.1", "2.png,b,NA,0.6,0.4"]


def test_predictions_come_back(tmp_path):
    written = write_predictions(tmp_path, ROWS, PROBABILITIES, CLASSES)
    table, classes = read_predictions(tmp_path)
    assert classes == CLASSES
    assert table["label"].tolist() == ["NA", "b", "b"]
    assert table["predicted"].tolist() == ["NA", "NA", "b"]
    assert probabilities_of(table, classes) == pytest.approx(PROBABILITIES, abs=1e-7)
    assert (probabilities_of(table, classes) == probabilities_of(written, classes)).all()


def test_the_same_probabilities_give_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_predictions(tmp_path / name, ROWS, PROBABILITIES, CLASSES)
    assert (tmp_path / "first/predictions.csv").read_bytes() == (tmp_path / "second/predictions.csv").read_bytes()


@pytest.mark.parametrize(
    ("probabilities", "said"),
    [
        (PROBABILITIES[:2], r"\(3, 2\), got \(2, 2\)"),
        (PROBABILITIES * 2, "summing to 1"),
        (np.full((3, 2), np.nan), "finite"),
        (np.array([[1.5, -0.5]] * 3), "not negative"),
    ],
)
def test_what_is_no_probability_is_refused(tmp_path, probabilities, said):
    with pytest.raises(ValueError, match=said):
        write_predictions(tmp_path, ROWS, probabilities, CLASSES)
    assert not list(tmp_path.iterdir())


def test_metrics_come_from_predictions_and_config_alone(tmp_path, make_run):
    run = make_run(tmp_path / "run", synthetic=True)
    metrics = json.loads((run / "metrics.json").read_text())
    table, _ = read_predictions(run)
    assert metrics["accuracy"] == pytest.approx((table["label"] == table["predicted"]).mean())
    low, high = metrics["accuracy_interval"]
    assert low <= metrics["accuracy"] <= high
    assert {key: metrics[key] for key in ("n", "dataset", "split", "seed", "synthetic")} == {
        "n": 120,
        "dataset": "sipakmed",
        "split": "paper",
        "seed": 0,
        "synthetic": True,
    }
    assert set(metrics["per_class"]) == {"Dyskeratotic", "Koilocytotic", "Parabasal"}


def test_remade_metrics_are_the_same_bytes_with_costs_and_extras(tmp_path, make_run):
    run = make_run(tmp_path / "run")
    costs = np.array([[0, 1, 1], [5, 0, 1], [5, 1, 0]])
    metrics = write_metrics(run, seed=3, cost_matrix=costs, extra={"minutes": 4.5})
    before = (run / "metrics.json").read_bytes()
    assert metrics["minutes"] == 4.5 and metrics["expected_cost"] > 0
    assert remake_metrics(run) == metrics
    assert (run / "metrics.json").read_bytes() == before


def test_extras_may_not_hide_what_is_measured(tmp_path, make_run):
    run = make_run(tmp_path / "run")
    with pytest.raises(ValueError, match="accuracy"):
        write_metrics(run, seed=0, extra={"accuracy": 1.0})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,label\n1.png,a\n", "predicted"),
        ("image,label,predicted\n1.png,a,a\n", "prob_<class>"),
        ("image,label,predicted,prob_a,prob_b\n", "no image"),
        ("image,label,predicted,prob_a,prob_b\n1.png,z,a,0.9,0.1\n", "label is .z.; expected one of its classes"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, text, said):
    (tmp_path / "predictions.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        write_metrics(tmp_path, seed=0)


def test_groups_are_written_where_test_images_share_them(tmp_path):
    write_predictions(tmp_path, ROWS.assign(group=["7", "007", "7"]), PROBABILITIES, CLASSES)
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert lines[:2] == ["image,label,predicted,group,prob_NA,prob_b", "1.png,NA,NA,7,0.9,0.1"]
    table, classes = read_predictions(tmp_path)
    assert table["group"].tolist() == ["7", "007", "7"] and classes == CLASSES
    # An image without a name of its group is alone in it, and groups of one image say nothing.
    write_predictions(tmp_path, ROWS.assign(group=["", "x", ""]), PROBABILITIES, CLASSES)
    assert "group" not in read_predictions(tmp_path)[0]
    assert (tmp_path / "predictions.csv").read_text().startswith("image,label,predicted,prob_NA,prob_b")


def test_a_field_of_several_groups_is_what_stays_whole(tmp_path):
    write_predictions(tmp_path, ROWS.assign(group=["1", "2", "3"], field=["1", "2", "1"]), PROBABILITIES, CLASSES)
    assert read_predictions(tmp_path)[0]["group"].tolist() == ["1", "2", "1"]


def older(run):
    """The run as it was before predictions.csv had groups: its metrics then, and the file's text."""
    table = pd.read_csv(run / "predictions.csv", dtype=str)
    table.drop(columns="group").to_csv(run / "predictions.csv", index=False)
    manifest = (run / "manifest.csv").read_bytes()
    (run / "manifest.csv").unlink()
    before = remake_metrics(run)
    (run / "manifest.csv").write_bytes(manifest)
    return before, table


def test_an_older_run_gets_groups_and_intervals_from_its_manifest(tmp_path, make_run):
    run = make_run(tmp_path / "run", per_group=6)
    write_metrics(run, seed=3, extra={"minutes": 4.5})
    new = (run / "metrics.json").read_bytes(), (run / "predictions.csv").read_bytes()
    before, _ = older(run)
    assert "resampled_groups" not in before and "group" not in (run / "predictions.csv").read_text().splitlines()[0]
    after = remake_metrics(run)
    assert after["resampled_groups"] == 20
    assert ((run / "metrics.json").read_bytes(), (run / "predictions.csv").read_bytes()) == new
    assert np.ptp(after["accuracy_interval"]) > 1.2 * np.ptp(before["accuracy_interval"])
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"accuracy_interval", "macro_f1_interval", "intervals", "per_class", "resampled_groups"}
    for name, scores in after["per_class"].items():
        assert {key: value for key, value in scores.items() if key != "intervals"} == {
            key: value for key, value in before["per_class"][name].items() if key != "intervals"
        }


def test_no_digit_changes_when_groups_are_added(tmp_path, make_run):
    run = make_run(tmp_path / "run", per_group=6)
    _, written = older(run)
    assert add_groups(run) and not add_groups(run)
    assert pd.read_csv(run / "predictions.csv", dtype=str).equals(written)


@pytest.mark.parametrize("manifest", ["image,label\nim_0.bmp,Parabasal\n", "image,label,group\nim_0.bmp,Parabasal,slide 0\n"])
def test_a_manifest_that_does_not_tell_the_groups_is_no_help(tmp_path, make_run, manifest):
    run = make_run(tmp_path / "run")
    (run / "manifest.csv").write_text(manifest)
    before = (run / "predictions.csv").read_bytes()
    assert "resampled_groups" not in remake_metrics(run)
    assert (run / "predictions.csv").read_bytes() == before
