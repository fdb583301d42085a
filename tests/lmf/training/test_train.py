"""`lmf train` from options to a whole run folder, on a few drawn images."""

import json
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.errors import UsageError
from lmf import paper
from lmf.experiments.train import TrainSettings, default
from lmf.losses import ClassBalancedLoss, FocalLoss, LMFLoss, LogitAdjustedLoss
from lmf.training import train as training

FILES = ("contents.json", "manifest.csv", "history.csv", "model.keras", "predictions.csv", "metrics.json", "report.md", "model_card.md")


@pytest.fixture(scope="module")
def run(trained):
    return trained


def test_a_run_leaves_everything_behind(run):
    assert all((run.path / name).is_file() for name in FILES)
    assert all((run.path / "control" / name).is_file() for name in FILES)
    assert run.finished and (run.path / "figures" / "confusion.png").is_file()
    config = json.loads((run.path / "config.json").read_text())
    assert config["settings"]["loss"] == "lmf" and config["synthetic"] and config["settings"]["sample"] == "ham10000"
    assert config["settings"]["alpha"] == 1.0 and len(config["settings"]["class_counts"]) == 7
    manifest, table = (pd.read_csv(run.path / name) for name in ("manifest.csv", "predictions.csv"))
    groups = table["image"].map(manifest.set_index("image")["group"])
    assert groups.duplicated().any() and table["group"].tolist() == groups.tolist()
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert metrics["resampled_groups"] == groups.nunique()
    assert metrics["synthetic"] and 0 <= metrics["macro_f1"] <= 1 and 0 <= metrics["validation_macro_f1"] <= 1
    assert set(metrics["shared_with_training"]) == {"test", "validation"}


def test_the_report_is_marked_synthetic_and_compares_with_the_control(run):
    report = (run.path / "report.md").read_text()
    assert "Synthetic data" in report and "control" in report and "share their lesion or patient" in report


def test_the_selected_epoch_is_the_best_on_validation(run):
    history = pd.read_csv(run.path / "history.csv")
    metrics = json.loads((run.path / "metrics.json").read_text())
    best = history.loc[history["val_macro_f1"].idxmax()]
    assert metrics["selected_epoch"] == best["epoch"]
    assert metrics["validation_macro_f1"] == pytest.approx(best["val_macro_f1"], rel=1e-6)


def test_the_saved_model_gives_the_written_predictions(run, options_of, sample_cache):
    from common.data.images import cached_images
    from lmf import data

    table = pd.read_csv(run.path / "predictions.csv", dtype={"image": str})
    dataset = data.load(options_of(None))
    images = cached_images(dataset, 32, "bilinear", sample_cache)
    row = int(np.flatnonzero(dataset.manifest["image"] == table["image"][0])[0])
    model = keras.saving.load_model(run.path / "model.keras", compile=False)
    probabilities = model.predict(images[row : row + 1].astype("float32"), verbose=0)[0]
    assert probabilities == pytest.approx(table.filter(like="prob_").iloc[0].to_numpy(), abs=1e-4)


def test_a_finished_run_is_left_alone_and_other_settings_are_refused(run, options_of):
    before = (run.path / "metrics.json").stat().st_mtime_ns
    assert training.train(options_of(run.path, control=True)).finished
    assert (run.path / "metrics.json").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="holds a run of other settings"):
        training.train(options_of(run.path, control=True, loss="focal"))


def test_another_network_file_of_the_same_name_is_refused(run, options_of, network, tmp_path):
    other = tmp_path / network.name
    body = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3, 2)])
    body.save(other)
    for folder in (run.path, run.path / "control"):
        assert len(json.loads((folder / "config.json").read_text())["settings"]["network_sha256"]) == 64
    with pytest.raises(UsageError, match="network_sha256 was"):
        training.train(options_of(run.path, control=True, network=other))


def test_train_and_control_saw_the_same_images(run):
    first, second = (pd.read_csv(path / "manifest.csv") for path in (run.path, run.path / "control"))
    assert first.equals(second)


