"""What holds for every loss: forms of labels it takes and refuses, finite gradients on awkward batches, a config that makes it again."""

import math

import keras
import numpy as np
import pytest

from common.device import jit_compile
from lmf.losses import LOSSES, LMFLoss, build_loss

COUNTS = [229, 360, 769, 81, 779, 4693, 100]
LOGITS = np.random.default_rng(7).normal(0, 2, (4, 7)).astype("float32")
LABELS = np.array([0, 3, 5, 1])
ONE_HOT = np.eye(7, dtype="float32")[LABELS]


@pytest.mark.parametrize("reading", ["described", "coded"])
@pytest.mark.parametrize("name", LOSSES)
def test_one_hot_and_column_labels_are_the_integers(name, reading):
    loss = build_loss(name, COUNTS, reading)
    expected = float(loss(LABELS, LOGITS))
    assert float(loss(ONE_HOT, LOGITS)) == expected
    assert float(loss(ONE_HOT.astype("int64"), LOGITS)) == expected
    assert float(loss(LABELS[:, None], LOGITS)) == expected


@pytest.mark.parametrize("reading", ["described", "coded"])
@pytest.mark.parametrize("name", LOSSES)
def test_dense_predictions_are_a_loop_over_pixels(name, reading):
    """A loss of a map of 2 x 3 pixels is that of its pixels as a batch; each pixel's value stands where the pixel is."""
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(0, 2, (2, 2, 3, 7)).astype("float32"), rng.integers(0, 7, (2, 2, 3))
    loss = build_loss(name, COUNTS, reading)
    assert float(loss(labels, logits)) == pytest.approx(float(loss(labels.ravel(), logits.reshape(12, 7))), rel=1e-6)
    assert float(loss(np.eye(7)[labels], logits)) == pytest.approx(float(loss(labels, logits)), rel=1e-6)
    assert float(loss(labels[..., None], logits)) == pytest.approx(float(loss(labels, logits)), rel=1e-6)
    values = np.asarray(loss.call(labels, logits))
    assert values.shape == labels.shape
    plain = build_loss(name, COUNTS)  # without the batch's own weight, so that a pixel can be looked at alone
    alone = [[[float(plain(labels[b, y, x][None], logits[b, y, x][None])) for x in range(3)] for y in range(2)] for b in range(2)]
    assert np.asarray(plain.call(labels, logits)) == pytest.approx(np.array(alone), rel=1e-5)


@pytest.mark.parametrize("reading", ["described", "coded"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", ["right by far", "wrong by far", "one sample", "one class", "float16", "equal"])
def test_finite_gradients_on_awkward_batches(gradient, name, reading, kind):
    logits, labels = LOGITS, LABELS
    if kind == "right by far":
        logits = 1e4 * ONE_HOT
    elif kind == "wrong by far":
        logits = -1e4 * ONE_HOT
    elif kind == "one sample":
        logits, labels = LOGITS[:1], LABELS[:1]
    elif kind == "one class":
        labels = np.full(4, 3)
    elif kind == "float16":
        logits = (6e4 * (ONE_HOT - 0.5)).astype("float16")
    elif kind == "equal":
        logits = np.zeros_like(LOGITS)
    loss = build_loss(name, COUNTS, reading)
    assert np.isfinite(float(loss(labels, logits)))
    assert np.isfinite(gradient(loss, labels, logits)).all()


@pytest.mark.parametrize("name", LOSSES)
def test_survives_a_round_trip_through_its_config(name):
    loss = build_loss(name, COUNTS, "coded")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    assert float(again(LABELS, LOGITS)) == float(loss(LABELS, LOGITS))


def test_sample_weights_work():
    loss = LMFLoss(COUNTS)
    first = float(loss(LABELS[:1], LOGITS[:1]))
    assert float(loss(LABELS, LOGITS, sample_weight=np.array([1.0, 0, 0, 0]))) == pytest.approx(first / 4, rel=1e-6)


@pytest.mark.parametrize("labels", [np.array([0, 1, 1, 0]), np.eye(2, dtype="float32")[[0, 1, 1, 0]]], ids=["integers", "one-hot"])
def test_every_form_of_labels_trains(labels):
    loss, model = LMFLoss([5, 5]), keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(loss=loss, jit_compile=jit_compile())
    images = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    history = model.fit(images, labels, epochs=2, batch_size=4, verbose=0).history["loss"]
    assert history[1] < history[0] and history[0] == pytest.approx(history[0])


def test_a_segmentation_network_trains():
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(3, 1)])
    model.compile("sgd", loss=LMFLoss([40, 5, 3]), jit_compile=jit_compile())
    rng = np.random.default_rng(0)
    history = model.fit(rng.normal(size=(2, 4, 4, 1)), rng.integers(0, 3, (2, 4, 4)), epochs=2, verbose=0).history["loss"]
    assert all(math.isfinite(value) for value in history)


@pytest.mark.parametrize("wrong", [np.array([0, 2]), np.array([[1.0, 0], [0.4, 0.6]]), np.array([[1.0, 0], [0, 0]])])
def test_labels_that_are_no_class_become_nan_in_a_compiled_function(wrong):
    loss, model = LMFLoss([5, 5]), keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(loss=loss, jit_compile=jit_compile())
    assert math.isnan(model.evaluate(np.ones((2, 3), "float32"), wrong, verbose=0))


@pytest.mark.parametrize(
    ("labels", "logits", "words"),
    [
        (LABELS, LOGITS[:, :6], r"7 class counts do not fit logits of shape \(4, 6\)"),
        (LABELS[:3], LOGITS, r"labels of shape \(3,\) do not fit logits of shape \(4, 7\)"),
        (np.eye(6)[LABELS], LOGITS, r"labels must be integers .* or one-hot .*, got shape \(4, 6\) beside \(4, 7\)"),
        (np.zeros((4, 2), int), np.zeros((4, 5, 7)), r"labels of shape \(4, 2\) do not fit logits of shape \(4, 5, 7\)"),
        (ONE_HOT + 1, LOGITS, "one-hot labels must hold one 1"),
        (LABELS, LOGITS[:, 0], r"got \(4,\)"),
        (LABELS + 6, LOGITS, r"labels must lie in 0..6, got 6..11"),
        (LABELS - 1, LOGITS, r"labels must lie in 0..6, got -1..4"),
    ],
)
def test_wrong_shapes_and_labels_are_named(labels, logits, words):
    with pytest.raises(ValueError, match=words):
        LMFLoss(COUNTS)(labels, logits)
