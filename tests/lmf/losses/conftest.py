"""The gradient of a loss by the backend that runs the tests."""

import keras
import numpy as np
import pytest
from keras import ops


@pytest.fixture(scope="session")
def gradient():
    """`gradient(loss, labels, logits)`: an array of the logits' shape."""

    def of(loss, labels, logits) -> np.ndarray:
        if keras.backend.backend() == "jax":
            import jax

            return np.asarray(jax.grad(lambda z: loss(labels, z))(ops.convert_to_tensor(logits)))
        import tensorflow as tf

        z = tf.Variable(logits)
        with tf.GradientTape() as tape:
            value = loss(labels, z)
        return np.asarray(tape.gradient(value, z))

    return of
