"""One indicator's training: interleaved as in Algorithm 1, stopped in its middle and taken up, and its losses against the Keras ones."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.cli import main
from common.data.pipeline import Batches
from melanoma.__main__ import COMMANDS
from melanoma.losses import SoftDiceLoss
from melanoma.training import indicator

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")


def test_validation_dice_is_the_training_loss() -> None:
    rng = np.random.default_rng(0)
    masks, drawn = (rng.random((3, 4, 4, 2)) > 0.5).astype("float32"), rng.random((3, 4, 4, 2)).astype("float32")
    masks[0] = 0
    assert indicator.dice_losses(masks, drawn).mean() == pytest.approx(float(SoftDiceLoss()(masks, drawn)), rel=1e-5)


def test_an_endless_stream_of_batches_counts_its_epochs() -> None:
    batches = indicator.full_batches(np.arange(10), rows=np.arange(10), batch_size=4, seed=0)
    assert len(batches) == 2
    seen = [indicator.at(batches, step).tolist() for step in range(6)]
    assert batches.epoch == 2
    assert seen[0] != seen[2] != seen[4]
    assert len(set(seen[0] + seen[1])) == 8
    assert indicator.at(batches, 3).tolist() == seen[3]
    assert isinstance(batches, Batches)


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
    assert {"simclr", "loss", "dice_loss", "val_bce", "val_dice_loss"} <= set(drawn.columns[drawn.notna().all()])

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
