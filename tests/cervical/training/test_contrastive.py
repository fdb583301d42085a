"""The two stages and the control leave everything behind that the house promises, and a second call changes nothing."""

import json

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cervical.experiments.base import CLASSES
from cervical.training.contrastive import run_contrastive
from common.data.images import read_image, resize
from common.errors import UsageError
from tests.cervical.conftest import settings_of, small_backbone


def test_saved_model_gives_the_written_predictions(finished):
    config = json.loads((finished.contrastive / "config.json").read_text())
    local = json.loads((finished.contrastive / "local.json").read_text())
    table = pd.read_csv(finished.contrastive / "predictions.csv").head(4)
    images = np.stack([resize(read_image(f"{local['data_dir']}/{name}"), 32, config["resize_filter"]) for name in table["image"]])
    model = keras.models.load_model(finished.contrastive / "model.keras", compile=False)
    found = keras.ops.convert_to_numpy(model(images.astype("float32")))
    written = table[[f"prob_{name}" for name in CLASSES]].to_numpy()
    assert found == pytest.approx(written, abs=2e-4)
    assert model.layers[-1].name == "predictions"


def test_stages_and_the_control_are_told(finished):
    history = pd.read_csv(finished.contrastive / "history.csv")
    assert list(dict.fromkeys(history["stage"])) == ["encoder", "classifier"]
    report = (finished.contrastive / "report.md").read_text()
    assert "Beside the control" in report and "plain cross-entropy" in report and "One seed gives no verdict" in report
    assert "recomputed on training images" in report
    control = json.loads((finished.contrastive / "control" / "config.json").read_text())
    assert control["experiment"] == "contrastive-control"
    assert control["settings"]["training"]["epochs"] == 1 and "loss" not in control["settings"]


def test_the_same_command_again_changes_nothing(at_home):
    before = {path: path.stat().st_mtime_ns for path in at_home.contrastive.rglob("*")}
    again = run_contrastive(settings_of("contrastive", *at_home.options, "--control"))
    assert at_home.home / again == at_home.contrastive
    assert {path: path.stat().st_mtime_ns for path in at_home.contrastive.rglob("*")} == before


def test_another_setting_in_the_same_folder_is_refused(at_home):
    with pytest.raises(UsageError, match="temperature was 0.05, now 0.5"):
        run_contrastive(settings_of("contrastive", *at_home.options, "--temperature", "0.5", "--run-dir", at_home.contrastive))


def test_a_control_can_be_added_to_a_finished_run(at_home, tmp_path, monkeypatch):
    monkeypatch.setattr("cervical.models.build_backbone", small_backbone)
    words = (*at_home.options, "--run-dir", tmp_path / "run")
    run_contrastive(settings_of("contrastive", *words))
    assert not (tmp_path / "run" / "control").exists()
    run_contrastive(settings_of("contrastive", *words, "--control"))
    assert "Beside the control" in (tmp_path / "run" / "report.md").read_text()
    for inner in ("", "control"):
        ours, theirs = (folder / inner / "predictions.csv" for folder in (tmp_path / "run", at_home.contrastive))
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("reading", ["coded", "corrected"])
def test_anyones_folders_by_group_with_the_projection_as_in_figure_2(tmp_path, monkeypatch, reading):
    generator = np.random.default_rng(0)
    for label, colour in (("cats", 60), ("dogs", 180)):
        (tmp_path / "animals" / label).mkdir(parents=True)
        for number in range(12):
            pixels = np.clip(generator.normal(colour, 20, (20, 24, 3)), 0, 255).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "animals" / label / f"{number // 2}_{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cervical.models.build_backbone", small_backbone)
    words = ("--dataset", "folders", "--data-dir", "animals", "--group-pattern", r"(\d+)_", "--reading", reading, "--split", "grouped")
    words += ("--head-input", "projection", "--cache-dir", "cache", "--image-size", "16", "--copies", "1", "--epochs", "2")
    folder = run_contrastive(settings_of("contrastive", *words, "--batch-size", "8"))
    config = json.loads((folder / "config.json").read_text())
    assert config["classes"] == ["cats", "dogs"] and config["synthetic"] is False
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["leakage"]["test"]["shared"] == 0
    model = keras.models.load_model(folder / "model.keras", compile=False)
    assert "projection" in [layer.name for layer in model.layers] and model.output_shape == (None, 2)
    assert (folder / "control" / "model.keras").is_file() == (reading == "corrected")
