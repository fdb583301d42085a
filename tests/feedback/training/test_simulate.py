"""The simulation from options to run folder on the sample, with a very small base: files, resume, what is refused."""

import json
import re
import shutil

import keras
import numpy as np
import pandas as pd
import pytest

from common.cli import main
from common.errors import UsageError
from feedback.__main__ import COMMANDS
from feedback.experiments import baseline as baseline_settings
from feedback.experiments.simulate import BALANCED, stored
from feedback.training import baseline, online, simulate
from feedback.training.simulate import run_simulate
from tests.feedback.conftest import small_classifier
from tests.feedback.training.conftest import no_figures, options_of, release

FILES = ("contents.json", "manifest.csv", "history.csv", "model.keras", "predictions.csv", "jaccard.csv", "metrics.json", "report.md",
         "model_card.md", "figures/curves.png", "figures/before_after.png")  # fmt: skip


def test_a_run_leaves_everything_behind(run):
    assert all((run / name).is_file() for name in FILES)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["synthetic"] and metrics["before"]["images"] == metrics["after"]["images"] == metrics["n"] == 16
    assert metrics["before_whole_set"]["images"] == 179 and metrics["overlap"]["test"]["same_id"] == 0
    assert sum(metrics["after"]["cases"].values()) == 16 and 0 < metrics["trivial"]["ellipse"]["mean"] < 1
    assert set(metrics["faithfulness"]) == {"before", "after", "change"} and metrics["faithfulness"]["after"]["images"] == 2
    assert metrics["training_images"] == {"MEL": 89, "NV": 89, "BCC": 0, "AK": 0, "BKL": 89, "DF": 0, "VASC": 0, "SCC": 0}
    history = pd.read_csv(run / "history.csv")
    assert len(history) == 2 and metrics["validation"]["jaccard"] == pytest.approx(history["val_jaccard"].max(), abs=1e-6)
    # The four cases of the training images are counted in every epoch.
    assert (history[["both_right", "region_wrong", "class_wrong", "both_wrong"]].sum(axis=1) == 267).all()


def test_the_averages_follow_from_the_files(run):
    table, metrics = pd.read_csv(run / "jaccard.csv"), json.loads((run / "metrics.json").read_text())
    assert metrics["jaccard"] == pytest.approx(table["jaccard_after"].mean(), abs=1e-6)
    assert metrics["before"]["jaccard"]["mean"] == pytest.approx(table["jaccard_before"].mean(), abs=1e-6)
    assert metrics["accuracy"] == pytest.approx((table["predicted_after"] == table["label"]).mean())


def test_a_finished_run_is_left_alone(run, sample_cache, small_base):
    before = (run / "model.keras").stat().st_mtime_ns
    assert run_simulate(options_of(sample_cache, small_base, run, balance="upsampled", faithfulness=2)) == run
    assert (run / "model.keras").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="other settings"):
        run_simulate(options_of(sample_cache, small_base, run, balance="upsampled", faithfulness=2, epochs=3))


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (
            ["--fuse-stages", "2", "--feedback-form", "graded", "--explanation-loss", "graded"],
            {"fuse_stages": 2, "feedback_form": "graded", "explanation_loss": "graded"},
        ),
        (["--explanation-loss", "distance"], {"fuse_stages": 1, "explanation_loss": "distance"}),
    ],
    ids=["fused and graded", "distance"],
)
def test_the_theses_future_work_runs(words, kept, sample_cache, small_base, tmp_path, monkeypatch):
    """From the options to the report."""
    no_figures(monkeypatch)
    layer = [] if "--fuse-stages" in words else ["--layer", "conv2"]
    small = ["--epochs", "1", "--batch-size", "16", "--limit", "24", *layer, "--base", str(small_base)]
    places = ["--cache-dir", str(sample_cache), "--run-dir", str(tmp_path / "run")]
    assert main("feedback", COMMANDS, ["simulate", *words, *small, *places]) == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    assert kept.items() <= settings.items()
    history, metrics = pd.read_csv(tmp_path / "run" / "history.csv"), json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert np.isfinite(history["explanation"]).all() and 0 <= metrics["jaccard"] <= 1


