"""The machine under Keras: seeds that repeat, a description that names no host and no path."""

import json
import socket

import keras
import numpy as np

from common import device


def test_the_same_seed_gives_the_same_weights() -> None:
    weights = []
    for seed in (1, 1, 2):
        device.configure(seed)
        weights.append(keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)]).get_weights()[0])
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_precision_policy_is_set_and_weights_stay_float32() -> None:
    device.configure(0, "mixed_bfloat16")
    layer = keras.layers.Dense(2)
    layer.build((None, 2))
    assert layer.compute_dtype == "bfloat16" and layer.kernel.dtype == "float32"
    device.configure(0)
    assert keras.config.dtype_policy().name == "float32"


def test_description_is_complete_and_anonymous() -> None:
    said = device.describe()
    assert {"backend", "versions", "machine", "precision", "git_commit"} <= set(said)
    assert socket.gethostname() not in json.dumps(said)
    assert said["versions"]["keras"] == keras.__version__


def test_no_xla_for_tensorflow_on_a_cpu() -> None:
    if keras.backend.backend() == "tensorflow" and device.accelerator() is None:
        assert device.jit_compile() is False
