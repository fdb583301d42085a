"""One indicator's training: the order of its steps, what selects the epoch, the snapshot that stays, a killed run against an unbroken."""

import json
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from keras import ops

from common import stopping
from common.cli import main
from common.data.pipeline import Batches
from common.errors import UsageError
from common.runs.fitting import fit
from common.runs.folder import Run
from melanoma.__main__ import COMMANDS
from melanoma.experiments.train import BioUNetSettings
from melanoma.losses import SoftDiceLoss
from melanoma.training import batches as batching
from melanoma.training import indicator
from melanoma.training.evaluation import Localisation
from melanoma.training.inputs import Inputs, load_inputs, open_run
from melanoma.training.pipeline import localise

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")


def test_an_endless_stream_of_batches_counts_its_epochs() -> None:
    batches = batching.full_batches(np.arange(10), rows=np.arange(10), batch_size=4, seed=0)
    assert len(batches) == 2
    seen = [batching.at(batches, step).tolist() for step in range(6)]
    assert batches.epoch == 2
    assert seen[0] != seen[2] != seen[4]
    assert len(set(seen[0] + seen[1])) == 8
    assert batching.at(batches, 3).tolist() == seen[3]
    assert isinstance(batches, Batches)


@pytest.fixture(scope="module")
def inputs(isic: Path, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    chosen = BioUNetSettings(
        dataset="isic2018", data_dir=isic, cache_dir=tmp_path_factory.mktemp("cache"), backbone="mobilenetv2_035", weights="none",
        image_size=64, classifier_epochs=2, segmentation_epochs=2, learning_rate=0.001, simclr=False, indicators=("globules",), repeats=2,
    )  # fmt: skip
    return load_inputs(chosen)


@pytest.fixture(scope="module")
def networks(tiny: None, inputs: Inputs) -> indicator.Networks:
    return indicator.Networks(inputs, indicator.make_task(inputs, ("globules",)), None)


def values(variables: Sequence) -> list[np.ndarray]:
    return [ops.convert_to_numpy(v) for v in variables]


def same(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def alternation(networks: indicator.Networks, **changes: object) -> tuple[indicator.Alternation, Any]:
    """As its first epoch finds it, and its batches: the networks as they began."""
    inputs = networks.inputs
    task = indicator.make_task(inputs, ("globules",))
    networks.reset(task)
    held = Batches(inputs.images, task.labels, rows=inputs.rows("validation"), batch_size=16)
    made = indicator.Alternation(networks, task, held)
    made.settings = replace(made.settings, **changes)
    batches = batching.full_batches(inputs.images, task.labels, rows=inputs.rows("train"), batch_size=16, seed=0)
    return made, made.rounds(batches, None)


def one_epoch(made: indicator.Alternation, rounds: Any) -> dict[str, float]:
    made._snapshot()
    for index in range(len(rounds)):
        made._round(*rounds[index])
    return made._losses()


def train(made: indicator.Alternation, rounds: Any, run: Run) -> None:
    fit(made, rounds, run=run, stage="segmentation", epochs=made.settings.segmentation_epochs, select="best", patience=6)


def test_each_iteration_is_one_classifier_step_and_then_the_repeats(networks: indicator.Networks, monkeypatch) -> None:
    steps = []
    made, rounds = alternation(networks)
    monkeypatch.setattr(networks.classifier, "train_on_batch", lambda images, labels: steps.append(("bce", len(images))) or 1.0)
    monkeypatch.setattr(networks.segmenter, "train_on_batch", lambda maps, masks: steps.append(("dice", len(masks))) or 0.5)
    losses = one_epoch(made, rounds)
    assert len(rounds) == 2  # 32 training images
    assert steps == [("bce", 16), ("dice", 8), ("dice", 8)] * 2
    assert losses == {"loss": 0.5, "bce": 1.0, "dice_loss": 0.5}  # `loss` is of the kind that selects the epoch


def test_what_is_drawn_does_not_depend_on_how_many_were_drawn_before(networks: indicator.Networks) -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random((19, *stage.shape[1:])).astype("float16") for stage in networks.segmenter.inputs]
    alone = networks.draw([stage[:3] for stage in maps])
    together = networks.draw(maps)
    assert together.shape == (19, 64, 64, 1)
    np.testing.assert_array_equal(together[:3], alone)
    np.testing.assert_allclose(together, networks.segmenter.predict([stage.astype("float32") for stage in maps], verbose=0), atol=1e-5)


def test_the_epoch_is_selected_by_soft_dice_on_images_with_the_indicator(networks: indicator.Networks, monkeypatch) -> None:
    made, _ = alternation(networks)
    made._snapshot()
    inputs = networks.inputs
    rows = made.drawn["validation"]
    assert set(rows) == {row for row in inputs.rows("validation") if inputs.present["globules"][row]}
    assert len(rows) < len(inputs.rows("validation"))
    drawn = np.full((len(rows), 64, 64, 1), 0.5, "float32")
    monkeypatch.setattr(networks, "draw", lambda maps: drawn)
    monkeypatch.setattr(networks.classifier, "evaluate", lambda *_, **__: 7.0)
    found = made._validate()
    assert found["val_bce"] == 7.0
    assert found["val_loss"] == found["val_dice_loss"] == pytest.approx(float(SoftDiceLoss()(made.masks(rows), drawn)), rel=1e-5)


def test_rising_cross_entropy_does_not_throw_the_segmentation_away(networks: indicator.Networks, tmp_path: Path, monkeypatch) -> None:
    (made, rounds), epochs = alternation(networks), []

    def losses() -> dict[str, float]:
        epochs.append(len(epochs))
        networks.classifier.get_layer("logits").bias.assign([float(len(epochs))])
        return {"loss": 0.0, "dice_loss": 0.0}

    monkeypatch.setattr(networks, "draw", lambda maps: made.masks(made.drawn["validation"]) * (0.1 + 0.4 * len(epochs)))
    monkeypatch.setattr(networks.classifier, "evaluate", lambda *_, **__: 5.0 * len(epochs))
    monkeypatch.setattr(made, "_round", lambda *_: None)
    monkeypatch.setattr(made, "_losses", losses)
    train(made, rounds, open_run(made.inputs, "train", tmp_path))
    assert epochs == [0, 1]
    assert values([networks.classifier.get_layer("logits").bias])[0].tolist() == [2.0]


def test_both_losses_may_select_the_epoch(networks: indicator.Networks, monkeypatch) -> None:
    """Issue 20, fault 2: a stopping rule that also watches cross-entropy; `loss` and `val_loss` are of one kind (fault 7)."""
    made, rounds = alternation(networks, watch="dice+bce")
    made._snapshot()
    monkeypatch.setattr(networks, "draw", lambda maps: made.masks(made.drawn["validation"]))
    monkeypatch.setattr(networks.classifier, "evaluate", lambda *_, **__: 7.0)
    assert made._validate()["val_loss"] == pytest.approx(7.0, abs=1e-3)
    monkeypatch.setattr(networks.classifier, "train_on_batch", lambda *_: 1.0)
    monkeypatch.setattr(networks.segmenter, "train_on_batch", lambda *_: 0.5)
    assert one_epoch(made, rounds)["loss"] == 1.5


def test_the_kept_u_net_is_tested_with_the_snapshot_it_was_validated_with(
    networks: indicator.Networks, tmp_path: Path, monkeypatch
) -> None:
    """Issue 20, fault 8: interleaved, the snapshot went on to the next epoch's."""
    made, rounds = alternation(networks, order="interleaved", segmentation_epochs=4)
    bias, seen = networks.classifier.get_layer("logits").bias, []

    def losses() -> dict[str, float]:
        bias.assign([float(len(seen) + 1)])
        return {"loss": 0.0}

    def dice() -> float:
        seen.append(values(networks.snapshot.variables))
        return [2.0, 1.0, 3.0, 4.0][len(seen) - 1]

    monkeypatch.setattr(made, "_round", lambda *_: None)
    monkeypatch.setattr(made, "_losses", losses)
    monkeypatch.setattr(made, "_validation_dice", dice)
    train(made, rounds, open_run(made.inputs, "train", tmp_path))
    assert values([bias])[0].tolist() == [2.0]  # the second epoch is the best
    assert same(values(networks.snapshot.variables), seen[1])
    assert not same(seen[1], seen[2])
    assert same(seen[2], seen[3])  # no better epoch, no other snapshot


def test_the_snapshot_stays_while_the_encoder_learns(networks: indicator.Networks) -> None:
    made, rounds = alternation(networks)
    made._snapshot()
    before, trained = values(networks.snapshot.variables), values(networks.classifier.variables)
    maps = networks.maker(networks.inputs.images[:2], made.weights, made.follow)
    one_epoch(made, rounds)
    assert same(values(networks.snapshot.variables), before)
    assert not same(values(networks.classifier.variables), trained)
    networks.classifier_maps(networks.inputs.images[:2], made.weights, made.follow)
    assert same(values(networks.snapshot.variables), before)
    for first, second in zip(maps, networks.maker(networks.inputs.images[:2], made.weights, made.follow), strict=True):
        assert np.array_equal(first, second)


def test_the_sheets_show_the_heatmaps_that_the_u_net_reads(networks: indicator.Networks) -> None:
    """Issue 20, fault 7: the twelve that were drawn were the finished encoder's, not the snapshot's."""
    made, rounds = alternation(networks)
    one_epoch(made, rounds)  # the classifier goes on, the snapshot stays
    found = Localisation(networks.inputs)
    localise(networks, made.task, found)
    last = networks.maker(networks.inputs.images[found.shown("globules")], made.weights, made.follow)[-1]
    assert np.array_equal(found.arrays["globules/heatmap_12"], last)
    assert not np.array_equal(found.arrays["globules/gradcam"], last)  # the map that is scored is the encoder's own


@pytest.mark.parametrize("order", ["phases", "interleaved"])
def test_terminated_between_two_rounds_it_ends_like_an_unbroken_one(
    networks: indicator.Networks, tmp_path: Path, monkeypatch, order: str
) -> None:
    made, rounds = alternation(networks, order=order)
    train(made, rounds, open_run(made.inputs, "train", tmp_path / "whole"))
    broken = open_run(made.inputs, "train", tmp_path / "broken")
    expected, (made, rounds), steps = values(networks.best()), alternation(networks, order=order), []
    go_on = made._round

    def terminated_after_the_third(*batches: object) -> None:
        go_on(*batches)
        steps.append(batches)
        if len(steps) == 3:
            monkeypatch.setattr(stopping._State, "wanted", signal.SIGTERM)

    monkeypatch.setattr(made, "_round", terminated_after_the_third)
    with pytest.raises(stopping.Terminated):
        train(made, rounds, broken)
    monkeypatch.setattr(stopping._State, "wanted", None)
    with np.load(tmp_path / "broken" / "checkpoints" / "segmentation" / "state.npz") as saved:
        facts = json.loads(str(saved["facts"]))
    assert (facts["epoch"], facts["extra"]["step"]) == (1, 1)
    made, rounds = alternation(networks, order=order)  # a new process
    train(made, rounds, broken)
    for first, second in zip(values(networks.best()), expected, strict=True):
        np.testing.assert_array_equal(first, second)
    histories = [pd.read_csv(tmp_path / run / "history.csv").drop(columns="seconds") for run in ("whole", "broken")]
    pd.testing.assert_frame_equal(*histories)


def test_killed_in_the_first_epoch_of_the_alternation_it_ends_like_an_unbroken_one(
    networks: indicator.Networks, tmp_path: Path, monkeypatch
) -> None:
    """The classifier's stage is complete then, so its optimizer is not there to be restored."""
    inputs = networks.inputs
    task = indicator.make_task(inputs, ("globules",))
    whole = open_run(inputs, "train", tmp_path / "whole")
    indicator.train_task(whole, networks, task, None)
    expected = values(networks.weights())

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    broken = open_run(inputs, "train", tmp_path / "broken")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(indicator.Alternation, "_validate", stop)
        indicator.train_task(broken, networks, task, None)
    for model in networks.trained:  # a new process
        indicator.assign(model.optimizer.variables, [np.ones_like(value) for value in values(model.optimizer.variables)])
    indicator.train_task(broken, networks, task, None)
    for first, second in zip(values(networks.weights()), expected, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)
    columns = ["stage", "epoch", "loss", "dice_loss", "val_loss"]
    histories = [pd.read_csv(tmp_path / run / "history.csv")[columns] for run in ("whole", "broken")]
    pd.testing.assert_frame_equal(*histories, rtol=1e-5)


def test_the_kept_classifier_is_the_one_that_was_validated(networks: indicator.Networks, tmp_path: Path, monkeypatch) -> None:
    """Issue 15, fault 9: the statistics of a short training were recomputed after its epoch had been chosen."""
    inputs, task = networks.inputs, indicator.make_task(networks.inputs, ("globules",))
    monkeypatch.setattr(networks, "settings", replace(networks.settings, segmentation=False))
    indicator.train_task(open_run(inputs, "train", tmp_path), networks, task, None)
    held = Batches(inputs.images, task.labels, rows=inputs.rows("validation", diagnosed=True), batch_size=16)
    best = pd.read_csv(tmp_path / "history.csv")["val_loss"].min()
    assert batching.scalar(networks.classifier.evaluate(held, verbose=0)) == pytest.approx(best, rel=1e-5)


def test_what_cannot_be_trained_is_said_before_anything_is(inputs: Inputs) -> None:
    present = inputs.present.assign(globules=False)
    nothing = replace(inputs, present=present, settings=replace(inputs.settings, segment_on="nonempty"))
    with pytest.raises(UsageError, match="globules: no training image has it"):
        indicator.make_task(nothing, ("globules",))
    diagnosis = replace(inputs, settings=replace(inputs.settings, target="melanoma"))
    with pytest.raises(UsageError, match="--target melanoma: melanoma is no output"):
        indicator.make_task(diagnosis, ("globules",))


@pytest.fixture(scope="module")
def options(isic: Path, images_b: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    words = [
        "train", "--dataset", "isic2018", "--data-dir", isic, "--unlabelled-dir", images_b, "--cache-dir", tmp_path_factory.mktemp("cache"),
        "--backbone", "mobilenetv2_035", "--weights", "none", "--image-size", 64, "--epochs", 2, "--segmentation-epochs", 2,
        "--order", "interleaved", "--indicators", "globules", "--repeats", 1, "--learning-rate", 0.001,
    ]  # fmt: skip
    return [str(word) for word in words]


@pytest.mark.slow
def test_an_interrupted_interleaved_run_ends_like_an_unbroken_one(tiny: None, options: list[str], tmp_path: Path, monkeypatch) -> None:
    assert main("melanoma", COMMANDS, [*options, "--run-dir", str(tmp_path / "whole")]) == 0
    whole = pd.read_csv(tmp_path / "whole" / "history.csv")
    assert whole["stage"].unique().tolist() == ["segmentation-globules", "head"]
    drawn = whole[whole["stage"] == "segmentation-globules"]
    assert {"simclr", "loss", "bce", "dice_loss", "val_bce", "val_dice_loss"} <= set(drawn.columns[drawn.notna().all()])

    validate, calls = indicator.Alternation._validate, []

    def stop_in_the_second_epoch(alternation: indicator.Alternation) -> dict[str, float]:
        calls.append(alternation)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(alternation)

    monkeypatch.setattr(indicator.Alternation, "_validate", stop_in_the_second_epoch)
    broken = [*options, "--run-dir", str(tmp_path / "broken")]
    assert main("melanoma", COMMANDS, broken) == 130
    monkeypatch.setattr(indicator.Alternation, "_validate", validate)
    assert main("melanoma", COMMANDS, broken) == 0
    columns = ["stage", "epoch", "simclr", "loss", "dice_loss", "val_loss"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "broken" / "history.csv")[columns], whole[columns], rtol=1e-5)
    for name in ("predictions.csv", "localisation.csv"):
        first, second = (pd.read_csv(tmp_path / run / name) for run in ("whole", "broken"))
        pd.testing.assert_frame_equal(first, second, rtol=1e-4, atol=1e-5)
