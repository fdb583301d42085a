"""The machine under Keras: seeds that repeat, a description that names no host and no path."""

import json
import socket

import keras
import numpy as np
import pytest

from common import device
from common.data.pipeline import Batches
from common.device import stop_autotuning


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


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data is TensorFlow's")
def test_batches_are_not_tuned_and_come_in_order() -> None:
    from keras.src.backend.tensorflow.trainer import TFEpochIterator

    stop_autotuning()
    images = np.arange(10, dtype="float32")[:, None]
    for data in (images, Batches(images, batch_size=4)):
        iterator = TFEpochIterator(x=data, batch_size=None if isinstance(data, Batches) else 4, distribute_strategy=tf_strategy())
        found = iterator._get_iterator()
        assert found.options().autotune.enabled is False
        assert np.array_equal(np.concatenate([np.asarray(keras.tree.flatten(batch)[0]) for batch in found]), images)


def tf_strategy() -> object:
    import tensorflow as tf

    return tf.distribute.get_strategy()
