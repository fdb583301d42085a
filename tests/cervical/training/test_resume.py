"""kill -9 in the middle, the same command again: predictions and weights equal those of an unbroken run, dropout and augmentation on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np

ROOT = Path(__file__).parents[3]
# The coded reading augments in both stages, and the classifier has dropout.
COMMAND = ["contrastive", "--reading", "coded", "--limit", "25", "--image-size", "32", "--copies", "1", "--batch-size", "8"]
COMMAND += ["--encoder-epochs", "2", "--classifier-epochs", "2"]


def start(folder: Path, cache: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "cervical", *COMMAND, "--run-dir", str(folder), "--cache-dir", str(cache)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(folder: Path, cache: Path) -> str:
    process = start(folder, cache)
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    return output


def kill_when(folder: Path, cache: Path, checkpoint: str) -> None:
    process = start(folder, cache)
    deadline = time.monotonic() + 400
    while not (folder / "checkpoints" / checkpoint).is_file():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_a_killed_run_equals_an_unbroken_one(tmp_path):
    cache = tmp_path / "cache"
    finish(tmp_path / "whole", cache)
    kill_when(tmp_path / "broken", cache, "encoder/state.npz")
    output = finish(tmp_path / "broken", cache)
    assert "taken up after epoch 1 of 2" in output or "complete already" in output
    for name in ("manifest.csv", "predictions.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()
    whole, broken = (keras.models.load_model(tmp_path / name / "model.keras", compile=False) for name in ("whole", "broken"))
    for first, second in zip(whole.get_weights(), broken.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
