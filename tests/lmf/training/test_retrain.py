"""`lmf retrain`: a new last layer on the frozen network of a finished run."""

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from common.errors import UsageError
from common.report.predict import predict_images
from common.runs.finished import FoundRun, differences
from common.runs.reading import RunFolder
from lmf.experiments.retrain import RetrainSettings
from lmf.losses import adjusted_probabilities
from lmf.training import train as training
from lmf.training.retrain import retrain, smote, training_batches


@pytest.fixture(scope="module")
def settings(trained):
    return RetrainSettings(run=trained.path, epochs=3)


@pytest.mark.parametrize("how", ["crt", "smote"])
def test_only_the_last_layer_is_new(settings, trained, tmp_path, how):
    path = retrain(replace(settings, how=how, run_dir=tmp_path / "run"))
    old, new = (keras.saving.load_model(folder / "model.keras", compile=False) for folder in (trained.path, path))
    for before, after in zip(old.weights[:-2], new.weights[:-2], strict=True):
        assert np.array_equal(before, after)
    assert not np.array_equal(old.weights[-2], new.weights[-2])
    table, was = (pd.read_csv(folder / "predictions.csv") for folder in (path, trained.path))
    assert table["image"].tolist() == was["image"].tolist()
    metrics = json.loads((path / "metrics.json").read_text())
    assert metrics["synthetic"] and "tail_f1" in metrics and (path / "report.md").is_file()
    assert retrain(replace(settings, how=how, run_dir=tmp_path / "run")) == path


def test_the_saved_model_gives_the_written_predictions(settings, trained, tmp_path):
    path = retrain(replace(settings, run_dir=tmp_path / "run"))
    table = pd.read_csv(path / "predictions.csv").head(3)
    root = json.loads((trained.path / "local.json").read_text())["data_dir"]
    found = predict_images(RunFolder(path), [Path(root) / name for name in table["image"]])
    assert found.filter(like="prob_").to_numpy() == pytest.approx(table.filter(like="prob_").to_numpy(), abs=1e-4)


def test_its_recipe_is_the_runs_and_how(settings, trained, tmp_path):
    first, second = (FoundRun.of(retrain(replace(settings, how=how, run_dir=tmp_path / how))) for how in ("crt", "undersample"))
    assert differences([first.recipe, second.recipe]) == {"retrain.how": ("crt", "undersample")}
    assert set(differences([FoundRun.of(trained.path).recipe, first.recipe])) == {
        f"retrain.{name}" for name in ("how", "epochs", "learning_rate", "batch_size")
    }


def test_draws_are_made_equal(settings):
    labels = np.repeat([0, 1, 2], [60, 30, 6]).astype("int32")
    features = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
    counts = {}
    for how in ("crt", "oversample", "undersample", "smote"):
        batches = training_batches(replace(settings, how=how), features, labels, np.arange(96), ["a", "b", "c"], 0)
        drawn = np.concatenate([batches[index][1] for index in range(len(batches))])
        counts[how] = np.bincount(drawn, minlength=3).tolist()
    assert counts["oversample"] == counts["smote"] == [60, 60, 60] and counts["undersample"] == [6, 6, 6]
    assert sum(counts["crt"]) == 96 and min(counts["crt"]) > 15


def test_smote_lies_between_neighbours_of_its_class():
    """One feature: what is made of the rare class lies between its own smallest and largest value."""
    features = np.concatenate([np.linspace(-9, -8, 20), [1.0, 2.0, 4.0]])[:, None].astype("float32")
    labels = np.repeat([0, 1], [20, 3])
    made, names = smote(features, labels, ["nv", "df"], seed=0)
    assert np.bincount(names).tolist() == [20, 20]
    assert made[names == 1].min() >= 1 and made[names == 1].max() <= 4
    with pytest.raises(UsageError, match="--how smote: the class df has one training image"):
        smote(features[:21], labels[:21], ["nv", "df"], seed=0)


def test_another_commands_run_is_refused(settings, tmp_path):
    path = retrain(replace(settings, run_dir=tmp_path / "run"))
    with pytest.raises(UsageError, match="expected a run of `lmf train`, got one of lmf retrain"):
        retrain(replace(settings, run=path, run_dir=tmp_path / "again"))


def test_adjusting_divides_by_the_class_shares_and_trains_nothing(settings, trained, tmp_path):
    path = retrain(replace(settings, how="adjust", tau=0.5, run_dir=tmp_path / "run"))
    counts = FoundRun.of(trained.path).value("class_counts")
    table, was = (pd.read_csv(folder / "predictions.csv").filter(like="prob_").to_numpy() for folder in (path, trained.path))
    assert table == pytest.approx(adjusted_probabilities(was, counts, 0.5), abs=1e-4)
    assert not (path / "history.csv").exists() and "Nothing was trained" in (path / "report.md").read_text()


def test_a_cosine_head_stays_one(settings, options_of, tmp_path):
    """Retrained weights of a dense layer in a cosine head would give other predictions than were written."""
    source = training.train(options_of(tmp_path / "source", loss="cce", head="cosine", epochs=1, limit=60))
    path = retrain(replace(settings, run=source.path, run_dir=tmp_path / "run"))
    model = keras.saving.load_model(path / "model.keras", compile=False)
    assert type(model.get_layer("logits")).__name__ == "CosineDense"
    table = pd.read_csv(path / "predictions.csv").head(3)
    root = Path(json.loads((source.path / "local.json").read_text())["data_dir"])
    found = predict_images(RunFolder(path), [root / name for name in table["image"]])
    assert found.filter(like="prob_").to_numpy() == pytest.approx(table.filter(like="prob_").to_numpy(), abs=1e-4)