def test_an_interrupted_run_ends_as_an_unbroken_one(run, sample_cache, small_base, tmp_path, monkeypatch):
    options = options_of(sample_cache, small_base, tmp_path / "again", balance="upsampled", faithfulness=2)

    def killed(*_):
        raise KeyboardInterrupt

    class Killed(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations > 20:  # in the second of two epochs of 17 steps
                killed()

    with monkeypatch.context() as patched:
        patched.setattr(online, "StopOnNaN", lambda *_, **__: Killed())
        with pytest.raises(KeyboardInterrupt):
            run_simulate(options)
    assert (tmp_path / "again" / "checkpoints" / "tuning" / "state.npz").is_file() and not (tmp_path / "again" / "model.keras").exists()
    release()
    with monkeypatch.context() as patched:
        patched.setattr(simulate, "outcome_of", killed)
        with pytest.raises(KeyboardInterrupt):
            run_simulate(options)
    simulate_lock = tmp_path / "again" / ".lock"
    assert simulate_lock.is_file() and not (tmp_path / "again" / "predictions.csv").exists()
    release()
    again = run_simulate(options)
    assert (again / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()
    # The untuned scores come from before the interruption, not from the tuned weights that were restored.
    for name in ("jaccard.csv", "faithfulness.csv"):
        assert (again / name).read_bytes() == (run / name).read_bytes()


def test_simulate_without_a_base_trains_the_samples(sample_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the base goes where it goes by default
    monkeypatch.setattr(baseline, "build_classifier", lambda _, size, classes, **__: small_classifier(classes, size))
    monkeypatch.setitem(baseline_settings.SAMPLE, "epochs", 1)
    monkeypatch.setitem(baseline_settings.SAMPLE, "image_size", 24)
    words = ["simulate", "--layer", "conv2", "--epochs", "1", "--limit", "24", "--batch-size", "16"]
    assert main("feedback", COMMANDS, [*words, "--cache-dir", str(sample_cache), "--run-dir", str(tmp_path / "run")]) == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    (trained,) = (tmp_path / "runs" / "feedback" / "baseline").iterdir()
    assert settings["base"] == trained.name and settings["image_size"] == 24 and (tmp_path / "run" / "report.md").is_file()
    seen = json.loads((tmp_path / "run" / "metrics.json").read_text())["seen_by_base"]
    assert (
        set(seen) == {"train", "validation", "test"} and "no printed number stands beside" in (tmp_path / "run" / "report.md").read_text()
    )


def test_a_loss_that_breaks_in_a_later_epoch_leaves_a_usable_model(sample_cache, small_base, tmp_path, monkeypatch, capsys):
    class Breaks(online.StopOnNaN):
        def on_epoch_begin(self, epoch, logs=None):
            super().on_epoch_begin(epoch, logs)
            if epoch == 1:
                self.model.optimizer.learning_rate.assign(3e38)

    monkeypatch.setattr(online, "StopOnNaN", Breaks)
    words = ["simulate", "--base", str(small_base), "--layer", "conv2", "--epochs", "3", "--batch-size", "16", "--clip-norm", "0",
             "--cache-dir", str(sample_cache), "--run-dir", str(tmp_path / "run")]  # fmt: skip
    assert main("feedback", COMMANDS, words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "the loss is" in line]
    assert re.search(
        r"the loss is not finite: (nan|inf) at step \d+ of epoch 2, learning rate 3e\+38; the model after epoch 1 is kept as run/last_good",
        line,
    )
    kept = keras.models.load_model(tmp_path / "run" / "last_good.keras").get_weights()
    start = keras.models.load_model(small_base / "model.keras").get_weights()
    assert all(np.isfinite(weight).all() for weight in kept)
    assert any((one != two).any() for one, two in zip(kept, start, strict=True))


def test_patience_ends_a_run_that_gets_no_better(sample_cache, small_base, tmp_path, monkeypatch):
    """With a rate that moves nothing no epoch is better than the first."""
    no_figures(monkeypatch)
    chosen = {"epochs": 9, "patience": 2, "limit": 24, "learning_rate": 1e-12, "anchor_weight": 0.0}
    folder = run_simulate(options_of(sample_cache, small_base, tmp_path / "run", **chosen))
    assert pd.read_csv(folder / "history.csv")["epoch"].tolist() == [1, 2, 3]
    assert json.loads((folder / "metrics.json").read_text())["validation"]["epoch"] == 1


def test_a_label_the_base_does_not_know(sample_cache, small_base, tmp_path):
    config = json.loads((small_base / "config.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({**config, "classes": ["MEL", "NV"]}))
    (other / "model.keras").write_bytes(b"")
    (other / "finished.json").write_text("{}")
    with pytest.raises(UsageError, match="the label BKL is outside its classes MEL, NV"):
        run_simulate(options_of(sample_cache, other, tmp_path / "run"))


def test_another_base_of_the_same_name_is_another_run(sample_cache, small_base, run, tmp_path):
    other = tmp_path / small_base.name
    shutil.copytree(small_base, other)
    with (other / "model.keras").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UsageError, match="other settings .base_model was"):
        run_simulate(options_of(sample_cache, other, run, balance="upsampled", faithfulness=2))


def test_a_broken_base_model(sample_cache, small_base, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_bytes((small_base / "config.json").read_bytes())
    (other / "model.keras").write_bytes(b"no model")
    (other / "finished.json").write_text("{}")
    with pytest.raises(UsageError, match="model.keras is damaged or cut off"):
        run_simulate(options_of(sample_cache, other, tmp_path / "run"))


def test_the_balanced_recipe_adapts_balances_and_keeps_the_classifier(sample_cache, small_base, tmp_path, monkeypatch):
    """From the options to the report: what the recipe stands for, what each epoch says, and by what it was chosen."""
    no_figures(monkeypatch)
    words = ["simulate", "--objective", "balanced-combined", "--adapt-epochs", "1", "--epochs", "2", "--batch-size", "8", "--limit", "48"]
    words += ["--layer", "conv2", "--base", str(small_base), "--cache-dir", str(sample_cache), "--run-dir", str(tmp_path / "run")]
    assert main("feedback", COMMANDS, words) == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    given = {"adapt_epochs": 1, "epochs": 2, "batch_size": 8}
    assert {**BALANCED, **given}.items() <= settings.items()
    assert stored(settings).weights_of_terms == (1.0, BALANCED["explanation_weight"])
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    tuning = history[history["stage"] == "tuning"]
    assert history["stage"].tolist() == ["adaptation", "tuning", "tuning"] and (tuning["learning_rate"].diff().dropna() < 0).all()
    shares = tuning[[column for column in history if column.startswith("val_share_")]]
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    assert {"val_balanced_accuracy", "val_auc", "val_jaccard", "val_accuracy", "anchor"} <= set(tuning)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    kept = tuning.loc[tuning["val_selection"].idxmax()]
    assert metrics["validation"]["epoch"] == kept["epoch"] and metrics["after"]["average_sensitivity_interval"]
    assert set(metrics["change"]) == {"accuracy", "average_sensitivity", "auc", "jaccard"}
    text = (tmp_path / "run" / "report.md").read_text()
    for said in (
        f"balanced-combined, weight {BALANCED['explanation_weight']:g}",
        "| test set | base | adapted | after |",
        "mean training mask",
        "| predicted ",
    ):
        assert said in text