def test_where_no_lesions_are_named_leakage_is_unknown_not_zero(options_of, tmp_path):
    run = training.train(options_of(tmp_path / "run", sample="covid_radiography", limit=40, epochs=1))
    for name in ("report.md", "model_card.md"):
        text = (run.path / name).read_text()
        assert "The data name no lesions or patients; leakage unknown" in text and "share their lesion" not in text
    assert set(json.loads((run.path / "metrics.json").read_text())["shared_with_training"].values()) == {None}


@pytest.mark.parametrize("sample", ["odir5k", "isic2019"])
def test_the_other_samples_train_and_the_rate_decays(options_of, tmp_path, sample):
    """Divided by ten every epoch here: the history says what the optimiser used."""
    run = training.train(
        options_of(tmp_path / "run", sample=sample, limit=60, epochs=3, decay_share=1 / 3, learning_rate=1e-2, loss="focal")
    )
    history = pd.read_csv(run.path / "history.csv")
    assert history["learning_rate"].tolist() == pytest.approx([1e-2, 1e-3, 1e-4], rel=1e-5)
    assert (run.path / "report.md").is_file() and json.loads((run.path / "config.json").read_text())["settings"]["sample"] == sample


def test_settings_reach_the_loss():
    settings = replace(default("coded", "sample"), alpha=0.5, beta=2.0, gamma=3.0, max_margin=0.25)
    loss = training.loss_of(settings, [5, 9])
    assert isinstance(loss, LMFLoss) and loss.coded
    assert (loss.alpha, loss.beta, loss.gamma, loss.max_margin, loss.scale) == (0.5, 2.0, 3.0, 0.25, 30.0)
    focal = training.loss_of(TrainSettings(loss="focal"), [5, 9])
    assert isinstance(focal, FocalLoss) and focal.gamma == 1.5
    weighted = training.loss_of(TrainSettings(loss="class_balanced", effective_beta=0.9), [5, 9])
    assert isinstance(weighted, ClassBalancedLoss) and weighted.beta == 0.9
    adjusted = training.loss_of(TrainSettings(loss="logit_adjusted", tau=0.5), [5, 9])
    assert isinstance(adjusted, LogitAdjustedLoss) and adjusted.tau == 0.5
    cosine = training.loss_of(replace(settings, head="cosine", head_scale=16.0), [5, 9])
    assert (cosine.scale, cosine.head_scale, cosine.coded) == (1.0, 16.0, True)


def test_everything_against_imbalance_at_once(options_of, tmp_path):
    """Loss, draws, deferred weights, cosine head and adjustment compose; the adjustment is in the saved model and in validation."""
    values = {"loss": "ldam", "sampler": "balanced", "deferred_share": 0.5, "head": "cosine", "adjust_tau": 1.0, "limit": 90}
    run = training.train(options_of(tmp_path / "run", **values))
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert {"head_f1", "middle_f1", "tail_f1"} <= set(metrics)
    assert set(metrics["baselines"]) == {"majority class", "logistic probe"}
    model = keras.saving.load_model(run.path / "model.keras", compile=False)
    assert abs(np.asarray(model.get_layer("logits").bias)).max() > 0
    report = (run.path / "report.md").read_text()
    assert "with balanced draws, deferred re-weighting, a cosine head, logits adjusted afterwards" in report


def test_a_limit_keeps_the_imbalance_unless_a_balanced_one_is_asked_for(options_of):
    from lmf import data

    own, balanced = (data.load(options_of(None, limit=90, balanced_limit=flag)).manifest["label"].value_counts() for flag in (False, True))
    assert own.max() > 2 * own.min() and balanced.max() < own.max()


