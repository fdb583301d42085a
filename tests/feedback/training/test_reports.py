"""What a finished simulation says and keeps: report, faithfulness, leakage, printed numbers, thresholds, explanations."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from common.cli import main
from common.commands.report import ReportOptions
from common.errors import UsageError
from common.explanation.options import ExplainOptions
from common.runs.folder import Run
from feedback import reporting, tables
from feedback.__main__ import COMMANDS
from feedback.assessment import Explainer
from feedback.experiments.simulate import SimulateSettings
from feedback.experiments.thresholds import ThresholdsSettings
from feedback.training import explain, faithful
from feedback.training.online import self_explaining
from feedback.training.stage import load_classifier, prepare
from feedback.training.thresholds import run_thresholds
from tests.feedback.training.conftest import options_of


def test_the_report_says_what_matters(run):
    text = (run / "report.md").read_text()
    said = ("Synthetic data", "## Before and after", "centred circle", "class right, region wrong", "Table 5.3", "The thesis found 627")
    for words in (*said, "deletion, map − random", "clipped at 1"):
        assert words in text
    before = text
    reporting.report_command(ReportOptions(run=run))
    assert "## Before and after" in (run / "report.md").read_text() and len((run / "report.md").read_text()) == len(before)


def test_a_part_of_the_images_stands_beside_no_printed_number():
    settings = SimulateSettings(balance="upsampled")
    assert reporting.printed_cells(settings, "upsampled")["jaccard"].value == 0.127  # Table 5.3, last row
    assert reporting.printed_cells(settings, "upsampled", limit=100) == {}
    assert reporting.printed_cells(settings, "slices")["jaccard"].value == 0.14  # Table 5.4, last row
    # Table 5.4 is of up-sampled data.
    assert reporting.printed_cells(SimulateSettings(), "slices") == {}
    assert "--limit 100" in reporting.limit_notes(100)[0] and reporting.limit_notes(None) == []


def test_minutes_leave_out_the_adaptation_and_what_compiles():
    history = pd.DataFrame({"stage": ["adaptation", *["tuning"] * 4], "seconds": [5.0, 600, 60, 90, 61]})
    assert tables.minutes(history, "epoch") == pytest.approx(61 / 60)
    assert tables.minutes(history[:2], "epoch") == 10.0 and tables.minutes(history[:1], "epoch") == pytest.approx(5 / 60)
    slices = pd.DataFrame({"stage": ["slice00", "slice00", "slice01", "slice01", "slice02"], "seconds": [600.0, 60, 90, 30, 240]})
    assert tables.minutes(slices, "slice") == 3.0


def test_leakage_is_said_for_every_base():
    config = {"settings": {"dataset": "isic2018", "base_dataset": "ham10000"}}
    parts = ("train", "validation", "test")
    counted = {
        "overlap": {name: {"images": 10, "same_id": 2, "renamed": 3} for name in parts}, "seen_by_base": dict.fromkeys(parts, 0),
        "training_images": {"MEL": 10}, "left_out": {},
    }  # fmt: skip
    seen, held, _ = reporting.leakage_notes(config, counted)
    assert "test 0 of 10" in seen and "test 2 + 3 of 10" in held
    # A simulation on the base's own images: everything was seen, and ISIC 2019 was compared with nothing.
    config["settings"]["dataset"] = "ham10000"
    unknown = {name: {"images": 10, "same_id": None, "renamed": None} for name in parts}
    seen, held, _ = reporting.leakage_notes(config, {**counted, "overlap": unknown, "seen_by_base": {**dict.fromkeys(parts, 8)}})
    assert "(ham10000; " in seen and "train 8 of 10" in seen and "not known for ham10000" in held
    assert "not known (its run folder holds no manifest.csv)" in reporting.leakage_notes(config, {**counted, "seen_by_base": None})[0]


def test_every_images_faithfulness_is_kept(run):
    table, found = pd.read_csv(run / "faithfulness.csv"), json.loads((run / "metrics.json").read_text())["faithfulness"]
    assert len(table) == 2 and set(table["image"]) <= set(pd.read_csv(run / "jaccard.csv")["image"])
    for when in ("before", "after"):
        gap = table[f"deletion_{when}"] - table[f"random_deletion_{when}"]
        assert found[when]["deletion_minus_random"] == pytest.approx(gap.mean(), abs=1e-6)
        low, high = found[when]["deletion_minus_random_interval"]
        assert low <= found[when]["deletion_minus_random"] <= high
    change = found["change"]["insertion"]
    assert change["value"] == pytest.approx((table["insertion_after"] - table["insertion_before"]).mean(), abs=1e-6)
    assert change["interval"][0] <= change["value"] <= change["interval"][1]


def test_the_random_map_is_as_coarse_as_the_models(run, sample_cache, small_base, monkeypatch, tmp_path):
    """conv2 of a 24 px image is 6 x 6; a smoother random map would be easier, or harder, to beat."""
    asked = []

    def measure(model, images, maps, labels, *, masks, names, seed, grid):
        asked.append((grid, maps["map"].shape))
        rows = [{"image": name, "method": method, "deletion": 0.5, "insertion": 0.5} for name in names for method in ("map", "random")]
        return pd.DataFrame(rows), {}

    monkeypatch.setattr(faithful, "measure", measure)
    options = options_of(sample_cache, small_base, tmp_path)
    stage = prepare(options)
    explainer = Explainer(self_explaining(load_classifier(small_base), options))
    table = faithful.measure_once(Run(tmp_path, {"settings": {}}), "before", explainer, stage, 2, 0)
    assert asked == [((6, 6), (2, 24, 24))] and table["pointing"].isna().all()
    # A resumed run reads what was measured.
    again = faithful.measure_once(Run(tmp_path, {"settings": {}}), "before", explainer, stage, 2, 0)
    assert len(asked) == 1 and again["image"].tolist() == table["image"].tolist()


def test_thresholds(run, sample_cache):
    run_thresholds(ThresholdsSettings(run=run, cache_dir=sample_cache))
    table = pd.read_csv(run / "thresholds.csv")
    metrics = json.loads((run / "metrics.json").read_text())
    at_half = table.loc[table["threshold"] == 0.5, "test"].item()
    assert at_half == pytest.approx(metrics["jaccard"], abs=1e-5)
    assert table.loc[table["threshold"] == 0.0, "test"].item() == pytest.approx(metrics["trivial"]["whole_image"]["mean"], abs=1e-6)
    assert (run / "figures" / "thresholds.png").is_file() and "Best on validation" in (run / "thresholds.md").read_text()


def test_thresholds_name_an_image_that_is_another_one_now(run, sample_cache, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    noted = json.loads((copy / "contents.json").read_text())["files"]
    name = next(name for name in noted if name.endswith(".jpg"))
    (copy / "contents.json").write_text(json.dumps({"files": {**noted, name: "0" * 64}}))
    with pytest.raises(UsageError, match=rf"1 files changed since .* began \({name}\)"):
        run_thresholds(ThresholdsSettings(run=copy, cache_dir=sample_cache))


def test_explain_shows_the_layer_that_was_tuned(run, sample_cache):
    assert main("feedback", COMMANDS, ["explain", str(run), "--methods", "gradcam"]) == 0
    text = (run / "explanations" / "faithfulness.md").read_text()
    assert (run / "explanations" / "sheet.png").is_file() and "conv2" in text


def test_explain_asks_for_the_runs_layer(run, monkeypatch):
    asked = []
    monkeypatch.setattr(explain, "explain_command", asked.append)
    explain.run_explain(ExplainOptions(run=run))
    explain.run_explain(ExplainOptions(run=run, layer=("conv1",)))
    assert [options.layer for options in asked] == [("conv2",), ("conv1",)]


def test_predict(run, tmp_path):
    image = next(iter(sorted(Path(json.loads((run / "local.json").read_text())["data_dir"]).rglob("*.jpg"))))
    assert main("feedback", COMMANDS, ["predict", str(run), str(image), "--output", str(tmp_path / "out.csv")]) == 0
    table = pd.read_csv(tmp_path / "out.csv")
    assert len(table) == 1 and {"MEL", "NV", "SCC"} <= {column.removeprefix("prob_") for column in table.columns}
