"""A run of each method leaves everything behind that the house promises, and a second call changes nothing."""

import json
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cervical.config import (
    CLASSES,
    CODED,
    CORRECTED,
    DESCRIBED,
    ContrastiveOptions,
    CostSensitiveOptions,
    FinetuneOptions,
    TablesOptions,
    control_stage,
)
from cervical.data import load
from cervical.grids.tables import table_cells
from cervical.training import run_contrastive, run_cost_sensitive, run_finetune, stages, supervised
from cervical.training.supervised import base_options, expected_cost_of
from common.data.images import read_image, resize
from common.data.pipeline import Batches
from common.errors import UsageError
from tests.cervical.conftest import small_backbone

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
    # --limit leaves one test image a slide, so there is no group to name.
    assert not manifest.loc[manifest["split"] == "test", "group"].duplicated().any() and "group" not in predictions
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["accuracy"] == pytest.approx((predictions["label"] == predictions["predicted"]).mean())
    assert {"macro_f1", "per_class", "accuracy_interval", "validation_accuracy", "leakage"} <= set(metrics) and metrics["synthetic"]
    report = (folder / "report.md").read_text()
    assert "Synthetic data" in report and "share their slide with a training image" in report and "--limit" in report


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
    assert "Beside the control" in report and "plain cross-entropy" in report and "McNemar" in report
    assert "recomputed on training images" in report
    control = json.loads((finished.contrastive / "control" / "config.json").read_text())
    assert control["experiment"] == "contrastive-control"


def test_cost_sensitive_goes_on_from_the_fine_tuned_model(finished):
    metrics = json.loads((finished.cost_sensitive / "metrics.json").read_text())
    matrix = np.array(metrics["costs"])[:, None] * (1 - np.eye(5))
    assert metrics["expected_cost"] == pytest.approx(expected_cost_of(finished.cost_sensitive, matrix))
    assert metrics["expected_cost_before"] == pytest.approx(expected_cost_of(finished.finetune, matrix))
    assert metrics["costs"][0] == pytest.approx(0.996319018404908)
    report = (finished.cost_sensitive / "report.md").read_text()
    assert "expected cost" in report and "Beside the fine-tuned model" in report


def test_a_grid_looks_for_runs_where_single_commands_put_them(at_home):
    options = TablesOptions(**at_home.options, methods=("finetune", "contrastive"))
    cells = table_cells(options, load(options))
    assert [at_home.home / cell.run_dir for cell in cells] == [at_home.finetune, at_home.contrastive]
    assert all(cell.finished for cell in cells)


def test_the_same_command_again_changes_nothing(at_home):
    before = {path: path.stat().st_mtime_ns for path in at_home.contrastive.rglob("*")}
    again = run_contrastive(ContrastiveOptions(**at_home.options, control=True))
    assert at_home.home / again == at_home.contrastive
    assert {path: path.stat().st_mtime_ns for path in at_home.contrastive.rglob("*")} == before


def test_another_setting_in_the_same_folder_is_refused(at_home):
    with pytest.raises(UsageError, match="temperature was 0.05, now 0.5"):
        run_contrastive(ContrastiveOptions(**at_home.options, control=True, temperature=0.5, run_dir=at_home.contrastive))


def test_base_run_of_a_named_run_lies_beside_it(tmp_path):
    base = base_options(CostSensitiveOptions(run_dir=tmp_path / "mine", costs="balanced", seed=3))
    assert base.run_dir == tmp_path / "mine-finetuned" and base.seed == 3 and not hasattr(base, "costs")
    assert base_options(CostSensitiveOptions()).run_dir is None


def test_a_grids_cost_sensitive_run_goes_on_from_the_grids_fine_tuned_one(at_home, monkeypatch):
    monkeypatch.setattr("cervical.models.build_backbone", small_backbone)
    matrix = at_home.home / "matrix.csv"
    rows = [",".join((name, *("0" if name == other else str(index + 1) for index, other in enumerate(CLASSES)))) for name in CLASSES]
    matrix.write_text("\n".join([",".join(("", *CLASSES)), *rows]) + "\n")
    given = CostSensitiveOptions(**at_home.options, init="finetuned", costs=str(matrix))
    settings = stages.resolve("cost-sensitive", given, CLASSES)
    default = stages.default_run_dir("cost-sensitive", settings, given, load(given))
    options = replace(given, run_dir=default)  # as a grid gives it
    assert base_options(options, default).run_dir is None

    bases = []
    monkeypatch.setattr(supervised, "run_finetune", lambda base: bases.append(run_finetune(base)) or bases[-1])
    before = {path: path.stat().st_mtime_ns for path in at_home.finetune.rglob("*")}
    folder = run_cost_sensitive(options)
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
    monkeypatch.setattr(supervised, "run_finetune", lambda base: pytest.fail("the base was trained again"))
    assert run_cost_sensitive(options) == folder
    with pytest.raises(UsageError, match="holds a run of other settings"):
        run_cost_sensitive(replace(options, costs="balanced"))


def test_control_gets_the_encoders_epochs_and_rate_and_no_early_end():
    settings = replace(DESCRIBED, encoder=replace(DESCRIBED.encoder, epochs=9, learning_rate=0.5))
    stage = control_stage(settings)
    assert (stage.epochs, stage.patience, stage.learning_rate, stage.keep) == (9, 9, 0.5, "best")


@pytest.mark.parametrize(("settings", "falls"), [(DESCRIBED, False), (CODED, False), (CORRECTED, True)])
def test_control_has_a_plateau_rule_only_where_the_encoder_has_one(settings, falls, monkeypatch):
    given = {}
    monkeypatch.setattr(stages, "fit", lambda *arguments, **named: given.update(named) or pd.DataFrame({"epoch": [1]}))
    monkeypatch.setattr(stages, "recompute_batchnorm", lambda *arguments: None)
    images = np.zeros((4, 4, 4, 3), dtype="uint8")
    train = Batches(images, np.zeros(4, dtype="int32"), rows=np.arange(4), batch_size=2)
    job = SimpleNamespace(run=None, options=ContrastiveOptions())
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    stages.train_stage(job, network, "control", control_stage(settings), train, train)
    assert (given["reduce_lr"] is not None) == falls and given["schedule"] is None
    assert given["select"] == control_stage(settings).keep


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
    options = ContrastiveOptions(
        dataset="folders",
        data_dir=tmp_path / "animals",
        group_pattern=r"(\d+)_",
        split="grouped",
        reading=reading,
        head_input="projection",
        cache_dir=tmp_path / "cache",
        image_size=16,
        copies=1,
        epochs=2,
        batch_size=8,
    )
    folder = run_contrastive(options)
    config = json.loads((folder / "config.json").read_text())
    assert config["classes"] == ["cats", "dogs"] and config["synthetic"] is False
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["leakage"]["test"]["shared"] == 0
    model = keras.models.load_model(folder / "model.keras", compile=False)
    assert "projection" in [layer.name for layer in model.layers] and model.output_shape == (None, 2)
    assert (folder / "control" / "model.keras").is_file() == (reading == "corrected")


def test_views_and_cosine_are_used_and_told(at_home, monkeypatch):
    monkeypatch.setattr("cervical.models.build_backbone", small_backbone)
    folder = run_finetune(FinetuneOptions(**{**at_home.options, "epochs": 2}, views=True, schedule="cosine"))
    history = pd.read_csv(folder / "history.csv")
    assert history["learning_rate"].tolist() == pytest.approx([2e-3, 1e-3])
    assert "newly flipped, turned and scaled" in (folder / "report.md").read_text()
