"""A run of each method leaves everything behind that the house promises, and printed numbers stand only where they may."""

import json

import pandas as pd
import pytest

from cervical.experiments.base import CLASSES
from cervical.training.outcome import printed_numbers, what_differs

FILES = ("config.json", "manifest.csv", "history.csv", "model.keras", "predictions.csv", "metrics.json", "report.md", "model_card.md")
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
    assert "new slides" not in report


def config(**settings):
    whole = {"dataset": "sipakmed", "split": "paper", "split_seed": 42, "image_size": 110, "copies": 6, "weights": "none"}
    whole |= {"reading": "coded", "backbone": "vgg16", "classes": list(CLASSES), "loss": "npairs"}
    return {"experiment": "contrastive", "settings": {**whole, **settings}}


def test_printed_numbers_stand_beside_the_printed_problem_only():
    assert what_differs(config()) == "" and printed_numbers(config())["accuracy"].value == 0.9729
    assert printed_numbers(config())["per_class.Koilocytotic.recall"].value == 0.94
    assert printed_numbers(config(dataset="folders")) == {} and printed_numbers({**config(), "experiment": "contrastive-control"}) == {}
    assert "accuracy" not in printed_numbers(config(backbone="mobilenetv2_035"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"split": "grouped"}, "the split"),
        ({"image_size": 32}, "32 px"),
        ({"limit": 64}, "64 images"),
        ({"copies": 0}, "0 copies"),
        ({"weights": "w.h5"}, "weights w.h5"),
        ({"loss": "supcon"}, "loss supcon"),
        ({"reading": "reduced"}, "the reduced protocol"),
        ({"synthetic": True}, "drawn cells"),
    ],
)
def test_what_differs_is_named(settings, words):
    assert words in what_differs(config(**settings)) and words in printed_numbers(config(**settings))["accuracy"].differs
