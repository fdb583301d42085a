"""Virtual adversarial training: the divergence, and a direction that beats random ones."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from melanoma.experiments.baselines import BaselineSettings
from melanoma.losses import WeightedBinaryCrossentropy
from melanoma.models import input_spread
from melanoma.training.vat import VirtualAdversarial, adversarial_direction, bernoulli_divergence, unit_rms


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


def small(weights: tuple[float, ...] | None = None, **changes: object) -> VirtualAdversarial:
    """One convolution under the model's own loss; raw images are normalised by 1/100."""
    keras.utils.set_random_seed(1)
    pixels = keras.Input((8, 8, 3))
    logits = keras.layers.Dense(2)(keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="tanh")(pixels)))
    network = keras.Model(pixels, logits)
    scale = keras.layers.Rescaling(0.01)
    raw = keras.Input((8, 8, 3))
    bce = keras.losses.BinaryCrossentropy(from_logits=True) if weights is None else WeightedBinaryCrossentropy(weights)
    return VirtualAdversarial(keras.Model(raw, network(scale(raw))), network, scale, replace(BaselineSettings(), **changes), bce)


@pytest.fixture
def batch() -> SimpleNamespace:
    rng = np.random.default_rng(3)
    labelled, unlabelled = rng.integers(0, 256, (2, 4, 8, 8, 3)).astype("float32")
    return SimpleNamespace(x=(labelled, unlabelled), y=(rng.random((4, 2)) > 0.5).astype("float32"))


def by_hand(model: VirtualAdversarial, batch: SimpleNamespace, weights: tuple[float, float] = (1, 1)) -> float:
    """L = L_BCE + w · mean KL(p || q(x + ε·d)) over both sets, with the model's own noise."""
    s, spread = model.settings, input_spread(model.settings.backbone)
    images = np.concatenate(batch.x) * 0.01
    noise = keras.random.normal(images.shape, seed=keras.random.SeedGenerator(s.seed))
    logits = ops.convert_to_numpy(model.network(images))
    direction = ops.convert_to_numpy(adversarial_direction(model.network, images, logits, noise, s.vat_xi * spread))
    moved = ops.convert_to_numpy(model.network(images + s.vat_epsilon * spread * direction))
    p, q = (1 / (1 + np.exp(-z.astype("float64"))) for z in (logits, moved))
    divergence = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum(axis=1).mean()
    labelled = p[: len(batch.y)]
    bce = -np.mean(np.array(weights) * batch.y * np.log(labelled) + (1 - batch.y) * np.log(1 - labelled))
    return float(bce + s.vat_weight * divergence)


@pytest.mark.parametrize("weights", [None, (3.0, 0.5)])
def test_the_loss_is_cross_entropy_and_the_mean_divergence_of_both_sets(batch: SimpleNamespace, weights: tuple | None) -> None:
    model = small(weights, backbone="mobilenetv2_035", vat_weight=2.0)
    found = model.compute_loss(batch.x, batch.y, model.classifier(batch.x[0]))
    assert float(ops.convert_to_numpy(found)) == pytest.approx(by_hand(model, batch, weights or (1, 1)), rel=1e-3)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes the gradient with a TensorFlow tape")
def test_p_gets_no_gradient(batch: SimpleNamespace) -> None:
    """Without cross-entropy the gradient is that of q alone: p enters as numbers."""
    import tensorflow as tf

    model = small(backbone="mobilenetv2_035")
    kernel, images = model.network.layers[-1].kernel, np.concatenate(batch.x) * 0.01
    with tf.GradientTape() as tape:
        whole = model.compute_loss(batch.x, batch.y, model.classifier(batch.x[0]))
        loss = whole - model.bce(batch.y, model.classifier(batch.x[0]))
    found = tape.gradient(loss, kernel.value)
    noise = keras.random.normal(images.shape, seed=keras.random.SeedGenerator(model.settings.seed))
    spread = input_spread(model.settings.backbone)
    logits = ops.convert_to_numpy(model.network(images))
    direction = adversarial_direction(model.network, images, logits, noise, model.settings.vat_xi * spread)
    with tf.GradientTape() as tape:
        moved = model.network(images + model.settings.vat_epsilon * spread * direction)
        expected = ops.mean(bernoulli_divergence(logits, moved))
    np.testing.assert_allclose(found, tape.gradient(expected, kernel.value), rtol=1e-3, atol=1e-6)
