"""A killed training, run again, must equal an unbroken one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from common.errors import UsageError
from common.runs.fitting import fit, merge_history
from common.runs.folder import Run

SCRIPT = Path(__file__).with_name("train_once.py")
ROOT = SCRIPT.parents[3]


def train(folder: Path, *more: str, backend: str = "tensorflow") -> int:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run([sys.executable, str(SCRIPT), str(folder), *more], env=environment, capture_output=True, cwd=ROOT).returncode


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train(folder) == 0
    return folder


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_run_equals_unbroken_one(whole: Path, tmp_path: Path, how: signal.Signals) -> None:
    killed_equals(whole, tmp_path / "killed", how)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_run_equals_unbroken_one_on_jax(tmp_path: Path, how: signal.Signals) -> None:
    pytest.importorskip("jax")
    assert train(tmp_path / "whole", backend="jax") == 0
    killed_equals(tmp_path / "whole", tmp_path / "killed", how, "jax")


def killed_equals(whole: Path, killed: Path, how: signal.Signals, backend: str = "tensorflow") -> None:
    """Twice in the middle of an epoch: SIGTERM keeps the batches done (10 and 9 of 24), SIGKILL costs the epoch."""
    for step in (10, 9):
        assert train(killed, str(step), str(int(how)), backend=backend) == (143 if how == signal.SIGTERM else -how)
        if how == signal.SIGTERM:
            with np.load(killed / "checkpoints" / "only" / "state.npz") as saved:
                facts = json.loads(str(saved["facts"]))
            assert (facts["epoch"], facts["extra"]["step"]) == ((2, 2) if step == 10 else (4, 3))
    assert train(killed, backend=backend) == 0
    with np.load(whole / "weights.npz") as first, np.load(killed / "weights.npz") as second:
        assert sorted(first.files) == sorted(second.files)
        for name in first.files:
            np.testing.assert_array_equal(first[name], second[name])
    tables = [pd.read_csv(folder / "history.csv").drop(columns="seconds") for folder in (whole, killed)]
    pd.testing.assert_frame_equal(*tables)
    assert list(tables[0]["epoch"]) == [1, 2, 3, 4, 5, 6]


def linear(learning_rate: float = 0.1) -> keras.Model:
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(learning_rate), "mse", jit_compile=False)
    return model


X, Y = np.ones((4, 1), "float32"), np.ones((4, 1), "float32")


def test_best_epoch_is_selected_not_the_last(tmp_path: Path) -> None:
    # w starts at 0, learning rate 0.1, gradient 2(w - 1): w = 0.2 after the first epoch and grows; validation wants 0.2.
    model = linear()
    data = keras_batches(X, Y)
    run = Run.open("t", "e", {}, run_dir=tmp_path / "b")
    history = fit(model, data, run=run, stage="s", epochs=3, validation=(X, 0.2 * Y), select="best")
    assert history["val_loss"].iloc[0] == pytest.approx(0, abs=1e-9)
    assert float(model.get_weights()[0][0, 0]) == pytest.approx(0.2)
    last = linear()
    fit(last, data, run=Run.open("t", "e", {}, run_dir=tmp_path / "c"), stage="s", epochs=3, validation=(X, 0.2 * Y), select="last")
    assert float(last.get_weights()[0][0, 0]) == pytest.approx(1 - 0.8**3)


def test_complete_stage_is_not_trained_again(tmp_path: Path) -> None:
    run = Run.open("t", "e", {}, run_dir=tmp_path)
    data = keras_batches(X, Y)
    first = linear()
    fit(first, data, run=run, stage="s", epochs=2)
    again = linear()
    history = fit(again, None, run=run, stage="s", epochs=2)  # no data needed: nothing is trained
    np.testing.assert_array_equal(first.get_weights()[0], again.get_weights()[0])
    assert len(history) == 2


def test_early_stop_and_schedule(tmp_path: Path) -> None:
    run = Run.open("t", "e", {}, run_dir=tmp_path)
    history = fit(
        linear(),
        keras_batches(X, Y),
        run=run,
        stage="s",
        epochs=50,
        validation=(X, -Y),
        patience=2,
        schedule=lambda epoch: 0.1 / (epoch + 1),
    )
    assert len(history) == 3  # validation only gets worse: the first epoch and two of patience
    assert list(history["learning_rate"]) == pytest.approx([0.1, 0.05, 0.1 / 3])


def test_loss_that_is_not_finite_stops_with_one_line(tmp_path: Path) -> None:
    run = Run.open("t", "e", {}, run_dir=tmp_path)
    with pytest.raises(UsageError, match=r"s: the loss is (nan|inf) in epoch \d+ at learning rate 1e\+30"):
        fit(linear(1e30), keras_batches(X, Y), run=run, stage="s", epochs=5)


def keras_batches(x: np.ndarray, y: np.ndarray) -> keras.utils.PyDataset:
    class One(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            return x, y

    return One()


@pytest.mark.parametrize("content", ["", "stage,epoch\na,1\nb,1,2\n", "epoch\n1\n", "\0\0"])
def test_a_damaged_history_is_made_again(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    run = Run.open("t", "e", {}, run_dir=tmp_path)
    merge_history(run, "first", [{"stage": "first", "epoch": 1}])
    (tmp_path / "history.csv").write_text(content)
    merge_history(run, "second", [{"stage": "second", "epoch": 1}])
    assert pd.read_csv(tmp_path / "history.csv")["stage"].tolist() == ["second"]
    assert "history.csv is damaged" in caplog.text