def test_printed_numbers_stand_beside_the_papers_problem_only():
    counts = sorted(paper.train_counts("ham10000").values())
    ours = {
        "dataset": "ham10000",
        "backbone": "efficientnetv2s",
        "loss": "lmf",
        "split": "paper",
        "image_size": 224,
        "limit": None,
        "epochs": 100,
    }
    ours |= {"class_counts": counts, "classes": ["df", "nv"]}
    printed = training.printed_numbers(ours)
    assert printed["macro_f1"].value == pytest.approx(0.8461) and printed["macro_f1"].source == "paper, Table 2"
    assert printed["per_class.df.f1"].value == pytest.approx(0.80)
    assert training.printed_numbers({**ours, "sampler": "shuffle", "adjust_tau": 0.0}) == printed
    for name, value in {"sampler": "balanced", "head": "cosine", "deferred_share": 0.8, "adjust_tau": 1.0}.items():
        assert training.printed_numbers({**ours, name: value}) == {}, name
    others = {"limit": 64, "image_size": 32, "split": "grouped", "class_counts": [*counts, 9], "dataset": "sample", "backbone": "vgg16"}
    for name, value in others.items():
        assert training.printed_numbers({**ours, name: value}) == {}, name


def test_a_killed_run_ends_like_an_unbroken_one(run, options_of, tmp_path, monkeypatch):
    """Stopped after its first epoch, started again: the same predictions to the last digit."""
    from common.runs import fitting

    say = fitting._Keeper._say

    def stop(self, row):
        say(self, row)
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting._Keeper, "_say", stop)
        with pytest.raises(KeyboardInterrupt):
            training.train(options_of(tmp_path / "run"))
    # The lock dies with the process that held it; here it is the same process.
    import gc

    gc.collect()
    again = training.train(options_of(tmp_path / "run"))
    assert (again.path / "predictions.csv").read_bytes() == (run.path / "predictions.csv").read_bytes()


def test_anyones_folders_with_any_keras_model(options_of, network, tmp_path):
    rng = np.random.default_rng(0)
    for label, count, grey in (("common", 24, 60), ("rare", 8, 190)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for index in range(count):
            pixels = np.clip(rng.normal(grey, 15, (20, 24, 3)), 0, 255).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{index}.png")
    for index in range(24):
        path = tmp_path / "masks" / "common" / f"{index}_segmentation.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 24), 255, np.uint8)).save(path)
    values = {"dataset": "folders", "data_dir": tmp_path / "data", "cache_dir": tmp_path / "cache", "learning_rate": 0.01}
    values["mask_dir"] = tmp_path / "masks"
    run = training.train(options_of(tmp_path / "run", **values))
    config = json.loads((run.path / "config.json").read_text())
    assert config["settings"]["network"] == network.name and not config["synthetic"]
    assert config["classes"] == ["common", "rare"] and config["settings"]["class_counts"] == [16, 6]
    manifest = pd.read_csv(run.path / "manifest.csv", keep_default_na=False)
    assert (manifest.loc[manifest["label"] == "common", "mask_lesion"] != "").all(), "explain measures maps against the masks"


@pytest.mark.slow
@pytest.mark.parametrize("reading", ["coded", "corrected"])
def test_the_other_readings_with_a_real_backbone(reading, sample_cache, tmp_path):
    values = {"image_size": 32, "epochs": 1, "cache_dir": sample_cache, "run_dir": tmp_path / "run", "reading": reading, "limit": 60}
    run = training.train(replace(default(reading, "sample"), **values, sample="covid_radiography"))
    config = json.loads((run.path / "config.json").read_text())
    assert config["reading"] == reading and config["split"] == {"coded": "paper", "corrected": "grouped"}[reading]
    assert (run.path / "control").is_dir() == (reading == "corrected")


def test_a_control_that_is_asked_for_later_stands_in_the_report(options_of, tmp_path):
    run = training.train(options_of(tmp_path / "run", epochs=1))
    assert "## Beside the control" not in (run.path / "report.md").read_text()
    training.train(options_of(tmp_path / "run", epochs=1, control=True))
    assert "## Beside the control" in (run.path / "report.md").read_text()


def test_plain_cross_entropy_is_its_own_control(options_of, tmp_path):
    run = training.train(options_of(tmp_path / "run", loss="cce", control=True, epochs=1))
    assert run.finished and not (run.path / "control").exists()


def test_a_training_is_logged_where_it_was_asked_to_be(options_of, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    run = training.train(options_of(tmp_path / "run", loss="cce", epochs=1, log="tensorboard"))
    assert list((run.path / "tensorboard").glob("events.*"))
