"""Streamed Score-CAM against a slow loop over channels, whatever the chunk."""

import numpy as np
import pytest

from common.explanation import cams, scorecam
from common.explanation import gradcam as g
from tests.common.explanation import nets


@pytest.fixture(scope="module")
def model():
    return nets.flat()


def slow(model, image, activations, number, align):
    """Section 3 of the paper, channel by channel, on whole arrays; the model's own softmax gives the probability."""
    rows = cams.resize_matrix(activations.shape[0], image.shape[0], align)
    columns = cams.resize_matrix(activations.shape[1], image.shape[1], align)
    total = np.zeros(activations.shape[:2])
    for k in range(activations.shape[2]):
        mask = rows @ activations[:, :, k] @ columns.T
        if mask.max() == mask.min():
            continue
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        total += np.asarray(model((image * mask[..., None])[None]))[0, number] * activations[:, :, k]
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


def test_softmax_weights_of_algorithm_1_sum_to_one(model):
    image = nets.images(1)[0]
    # Two channels with the same pattern, one twice the other: the same masks, so equal weights of a half.
    pattern = np.random.default_rng(0).random((6, 6)).astype("float32")
    activations = np.stack([pattern, 2 * pattern], axis=-1)
    got = scorecam.score_map(model, image, activations, nets.one_hot(0)[0], weights="softmax")
    np.testing.assert_allclose(got, 1.5 * pattern, rtol=1e-4)
