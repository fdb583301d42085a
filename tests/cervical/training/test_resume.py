"""kill -9 in the middle, the same command again: predictions and weights equal those of an unbroken run, dropout and augmentation on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
# The coded reading augments in both stages, and the classifier has dropout.
COMMAND = ["contrastive", "--reading", "coded", "--limit", "25", "--image-size", "32", "--copies", "1", "--batch-size", "8"]
COMMAND += ["--encoder.epochs", "2", "--classifier.epochs", "2"]


def start(folder: Path, cache: Path, *more: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "cervical", *COMMAND, *more, "--run-dir", str(folder), "--cache-dir", str(cache)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(folder: Path, cache: Path, *more: str) -> str:
    process = start(folder, cache, *more)
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    return output


def kill_when(folder: Path, cache: Path, checkpoint: str, *more: str) -> None:
    process = start(folder, cache, *more)
    deadline = time.monotonic() + 400
    while not (folder / checkpoint).is_file():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def assert_equal(whole: Path, broken: Path) -> None:
    for name in ("manifest.csv", "predictions.csv"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
    first, second = (keras.models.load_model(folder / "model.keras", compile=False).get_weights() for folder in (whole, broken))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_killed_run_equals_an_unbroken_one(tmp_path):
    cache = tmp_path / "cache"
    finish(tmp_path / "whole", cache)
    kill_when(tmp_path / "broken", cache, "checkpoints/encoder/state.npz")
    output = finish(tmp_path / "broken", cache)
    assert "taken up after epoch 1 of 2" in output or "complete already" in output
    assert_equal(tmp_path / "whole", tmp_path / "broken")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_stage_can_be_killed(tmp_path):
    """One run, killed in turn after the encoder's last epoch (statistics not yet recomputed), in the classifier and in the control."""
    cache = tmp_path / "cache"
    finish(tmp_path / "whole", cache, "--control")
    stages = ["checkpoints/encoder/complete/state.npz", "checkpoints/classifier/state.npz", "control/checkpoints/control/state.npz"]
    for stage in [*stages, "control/finished.json"]:
        kill_when(tmp_path / "broken", cache, stage, "--control")
    output = finish(tmp_path / "broken", cache, "--control")
    assert "encoder: complete already" in output and "classifier: complete already" in output
    for inner in ("", "control"):
        assert_equal(tmp_path / "whole" / inner, tmp_path / "broken" / inner)
