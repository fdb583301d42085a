"""A run of each method leaves everything behind that the house promises, and printed numbers stand only where they may."""

import json
from pathlib import Path

import pandas as pd
import pytest

from cervical.experiments.base import CLASSES
from cervical.tables import printed_of
from cervical.training.finetune import run_finetune
from cervical.training.outcome import printed_numbers
from common.errors import UsageError
from common.report.markup import Printed
from common.runs.finished import FoundRun
from tests.cervical.conftest import settings_of

FILES = ("contents.json", "manifest.csv", "history.csv", "model.keras", "predictions.csv", "metrics.json", "report.md", "model_card.md")
FIGURES = ("confusion.png", "reliability.png", "training_curves.png")


@pytest.mark.parametrize("run", ["contrastive", "contrastive/control", "finetune", "cost_sensitive"])
def test_run_folder_is_complete(finished, run):
    name, _, inner = run.partition("/")
    folder = getattr(finished, name) / inner
    assert all((folder / file).is_file() for file in FILES)
    assert all((folder / "figures" / figure).is_file() for figure in FIGURES)
    assert not (folder / "checkpoints").exists()
    config = json.loads((folder / "config.json").read_text())
    assert config["synthetic"] is True and config["dataset"] == "sample" and config["classes"] == list(CLASSES)
    assert (config["backbone"], config["weights"], config["image_size"], config["seed"]) == ("mobilenetv2_035", "none", 32, 0)
    assert str(finished.home) not in (folder / "config.json").read_text() + (folder / "report.md").read_text()
    manifest = pd.read_csv(folder / "manifest.csv")
    assert manifest["split"].value_counts().to_dict() == {"train": 30, "test": 10, "validation": 10}
    predictions = pd.read_csv(folder / "predictions.csv")
    assert set(predictions["image"]) == set(manifest.loc[manifest["split"] == "test", "image"])
    # --limit leaves one test image a group, so there is no group to name.
    assert not manifest.loc[manifest["split"] == "test", "group"].duplicated().any() and "group" not in predictions
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["accuracy"] == pytest.approx((predictions["label"] == predictions["predicted"]).mean())
    assert {"macro_f1", "per_class", "accuracy_interval", "validation_accuracy", "leakage"} <= set(metrics) and metrics["synthetic"]
    report = (folder / "report.md").read_text()
    assert "Synthetic data" in report and "share their cluster image with a training image" in report and "--limit" in report
    assert "new slides" not in report and "majority class" in report and "logistic probe" in report


def test_kinds_of_cells_are_reported(finished):
    metrics = json.loads((finished.finetune / "metrics.json").read_text())
    found = metrics["decision"]["rules"]["argmax"]["kinds"]
    assert set(found) == {"normal", "benign", "abnormal"} and metrics["decision"]["images_of_kind"]["abnormal"] == 4
    assert "| abnormal (Dyskeratotic, Koilocytotic; 4 images) | argmax |" in (finished.finetune / "report.md").read_text()


def test_bad_costs_of_decisions_are_told_before_anything_is_trained(tmp_path, sample_cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "costs.csv").write_text("class,cost\nParabasal,2\n")
    words = ("--cache-dir", sample_cache, "--limit", "25", "--decision", "minimum-cost", "--decision-costs", "costs.csv")
    with pytest.raises(UsageError, match="--decision-costs costs.csv: no entry for 'Dyskeratotic'"):
        run_finetune(settings_of("finetune", *words))
    assert not (tmp_path / "runs").exists()


def run_of(experiment="contrastive", **settings):
    whole = {
        "dataset": "sipakmed",
        "split": "paper",
        "split_seed": 42,
        "image_size": 110,
        "copies": 6,
        "weights": "none",
        "synthetic": False,
    }
    whole |= {stage: {"epochs": 50} for stage in ("encoder", "classifier", "training")}
    whole |= {"synthetic": False, "reading": "coded", "backbone": "vgg16", "classes": list(CLASSES), "loss": "npairs"}
    return FoundRun(Path("run"), {"study": "cervical", "experiment": experiment, "settings": {**whole, **settings}})


def test_printed_numbers_stand_beside_the_printed_problem_only():
    assert printed_numbers(run_of())["accuracy"] == Printed(0.9729, "paper Table III, thesis Table 6.4")
    assert printed_numbers(run_of())["per_class.Koilocytotic.recall"].value == 0.94
    assert printed_numbers(run_of(dataset="folders")) == {} and printed_numbers(run_of("contrastive-control")) == {}
    assert printed_numbers(run_of("finetune")) and not printed_numbers(run_of("finetune", mixup=0.4))
    assert not printed_numbers(run_of("finetune", label_smoothing=0.1)) and not printed_of(run_of("finetune", mixup=0.4).config)
    assert printed_numbers(run_of(loss="supcon")) == {} and "accuracy" not in printed_numbers(run_of(backbone="mobilenetv2_035"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"split": "grouped"}, "split grouped, not paper"),
        ({"image_size": 32}, "image size 32, not 110"),
        ({"limit": 64}, "limit 64, not all"),
        ({"copies": 0}, "copies 0, not 6"),
        ({"weights": "w.h5"}, "weights w.h5, not none"),
        ({"synthetic": True}, "synthetic data"),
    ],
)
def test_what_differs_is_named(settings, words):
    assert words in printed_numbers(run_of(**settings))["accuracy"].differs
