"""Prediction in whole batches, validation batches of one size, short runs, and what identifies a run."""

import json
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest

from cervical.config import CODED, DESCRIBED, ContrastiveOptions, CostSensitiveOptions, FinetuneOptions
from cervical.data import Part, load
from cervical.grids.cells import cell
from cervical.training import stages
from common.data.pipeline import Batches
from common.errors import UsageError


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
    found = stages.evaluation_batches(part_of(number), DESCRIBED)
    assert found.batch_size == size
    assert sum(len(found[index][0]) for index in range(len(found))) == number


def test_what_does_not_concern_a_method_does_not_make_another_run(sample_cache):
    options = FinetuneOptions(cache_dir=sample_cache)
    dataset = load(options)

    def folder(method, settings, given=options):
        return stages.default_run_dir(method, settings, given, dataset)

    assert folder("finetune", DESCRIBED) == folder("finetune", replace(DESCRIBED, costs="balanced", loss="supcon"))
    assert folder("contrastive", DESCRIBED) == folder("contrastive", replace(DESCRIBED, freeze=7, init="finetuned"))
    assert folder("finetune", DESCRIBED) != folder("finetune", replace(DESCRIBED, freeze=7))
    assert folder("contrastive", DESCRIBED) != folder("contrastive", replace(DESCRIBED, loss="supcon"))
    assert folder("finetune", DESCRIBED) != folder("finetune", CODED)
    assert folder("finetune", DESCRIBED) != folder("finetune", DESCRIBED, replace(options, precision="mixed_bfloat16"))


def test_later_options_leave_the_names_of_earlier_runs_alone(sample_cache):
    options = FinetuneOptions(cache_dir=sample_cache)
    plain = stages.identity("finetune", DESCRIBED, options, load(options))
    assert "views" not in plain and "schedule" not in plain["finetune"]
    changed = replace(DESCRIBED, views=True, finetune=replace(DESCRIBED.finetune, schedule="cosine"))
    told = stages.identity("finetune", changed, options, load(options))
    assert told["views"] is True and told["finetune"]["schedule"] == "cosine"
    assert "schedule" not in stages.identity("contrastive", changed, options, load(options))["encoder"]


def test_cosine_falls_from_the_rate_to_nothing():
    stage = replace(DESCRIBED.finetune, epochs=4, learning_rate=0.8)
    assert [stages.cosine(stage, epoch) for epoch in (0, 2, 4)] == pytest.approx([0.8, 0.4, 0.0])


def test_a_file_of_costs_enters_by_its_content(tmp_path, sample_cache):
    path = tmp_path / "costs.csv"
    path.write_text("a,1\n")
    options = CostSensitiveOptions(costs=str(path), cache_dir=sample_cache)
    dataset = load(options)
    settings = stages.resolve("cost-sensitive", options, ("a",))
    first = stages.identity("cost-sensitive", settings, options, dataset)
    assert first["costs"] == "costs.csv" and str(tmp_path) not in json.dumps(first)
    path.write_text("a,2\n")
    assert stages.identity("cost-sensitive", settings, options, dataset) != first


def test_other_classes_get_balanced_costs_unless_the_user_insists():
    assert stages.resolve("cost-sensitive", CostSensitiveOptions(), ("cat", "dog")).costs == "balanced"
    assert stages.resolve("cost-sensitive", CostSensitiveOptions(costs="printed"), ("cat", "dog")).costs == "printed"
    assert stages.resolve("contrastive", ContrastiveOptions(), ("cat", "dog")).costs == "printed"


@pytest.mark.parametrize("existed", [True, False])
def test_bad_weights_leave_no_new_folder_behind(tmp_path, sample_cache, existed):
    from cervical.training import run_finetune

    weights, folder = tmp_path / "no.weights.h5", tmp_path / "run"
    weights.write_text("not weights")
    if existed:
        folder.mkdir()
    options = FinetuneOptions(cache_dir=sample_cache, limit=25, image_size=32, copies=0, weights=str(weights), run_dir=folder)
    with pytest.raises(UsageError, match="--weights .*no.weights.h5: cannot be loaded into MobileNetV2 0.35"):
        run_finetune(options)
    assert sorted(tmp_path.iterdir()) == sorted([weights, *([folder] if existed else [])])
    assert not existed or not list(folder.iterdir())
    # The same folder with the mended command is taken.
    job = stages.begin("finetune", replace(options, weights=None))
    assert job.run.fresh
    job.run.release()


