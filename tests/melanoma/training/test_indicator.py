"""One indicator's training: the order of its steps, what selects the epoch, the snapshot that stays, a killed run against an unbroken."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from keras import ops

from common.cli import main
from common.data.pipeline import Batches
from common.errors import UsageError
from melanoma.__main__ import COMMANDS
from melanoma.experiments.train import BioUNetSettings
from melanoma.losses import SoftDiceLoss, dice_losses
from melanoma.training import batches as batching
from melanoma.training import indicator
from melanoma.training.inputs import Inputs, load_inputs
from melanoma.training.pipeline import open_run

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")


def test_validation_dice_is_the_training_loss() -> None:
    rng = np.random.default_rng(0)
    masks, drawn = (rng.random((3, 4, 4, 2)) > 0.5).astype("float32"), rng.random((3, 4, 4, 2)).astype("float32")
    masks[0] = 0
    assert dice_losses(masks, drawn).mean() == pytest.approx(float(SoftDiceLoss()(masks, drawn)), rel=1e-5)


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


def alternation(networks: indicator.Networks, folder: Path) -> indicator.Alternation:
    """In its first epoch: the networks as they began, the snapshot taken, the heatmaps made."""
    inputs = networks.inputs
    task = indicator.make_task(inputs, ("globules",))
    networks.reset(task)
    networks.take_snapshot()
    batches = batching.full_batches(inputs.images, task.labels, rows=inputs.rows("train"), batch_size=16, seed=0)
    held = Batches(inputs.images, task.labels, rows=inputs.rows("validation"), batch_size=16)
    made = indicator.Alternation(open_run(inputs, "train", folder), networks, task, batches, held, None)
    made._make_heatmaps()
    return made


def test_each_iteration_is_one_classifier_step_and_then_the_repeats(networks: indicator.Networks, tmp_path: Path, monkeypatch) -> None:
    steps = []
    made = alternation(networks, tmp_path)
    monkeypatch.setattr(networks.classifier, "train_on_batch", lambda images, labels: steps.append(("bce", len(images))) or 1.0)
    monkeypatch.setattr(networks.segmenter, "train_on_batch", lambda maps, masks: steps.append(("dice", len(masks))) or 0.5)
    losses = made._epoch(0)
    assert len(made.batches) == 2  # 32 training images
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


def test_the_epoch_is_selected_by_soft_dice_on_images_with_the_indicator(networks: indicator.Networks, tmp_path: Path, monkeypatch) -> None:
    made = alternation(networks, tmp_path)
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
    made, epochs = alternation(networks, tmp_path), []

    def epoch(number: int) -> dict[str, float]:
        networks.classifier.get_layer("logits").bias.assign([float(number + 1)])
        epochs.append(number)
        return {"loss": 0.0, "dice_loss": 0.0}

    monkeypatch.setattr(networks, "draw", lambda maps: made.masks(made.drawn["validation"]) * (0.1 + 0.4 * len(epochs)))
    monkeypatch.setattr(networks.classifier, "evaluate", lambda *_, **__: 5.0 * len(epochs))
    monkeypatch.setattr(made, "_epoch", epoch)
    made.train()
    assert epochs == [0, 1]
    assert values([networks.classifier.get_layer("logits").bias])[0].tolist() == [2.0]


def test_both_losses_may_select_the_epoch(networks: indicator.Networks, tmp_path: Path, monkeypatch) -> None:
    """Issue 20, fault 2: a stopping rule that also watches cross-entropy; `loss` and `val_loss` are of one kind (fault 7)."""
    made = alternation(networks, tmp_path)
    made.settings = replace(made.settings, watch="dice+bce")
    monkeypatch.setattr(networks, "draw", lambda maps: made.masks(made.drawn["validation"]))
    monkeypatch.setattr(networks.classifier, "evaluate", lambda *_, **__: 7.0)
    assert made._validate()["val_loss"] == pytest.approx(7.0, abs=1e-3)
    monkeypatch.setattr(networks.classifier, "train_on_batch", lambda *_: 1.0)
    monkeypatch.setattr(networks.segmenter, "train_on_batch", lambda *_: 0.5)
    assert made._epoch(0)["loss"] == 1.5


def test_the_kept_u_net_is_tested_with_the_snapshot_it_was_validated_with(
    networks: indicator.Networks, tmp_path: Path, monkeypatch
) -> None:
    """Issue 20, fault 8: interleaved, the snapshot went on to the next epoch's."""
    made = alternation(networks, tmp_path)
    made.settings = replace(made.settings, order="interleaved", segmentation_epochs=3)
    bias, seen = networks.classifier.get_layer("logits").bias, []

    def epoch(number: int) -> dict[str, float]:
        bias.assign([float(number + 1)])
        return {"loss": 0.0}

    def validate() -> dict[str, float]:
        seen.append(values(networks.snapshot.variables))
        return {"val_loss": [2.0, 1.0, 3.0][len(seen) - 1]}

    monkeypatch.setattr(made, "_epoch", epoch)
    monkeypatch.setattr(made, "_validate", validate)
    made.train()
    assert values([bias])[0].tolist() == [2.0]  # the second epoch is the best
    assert same(values(networks.snapshot.variables), seen[1])
    assert not same(seen[1], seen[2])


def test_the_snapshot_stays_while_the_encoder_learns(networks: indicator.Networks, tmp_path: Path) -> None:
    made = alternation(networks, tmp_path)
    before, trained = values(networks.snapshot.variables), values(networks.classifier.variables)
    maps = networks.maker(networks.inputs.images[:2], made.weights, made.follow)
    made._epoch(0)
    assert same(values(networks.snapshot.variables), before)
    assert not same(values(networks.classifier.variables), trained)
    networks.classifier_maps(networks.inputs.images[:2], made.weights, made.follow)
    assert same(values(networks.snapshot.variables), before)
    for first, second in zip(maps, networks.maker(networks.inputs.images[:2], made.weights, made.follow), strict=True):
        assert np.array_equal(first, second)


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

    merge, calls = indicator.merge_history, []

    def stop_in_the_second_epoch(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        merge(*arguments)

    monkeypatch.setattr(indicator, "merge_history", stop_in_the_second_epoch)
    broken = [*options, "--run-dir", str(tmp_path / "broken")]
    assert main("melanoma", COMMANDS, broken) == 130
    monkeypatch.setattr(indicator, "merge_history", merge)
    assert main("melanoma", COMMANDS, broken) == 0
    columns = ["stage", "epoch", "simclr", "loss", "dice_loss", "val_loss"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "broken" / "history.csv")[columns], whole[columns], rtol=1e-5)
    for name in ("predictions.csv", "localisation.csv"):
        first, second = (pd.read_csv(tmp_path / run / name) for run in ("whole", "broken"))
        pd.testing.assert_frame_equal(first, second, rtol=1e-4, atol=1e-5)
