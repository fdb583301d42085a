"""One stage of training, the batches it sees, and what a run is known by."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

from cervical.data import Part, load_for_training
from cervical.experiments import contrastive, finetune
from cervical.experiments.base import Stage
from cervical.training import stages
from cervical.training.outcome import conclude
from common.data.pipeline import Batches
from common.errors import UsageError
from common.report import calibrate
from common.runs.reading import RunFolder
from tests.cervical.conftest import settings_of


def part_of(number: int) -> Part:
    images = np.random.default_rng(0).integers(0, 256, (number + 3, 4, 4, 3)).astype("uint8")
    return Part(images, np.arange(number + 3, dtype="int32") % 5, np.arange(number)[::-1] + 3)


@pytest.mark.parametrize("number", [0, 1, 7, 10])
def test_outputs_follow_the_rows_whatever_the_batch(number):
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    part = part_of(number)
    found = stages.outputs(model, part, batch_size=4)
    assert found.shape == (number, 3)
    assert found == pytest.approx(part.images[part.rows].mean(axis=(1, 2)), abs=1e-3)


@pytest.mark.parametrize(("number", "size"), [(648, 216), (50, 50), (10, 32), (257, 32), (512, 256)])
def test_validation_batches_have_one_size_where_they_can(number, size):
    found = stages.evaluation_batches(part_of(number), finetune.DESCRIBED)
    assert found.batch_size == size
    assert sum(len(found[index][0]) for index in range(len(found))) == number


def test_a_run_is_its_recipe_and_its_seed(sample_cache):
    plain = settings_of("finetune", "--cache-dir", sample_cache)
    dataset = load_for_training(plain)

    def folder(settings):
        return stages.default_run_dir("finetune", settings, dataset)

    assert folder(plain) == folder(replace(plain, freeze=0)), "the paper freezes nothing of a network from scratch"
    assert folder(plain) == folder(replace(plain, log="tensorboard", run_dir=None, skip_unreadable=True))
    others = [{"freeze": 7}, {"seed": 1}, {"precision": "mixed_bfloat16"}, {"training": Stage()}, {"limit": 100}, {"views": True}]
    assert len({folder(plain), *(folder(replace(plain, **other)) for other in others)}) == 1 + len(others)
    assert folder(plain).name.startswith("sample-mobilenetv2_035-paper-described-seed0-")


def test_cosine_falls_from_the_rate_to_nothing():
    stage = Stage(epochs=4, learning_rate=0.8)
    assert [stages.cosine(stage, epoch) for epoch in (0, 2, 4)] == pytest.approx([0.8, 0.4, 0.0])


def test_config_tells_the_precision_of_the_run(tmp_path, sample_cache):
    words = ("--cache-dir", sample_cache, "--limit", "25", "--image-size", "32", "--copies", "0", "--run-dir", tmp_path / "run")
    try:
        job = stages.begin("finetune", settings_of("finetune", *words, "--precision", "mixed_bfloat16"))
        assert job.run.config["precision"] == job.run.settings["precision"] == "mixed_bfloat16"
        job.run.release()
    finally:
        keras.config.set_dtype_policy("float32")


def test_intervals_keep_cluster_images_of_the_same_cell_together(tmp_path, sample_cache, monkeypatch):
    words = ("--cache-dir", sample_cache, "--limit", "50", "--image-size", "32", "--copies", "0", "--run-dir", tmp_path / "run")
    job = stages.begin("finetune", settings_of("finetune", *words))
    manifest = job.cells.manifest.assign(field=job.cells.manifest["group"])
    first, second = manifest.index[manifest["split"] == "test"][:2]
    manifest.loc[second, "field"] = manifest.loc[first, "field"]
    manifest.loc[manifest["split"] == "validation", "field"] = manifest.loc[first, "field"]
    job = replace(job, cells=replace(job.cells, manifest=manifest))
    stages.write_manifest(job.run, job.cells)
    inputs = keras.Input((32, 32, 3))
    means = keras.layers.GlobalAveragePooling2D()(inputs)
    stages.baselines(job, keras.Model(inputs, means))
    conclude(job, keras.Model(inputs, keras.layers.Dense(5, activation="softmax")(means)), "Cells")
    for name in ("predictions.csv", "baselines.csv"):
        group = pd.read_csv(tmp_path / "run" / name).drop_duplicates("image").set_index("image")["group"]
        assert group[manifest.loc[first, "image"]] == group[manifest.loc[second, "image"]] and group.nunique() == len(group) - 1
    # Of validation images too: what `calibrate` puts beside the predictions.
    monkeypatch.setattr(calibrate, "run_files", lambda folder, data_dir, names: names)
    monkeypatch.setattr(
        calibrate,
        "predict_images",
        lambda folder, names: pd.DataFrame(dict.fromkeys(map("prob_{}".format, job.cells.classes), [0.2] * len(names))),
    )
    found = calibrate.validation_outcome(RunFolder.of(tmp_path / "run"), job.cells.classes, None)
    assert found.groups.tolist() == manifest.loc[manifest["split"] == "validation", "field"].tolist()


def trained(stage: Stage, monkeypatch, epochs: int = 1, short: int = 50) -> tuple[dict, keras.Model, list[int], Batches]:
    """Arguments of `fit`, the model, the epochs whose validation statistics were recomputed for (-1: at the end), and the batches."""
    given, calls = {}, []
    monkeypatch.setattr(stages, "SHORT_RUN", short)
    history = pd.DataFrame({"epoch": range(epochs)})
    monkeypatch.setattr(stages, "fit", lambda *_, **named: given.update(named) or history)
    monkeypatch.setattr(stages, "recompute_batchnorm", lambda *_: calls.append(-1))
    train = Batches(np.zeros((4, 4), dtype="uint8"), np.zeros(4, dtype="int32"), batch_size=2)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.BatchNormalization(momentum=0.999)(inputs))
    validation = train if stage.looks_at_validation else None
    stages.train_stage(SimpleNamespace(run=None, settings=finetune.DESCRIBED), model, "training", stage, train, validation)
    recompute = given["extra_callbacks"][0]
    return given, model, [epoch for epoch in range(stage.epochs) if recompute.when(epoch)] + calls, train


@pytest.mark.parametrize(
    ("stage", "epochs", "recomputed"),
    [
        (Stage(epochs=3), 3, [0, 1, 2]),  # every validation decides
        (Stage(epochs=3, schedule="cosine", keep="last"), 3, [2, -1]),  # none does, and there is no validation here
        (Stage(epochs=40), 40, list(range(25))),  # 2 steps an epoch: after 50 the averages have followed
    ],
)
def test_statistics_are_recomputed_before_the_epoch_is_chosen(stage, epochs, recomputed, monkeypatch):
    _, model, found, train = trained(stage, monkeypatch, epochs)
    assert found == recomputed
    planned = stage.epochs * 2
    assert model.layers[1].momentum == (0.9 if planned <= 50 else 0.999)
    notes = stages.short_run_note(pd.DataFrame({"epoch": range(epochs)}), train, stage)
    assert bool(notes) == (planned <= 50) and all("momentum 0.9" in note for note in notes)


def test_first_batches_are_the_same_in_every_epoch():
    part = part_of(8)
    train = stages.batches(part, replace(finetune.DESCRIBED, batch_size=4), shuffle=True)
    first = [labels.tolist() for _, labels in stages.first_batches(train)]
    train.epoch = 7
    assert [labels.tolist() for _, labels in stages.first_batches(train)] == first and train.epoch == 7


@pytest.mark.parametrize(("settings", "falls"), [(contrastive.DESCRIBED, False), (contrastive.CODED, False), (contrastive.CORRECTED, True)])
def test_control_has_a_plateau_rule_only_where_the_encoder_has_one(settings, falls, monkeypatch):
    given, *_ = trained(settings.control_stage, monkeypatch)
    assert (given["reduce_lr"] is not None) == falls and given["schedule"] is None
    assert given["select"] == settings.control_stage.keep


def test_no_validation_images_is_one_clear_line():
    part = part_of(3)
    none = replace(part, rows=part.rows[:0])
    assert stages.evaluation_batches(none, finetune.DESCRIBED) is None
    with pytest.raises(UsageError, match="no validation images to choose an epoch by"):
        stages.train_stage(None, None, "training", Stage(), None, None)
    with pytest.raises(UsageError, match="0 images make no batch of 32"):
        stages.batches(none, finetune.DESCRIBED)
