"""Streamed Score-CAM against a slow loop over channels, whatever the chunk."""

import keras
import numpy as np
import pytest

from common.errors import UsageError
from common.explanation import cams, scorecam
from common.explanation import gradcam as g
from common.explanation.resize import resize_matrix
from tests.common.explanation import nets


@pytest.fixture(scope="module")
def model():
    return nets.flat()


def slow(model, image, activations, number, align, weights="probability"):
    """Section 3 of the paper, channel by channel, on whole arrays: `model` gives probabilities, or for "softmax" the plain scores."""
    rows = resize_matrix(activations.shape[0], image.shape[0], align)
    columns = resize_matrix(activations.shape[1], image.shape[1], align)
    found, kept = [], []
    for k in range(activations.shape[2]):
        mask = rows @ activations[:, :, k] @ columns.T
        if mask.max() == mask.min():
            continue
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        found.append(float(np.asarray(model((image * mask[..., None])[None]))[0, number]))
        kept.append(activations[:, :, k])
    if weights == "softmax":
        # Algorithm 1: the increase over the baseline, the black image, then softmax over the channels.
        baseline = float(np.asarray(model(np.zeros_like(image)[None]))[0, number])
        powers = [np.exp(score - baseline) for score in found]
        found = [power / sum(powers) for power in powers]
    total = np.zeros(activations.shape[:2])
    for weight, channel in zip(found, kept, strict=True):
        total += weight * channel
    return np.maximum(total, 0)


@pytest.mark.parametrize("align", ["corners", "centres"])
@pytest.mark.parametrize("chunk", [1, 2, 4, 64])
def test_streamed_equals_slow_loop(model, chunk, align):
    image = nets.images(1)[0]
    activations = np.asarray(g.split_model(model, "conv3")[0](image[None]))[0]
    weights = nets.one_hot(2)[0]
    got = scorecam.score_map(model, image, activations, weights, chunk=chunk, align=align)
    np.testing.assert_allclose(got, slow(model, image, activations, 2, align), rtol=1e-4, atol=1e-5)


def test_constant_channels_are_skipped_and_a_constant_map_is_zeros(model):
    image = nets.images(1)[0]
    activations = np.asarray(g.split_model(model, "conv3")[0](image[None]))[0]
    with_constant = np.concatenate([activations, np.full((*activations.shape[:2], 3), 2.5, "float32")], axis=-1)
    weights = nets.one_hot(0)[0]
    expected = scorecam.score_map(model, image, activations, weights)
    np.testing.assert_allclose(scorecam.score_map(model, image, with_constant, weights), expected, rtol=1e-5)
    assert not scorecam.score_map(model, image, np.ones((6, 6, 4), "float32"), weights).any()


def test_faster_keeps_the_channels_that_vary_most(model):
    image = nets.images(1)[0]
    activations = np.asarray(g.split_model(model, "conv3")[0](image[None]))[0]
    best = np.argsort(-activations.std(axis=(0, 1)))[:2]
    weights = nets.one_hot(1)[0]
    got = scorecam.score_map(model, image, activations, weights, max_channels=2)
    np.testing.assert_allclose(got, scorecam.score_map(model, image, activations[..., best], weights), rtol=1e-5)
    assert not np.allclose(got, scorecam.score_map(model, image, activations, weights))


def test_softmax_weights_of_algorithm_1(model):
    image = nets.images(1)[0]
    activations = np.asarray(g.split_model(model, "conv3")[0](image[None]))[0]
    scores = g.logits_model(model)
    # Scores far enough apart for the weights to differ.
    dense = scores.layers[-1].dense
    kernel = dense.kernel.numpy()
    dense.kernel.assign(kernel * 40)
    try:
        expected = slow(scores, image, activations, 1, "corners", "softmax")
        got = scorecam.score_map(model, image, activations, nets.one_hot(1)[0], weights="softmax")
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)
        assert np.abs(got - activations.mean(axis=-1)).max() > 0.05, "equal weights would pass unseen"
    finally:
        dense.kernel.assign(kernel)


@pytest.mark.parametrize("method", ["scorecam", "faster-scorecam"])
def test_the_options_are_reachable_from_cam(model, method):
    ask = {"method": method, "model": model, "images": nets.images(1), "classes": 1, "layer": "conv3", "upsample": False}
    activations = np.asarray(g.split_model(model, "conv3")[0](nets.images(1)))[0]
    for options in ({"weights": "softmax"}, {"align": "centres"}):
        expected = scorecam.score_map(model, nets.images(1)[0], activations, nets.one_hot(1)[0], **options)
        got = cams.cam(**ask, **options)[0]
        np.testing.assert_allclose(got, expected / expected.max(), rtol=1e-4)
        assert np.abs(got - cams.cam(**ask)[0]).max() > 1e-4


def sigmoid_net(units: int, end: str = "dense"):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((nets.SIZE, nets.SIZE, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="conv")(keras.layers.Rescaling(1 / 127.5, -1)(inputs))
    x = keras.layers.GlobalAveragePooling2D()(x)
    if end == "dense":
        return keras.Model(inputs, keras.layers.Dense(units, activation="sigmoid")(x))
    scores = keras.layers.Dense(units)(x)
    return keras.Model(inputs, keras.ops.sigmoid(scores) if end == "operation" else scores)


@pytest.mark.parametrize(("units", "end"), [(1, "dense"), (3, "dense"), (1, "operation")])
def test_a_sigmoid_keeps_its_own_probabilities(units, end):
    """Softmax over one output would weigh every channel 1; over three it would let the classes compete."""
    model, image = sigmoid_net(units, end), nets.images(1)[0]
    activations = np.asarray(g.split_model(model, "conv")[0](image[None]))[0]
    got = scorecam.score_map(model, image, activations, nets.one_hot(units - 1, count=units)[0])
    np.testing.assert_allclose(got, slow(model, image, activations, units - 1, "corners"), rtol=1e-4, atol=1e-5)


def test_one_plain_score_is_refused_and_so_is_the_packages_softmax_on_a_sigmoid():
    with pytest.raises(UsageError, match="one output with the activation 'none'"):
        cams.cam("scorecam", sigmoid_net(1, "none"), nets.images(1), 0)
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(UsageError, match="takes no model that ends in a sigmoid"):
            cams.cam("scorecam", sigmoid_net(1), nets.images(1), 0, engine="tf-keras-vis")
