"""`--devices`: what is refused, and that two devices give what one gives."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from cervical.experiments import finetune
from common.cli import parse
from common.errors import UsageError
from feedback.experiments import simulate
from melanoma.experiments import train

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("command", [finetune.COMMAND, train.COMMAND, simulate.COMMAND])
def test_several_devices_are_for_jax(command, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(UsageError, match="--devices 2: expected KERAS_BACKEND=jax; on TensorFlow Keras 3 cannot share a batch"):
        parse(command, ["--devices", "2"])
    assert parse(command, ["--devices", "1"]).devices == 1


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        (finetune.COMMAND, "--devices 3 --batch-size 32", "--devices 3: does not divide --batch-size 32"),
        (train.COMMAND, "--devices 5 --pretrain-batch 20", "--devices 5: does not divide --classifier-batch 16"),
        (finetune.COMMAND, "--devices 0", "--devices 0: expected between 1 and 4096"),
    ],
)
def test_devices_divide_every_batch(command, words, said, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(UsageError, match=said):
        parse(command, words.split())
    assert parse(finetune.COMMAND, ["--devices", "4"]).devices == 4


def python(*words, **environment):
    own = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=2", **environment}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=own, timeout=1700, cwd=ROOT)


@pytest.mark.slow
def test_more_devices_than_there_are_is_one_line(tmp_path):
    words = ("cervical", "finetune", "--devices", "4", "--cache-dir", tmp_path, "--run-dir", tmp_path / "run")
    ended = python("-m", *map(str, words), KERAS_BACKEND="jax")
    assert (ended.returncode, ended.stderr) == (2, "--devices 4: JAX has 2 here (cpu); expected at most 2\n")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_devices_train_every_loss_as_one_does():
    ended = python("tests/common/equal_devices.py", "losses")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert len(found) >= 18 and {name: each for name, each in found.items() if each[0] > 1e-4} == {}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_deep_network_differs_by_rounding_only():
    """Twelve layers with batch statistics make a unit in the last place grow ten thousandfold in one epoch, on one device too."""
    ended = python("tests/common/equal_devices.py", "deep")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["float64"][0] < 1e-12  # measured 7e-15
    devices, rounding = found["float32"]
    assert devices < 5 * rounding


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_processes_leave_the_run_that_one_leaves(tmp_path):
    """Two hosts of one device each, on this machine: the first one's run folder is the run, and the second leaves nothing."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    network = tmp_path / "tiny.keras"
    layers = [keras.layers.Conv2D(8, 3, 2), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Rescaling(1 / 255), *layers]).save(network)
    words = ["-m", "lmf", "train", "--network", str(network), "--image-size", "32", "--epochs", "2", "--limit", "60", "--batch-size", "16"]
    # At the paper's rate: Adam makes whole steps of rounding where a gradient is almost zero (docs/clusters.md).
    words += ["--cache-dir", str(tmp_path / "cache"), "--loss", "cce", "--learning-rate", "0.0001", "--run-dir"]
    own = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax"}
    alone = subprocess.run([sys.executable, *words, str(tmp_path / "one")], env=own)
    own |= {"KERAS_DISTRIBUTION_JOB_ADDRESSES": address, "KERAS_DISTRIBUTION_NUM_PROCESSES": "2"}
    assert alone.returncode == 0
    hosts = [
        subprocess.Popen(
            [sys.executable, *words, str(tmp_path / "two"), "--devices", "2"],
            env={**own, "KERAS_DISTRIBUTION_PROCESS_ID": number},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in "01"
    ]
    said = [host.communicate(timeout=1500)[1] for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], said
    one, two = (pd.read_csv(tmp_path / name / "predictions.csv") for name in ("one", "two"))
    numbers = [name for name in one if name.startswith("prob_")]
    assert one["image"].equals(two["image"]) and np.abs(one[numbers] - two[numbers]).to_numpy().max() < 1e-4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "one", "tiny.keras", "two"]
