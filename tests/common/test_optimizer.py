"""Adam with coupled L2 against NumPy."""

import keras
import numpy as np
import pytest

from common.device import jit_compile
from common.optimizer import CoupledAdam


def test_coupled_adam_follows_pytorchs_formula():
    """Kingma & Ba's Adam on g + l2 * w, the epsilon inside as in Keras (it is the same to 1e-6 here)."""
    w = np.array([0.5, -2.0, 3.0], "float32")
    gradients = [np.array([0.1, -0.2, 0.0], "float32"), np.array([0.3, 0.1, 0.0], "float32"), np.array([-0.4, 0.0, 0.0], "float32")]
    variable = keras.Variable(w)
    optimizer = CoupledAdam(0.01, l2=0.05)
    optimizer.build([variable])
    m = v = np.zeros(3)
    expected = w.astype("float64")
    for step, gradient in enumerate(gradients, start=1):
        optimizer.apply([keras.ops.convert_to_tensor(gradient)])
        g = gradient + 0.05 * expected
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        expected = expected - 0.01 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    assert keras.ops.convert_to_numpy(variable) == pytest.approx(expected, rel=1e-5)


def test_l2_acts_in_fit_on_every_weight():
    """With zero gradients only the decay moves the weights: by the learning rate, towards zero, as Adam normalises."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, bias_initializer="ones", kernel_initializer="ones")])
    model.compile(CoupledAdam(0.01, l2=0.1), loss=lambda y, z: 0.0 * keras.ops.sum(z, axis=-1), jit_compile=jit_compile())
    model.fit(np.ones((4, 2), "float32"), np.zeros((4, 1), "float32"), batch_size=4, epochs=1, verbose=0)
    for weight in model.get_weights():
        assert weight == pytest.approx(0.99 * np.ones_like(weight), rel=1e-5)


def test_coupled_adam_survives_its_config():
    again = keras.optimizers.deserialize(keras.optimizers.serialize(CoupledAdam(1e-3, l2=0.2)))
    assert isinstance(again, CoupledAdam) and again.l2 == 0.2 and again.epsilon == 1e-8