def test_config_tells_the_precision_of_the_run(tmp_path, sample_cache):
    given = {"cache_dir": sample_cache, "limit": 25, "image_size": 32, "copies": 0, "run_dir": tmp_path / "run"}
    try:
        job = stages.begin("finetune", FinetuneOptions(**given, precision="mixed_bfloat16"))
        assert job.run.config["precision"] == job.run.settings["precision"] == "mixed_bfloat16"
        job.run.release()
    finally:
        keras.config.set_dtype_policy("float32")


def test_a_grid_is_told_of_another_weights_file_too(tmp_path, sample_cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.h5").write_bytes(b"one")
    options = FinetuneOptions(cache_dir=sample_cache, limit=25, image_size=32, copies=0, weights=str(tmp_path / "w.h5"))
    dataset = load(options)
    job = stages.begin("finetune", options)
    job.run.finish()
    assert cell("finetune", options, dataset, {}).finished
    (tmp_path / "w.h5").write_bytes(b"two")
    with pytest.raises(UsageError, match="another file of this name"):
        cell("finetune", options, dataset, {})


@pytest.mark.parametrize(("epochs", "planned", "steps"), [(2, 100, 4), (2, 2, 4), (3000, 3000, 6000)])
def test_statistics_are_recomputed_by_the_steps_done(epochs, planned, steps, monkeypatch):
    history, calls = pd.DataFrame({"epoch": range(epochs)}), []
    train = Batches(np.zeros((4, 4, 4, 3), dtype="uint8"), np.zeros(4, dtype="int32"), batch_size=2)
    train.epoch = 7  # as after a fit in this process
    monkeypatch.setattr(stages, "SHORT_RUN", 50)
    monkeypatch.setattr(stages, "fit", lambda *_, **__: history)
    monkeypatch.setattr(stages, "recompute_batchnorm", lambda *_: calls.append(train.epoch))
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.BatchNormalization(momentum=0.999)(inputs))
    job = SimpleNamespace(run=None, options=FinetuneOptions())
    stage = replace(DESCRIBED.finetune, epochs=planned)
    stages.train_stage(job, model, "training", stage, train, train)
    assert calls == ([0] if steps < 50 else [])
    notes = stages.short_run_note(history, train, stage)
    assert bool(notes) == bool(calls)
    momentum = model.layers[1].momentum
    assert momentum == (0.9 if planned * 2 < 50 else 0.999) and all(("momentum 0.9" in note) == (momentum == 0.9) for note in notes)


def test_no_validation_images_is_one_clear_line():
    part = part_of(3)
    none = replace(part, rows=part.rows[:0])
    assert stages.evaluation_batches(none, DESCRIBED) is None
    with pytest.raises(UsageError, match="no validation images to choose an epoch by"):
        stages.train_stage(None, None, "training", DESCRIBED.finetune, None, None)
    with pytest.raises(UsageError, match="0 images make no batch of 32"):
        stages.batches(none, DESCRIBED)


def test_a_bad_file_of_costs_is_told_before_anything_is_trained(tmp_path, sample_cache, monkeypatch):
    from cervical.training import run_cost_sensitive

    monkeypatch.chdir(tmp_path)
    (tmp_path / "costs.csv").write_text("Parabasal,2\n")
    options = CostSensitiveOptions(cache_dir=sample_cache, limit=25, costs="costs.csv", init="finetuned")
    with pytest.raises(UsageError, match="no entry for 'Dyskeratotic'"):
        run_cost_sensitive(options)
    assert not (tmp_path / "runs").exists()
