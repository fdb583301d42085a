"""The base classifier from options to report on a few drawn images."""

import gc
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.commands.report import ReportOptions
from common.errors import UsageError
from common.runs.folder import Run
from feedback import reporting
from feedback.experiments.baseline import default
from feedback.isic import CLASSES
from feedback.training import baseline
from feedback.training.baseline import class_weights, freeze_through, run_baseline
from tests.feedback.conftest import small_classifier


def _manifest() -> pd.DataFrame:
    labels = ["MEL"] * 10 + ["NV"] * 30 + ["BKL"] * 20
    return pd.DataFrame({"image": [f"{n}.jpg" for n in range(60)], "label": labels, "split": "train"})


def test_layers_up_to_one_are_frozen():
    model = small_classifier()
    freeze_through(model, "conv1")
    assert [layer.name for layer in model.layers if layer.weights and not layer.trainable] == ["conv1"]
    with pytest.raises(UsageError, match="--frozen-until block9: no such layer"):
        freeze_through(model, "block9")


def test_class_weights_are_inverse_to_the_frequency():
    weights = dict(zip(CLASSES, class_weights("inverse", _manifest(), CLASSES), strict=True))
    # 60 images in 3 classes: 60 / (3 * 10) = 2, 60 / 90 = 2/3, 60 / 60 = 1; a class without images weighs nothing.
    assert weights["MEL"] == pytest.approx(2.0) and weights["NV"] == pytest.approx(2 / 3) and weights["BKL"] == pytest.approx(1.0)
    assert weights["SCC"] == 0.0
    assert class_weights("printed", _manifest(), CLASSES)[1] == 0.508
    np.testing.assert_array_equal(class_weights("none", _manifest(), CLASSES), np.ones(8))


def _run(cache, folder):
    small = {"image_size": 32, "epochs": 1, "limit": 64, "batch_size": 16}
    return run_baseline(replace(default("described", "sample"), cache_dir=cache, run_dir=folder, **small))


@pytest.mark.slow
def test_baseline_of_a_real_network(sample_cache, tmp_path):
    assert (_run(sample_cache, tmp_path / "base") / "finished.json").is_file()


@pytest.fixture(scope="module")
def whole(sample_cache, tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(baseline, "build_classifier", lambda _, size, classes, **__: small_classifier(classes, size))
        return _run(sample_cache, tmp_path_factory.mktemp("bases") / "whole")


def test_a_base_killed_after_its_last_epoch_ends_as_an_unbroken_one(whole, sample_cache, tmp_path, monkeypatch):
    monkeypatch.setattr(baseline, "build_classifier", lambda _, size, classes, **__: small_classifier(classes, size))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(baseline, "write_predictions", killed)
        with pytest.raises(KeyboardInterrupt):
            _run(sample_cache, tmp_path / "broken")
    gc.collect()  # a killed process drops its lock; here the abandoned run object must go
    broken = _run(sample_cache, tmp_path / "broken")
    assert (broken / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()


def test_baseline(whole):
    run = whole
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["synthetic"] and set(metrics["one_vs_rest"]) == set(CLASSES) and metrics["balanced_accuracy"] is not None
    assert set(metrics["baselines"]) == {"majority class", "logistic probe"} and 0 < metrics["baselines"]["majority class"]["accuracy"] < 1
    text = (run / "report.md").read_text()
    assert "lesion that is also in the training set" in text
    assert "A part of the images only" in text and "Table 4.1" not in text
    assert (run / "model.keras").is_file() and (run / "figures" / "confusion.png").is_file()


def test_the_printed_numbers_stand_beside_a_run_on_all_images(whole, tmp_path):
    copy = Path(shutil.copytree(whole, tmp_path / "all"))
    config = json.loads((copy / "config.json").read_text())
    del config["settings"]["limit"]

    def report() -> dict[str, str]:
        (copy / "config.json").write_text(json.dumps(config))
        reporting.baseline_report(Run(copy, config))
        return {line.split("|")[1].strip(): line for line in (copy / "report.md").read_text().splitlines() if line.startswith("|")}

    rows = report()
    # Table 4.1: the AUC of MEL is 0.87; Table 5.3's first row: accuracy 0.71.
    assert "0.8700" in rows["one vs rest.MEL.AUC"] and "Table 4.1" in rows["one vs rest.MEL.AUC"]
    assert "0.7100" in rows["accuracy"] and "Table 5.3" in rows["accuracy"]
    # Table 3.1: accuracy 0.850 and sensitivity 0.608 of MEL, one class against the rest.
    assert (
        "0.8500" in rows["MEL: accuracy"] and "0.6080" in rows["MEL: sensitivity"] and "Table 3.1 (VGG16; 227 px)" in rows["MEL: accuracy"]
    )
    reporting.report_command(ReportOptions(run=copy))
    assert "0.6080" in (copy / "report.md").read_text()
    # A report.json of before knows the rule no better than its run: `report` decides again.
    (copy / "config.json").write_text(json.dumps(config | {"dataset": "ham10000"}))
    reporting.report_command(ReportOptions(run=copy))
    assert not json.loads((copy / "report.json").read_text())["printed"]
    # Another data set's accuracy does not belong beside the thesis's.
    config["dataset"] = "ham10000"
    rows = report()
    assert "0.7100" not in rows["accuracy"] and "MEL: accuracy" not in rows
    assert not json.loads((copy / "report.json").read_text())["printed"]
    assert "the thesis's are of ISIC 2019, these of ham10000" in (copy / "report.md").read_text()
