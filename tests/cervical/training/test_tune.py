"""`cervical tune` on a few drawn cells: every trial a run of its method, chosen on validation images, all of them in the report."""

from dataclasses import fields, replace

import pytest

from cervical.experiments import contrastive, finetune
from cervical.training import tune
from cervical.training.contrastive import run_contrastive
from cervical.training.finetune import run_finetune
from common.errors import UsageError
from common.runs import grid
from tests.cervical.conftest import settings_of, small_backbone


def test_only_settings_that_act_are_searched() -> None:
    assert set(tune.space_of(finetune.DESCRIBED, "finetune")) == {"dropout", "training.learning_rate"}
    assert "temperature" in tune.space_of(contrastive.DESCRIBED, "contrastive")
    assert "temperature" not in tune.space_of(replace(contrastive.DESCRIBED, loss="triplet"), "contrastive")
    names = {field.name for field in fields(contrastive.ContrastiveSettings)}
    assert {name.partition(".")[0] for name in tune.SPACES["contrastive"]} <= names


def test_a_search_runs_its_trials_and_tells_the_winner(finished, tmp_path, monkeypatch) -> None:
    """Trials run in this process here; the grid's own tests show that to be the same."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cervical.models.build_backbone", small_backbone)
    ran = []

    def here(cell, own):
        ran.append(cell.settings)
        (run_contrastive if cell.experiment == "contrastive" else run_finetune)(cell.settings)
        return 0, ""

    monkeypatch.setattr(grid, "run_cell", here)
    settings = settings_of("tune", *finished.options, "--trials", "2", "--methods", "contrastive", "--run-dir", "tune")
    report = tune.run_tune(settings).read_text()
    assert len(ran) == 2 and ran[0].projection == 128 and ran[0].temperature == 0.05 and ran[1].temperature != 0.05
    assert "Synthetic data" in report and "--encoder.learning-rate" in report and "test" not in report.split("## ")[1]
    values = (tmp_path / "tune" / "search-contrastive" / "trials.csv").read_text().splitlines()
    assert len(values) == 3
    assert tune.run_tune(settings).read_text() == report and len(ran) == 2  # finished trials are not trained again


def test_one_network_and_one_seed() -> None:
    for words in (("--backbones", "vgg16", "vgg19"), ("--seeds", "0", "1"), ("--trials", "0")):
        with pytest.raises(UsageError, match=words[0]):
            settings_of("tune", *words)
