"""Costs: the base that training goes on from, and what the run tells of them."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cervical.experiments.base import CLASSES
from cervical.training import cost_sensitive, stages
from cervical.training.cost_sensitive import base_settings, expected_cost_of, run_cost_sensitive
from cervical.training.finetune import run_finetune
from common.errors import UsageError
from tests.cervical.conftest import settings_of, small_backbone


def test_training_goes_on_from_the_fine_tuned_model(finished):
    metrics = json.loads((finished.cost_sensitive / "metrics.json").read_text())
    matrix = np.array(metrics["costs"])[:, None] * (1 - np.eye(5))
    assert metrics["expected_cost"] == pytest.approx(expected_cost_of(finished.cost_sensitive, matrix))
    assert metrics["expected_cost_before"] == pytest.approx(expected_cost_of(finished.finetune, matrix))
    assert metrics["costs"][0] == pytest.approx(0.996319018404908)
    report = (finished.cost_sensitive / "report.md").read_text()
    assert "expected cost" in report and "Beside the fine-tuned model" in report


def test_base_run_of_a_named_run_lies_beside_it(tmp_path):
    base = base_settings(settings_of("cost-sensitive", "--run-dir", tmp_path / "mine", "--costs", "balanced", "--seed", 3))
    assert base.run_dir == tmp_path / "mine-finetuned" and base.seed == 3 and not hasattr(base, "costs")
    assert base_settings(settings_of("cost-sensitive")).run_dir is None


def test_a_grids_run_goes_on_from_the_grids_fine_tuned_one(at_home, monkeypatch):
    monkeypatch.setattr("cervical.models.build_backbone", small_backbone)
    matrix = at_home.home / "matrix.csv"
    rows = [",".join((name, *("0" if name == other else str(index + 1) for index, other in enumerate(CLASSES)))) for name in CLASSES]
    matrix.write_text("\n".join([",".join(("", *CLASSES)), *rows]) + "\n")
    given = settings_of("cost-sensitive", *at_home.options, "--init", "finetuned", "--costs", matrix)
    default = stages.default_run_dir("cost-sensitive", given, stages.load_for_training(given))
    settings = replace(given, run_dir=default)  # as a grid gives it
    assert base_settings(settings, default).run_dir is None

    bases = []
    monkeypatch.setattr(cost_sensitive, "run_finetune", lambda base: bases.append(run_finetune(base)) or bases[-1])
    before = {path: path.stat().st_mtime_ns for path in at_home.finetune.rglob("*")}
    folder = run_cost_sensitive(settings)
    assert [at_home.home / base for base in bases] == [at_home.finetune]
    assert {path: path.stat().st_mtime_ns for path in at_home.finetune.rglob("*")} == before
    assert not default.with_name(default.name + "-finetuned").exists()

    metrics = json.loads((folder / "metrics.json").read_text())
    costs = np.array(metrics["costs"])
    assert costs.shape == (5, 5) and metrics["expected_cost"] == pytest.approx(expected_cost_of(folder, costs))
    assert "a full matrix" in (folder / "report.md").read_text()
    # Table II is of class weights: it says nothing of a matrix.
    assert not json.loads((folder / "report.json").read_text())["printed"]

    # Finished, it does not ask for its base again, and is still told from a run of other settings.
    monkeypatch.setattr(cost_sensitive, "run_finetune", lambda base: pytest.fail("the base was trained again"))
    assert run_cost_sensitive(settings) == folder
    with pytest.raises(UsageError, match="costs was"):
        run_cost_sensitive(replace(settings, costs="balanced"))


def test_a_bad_file_of_costs_is_told_before_anything_is_trained(tmp_path, sample_cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "costs.csv").write_text("Parabasal,2\n")
    words = ("--cache-dir", sample_cache, "--limit", "25", "--costs", "costs.csv", "--init", "finetuned")
    with pytest.raises(UsageError, match="no entry for 'Dyskeratotic'"):
        run_cost_sensitive(settings_of("cost-sensitive", *words))
    assert not (tmp_path / "runs").exists()
