"""Virtual adversarial training: the divergence, and a direction that beats random ones."""

import keras
import numpy as np
import pytest
from keras import ops

from melanoma.training.vat import adversarial_direction, bernoulli_divergence, unit_rms


def test_divergence_against_its_definition() -> None:
    a, b = np.random.default_rng(0).normal(0, 2, (2, 4, 3)).astype("float32")
    p, q = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-b))
    expected = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(axis=1)
    assert ops.convert_to_numpy(bernoulli_divergence(a, b)) == pytest.approx(expected, abs=1e-5)
    assert ops.convert_to_numpy(bernoulli_divergence(a, a)) == pytest.approx(np.zeros(4), abs=1e-6)


def test_the_direction_changes_the_prediction_more_than_noise() -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu")(inputs)
    network = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    rng = np.random.default_rng(0)
    images, noise = rng.normal(size=(2, 6, 16, 16, 3)).astype("float32")
    logits = network(images)
    direction = ops.convert_to_numpy(adversarial_direction(network, images, logits, noise, xi=0.01))
    assert np.sqrt((direction**2).mean(axis=(1, 2, 3))) == pytest.approx(np.ones(6), abs=1e-3)
    other = ops.convert_to_numpy(unit_rms(rng.normal(size=images.shape).astype("float32")))
    worst, random = (ops.convert_to_numpy(bernoulli_divergence(logits, network(images + 0.15 * d))) for d in (direction, other))
    assert (worst > random).all()
    assert worst.mean() > 5 * random.mean()
