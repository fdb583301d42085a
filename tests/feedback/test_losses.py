"""The explanation loss against hand calculations, a NumPy loop and closed forms."""

import keras
import numpy as np
import pytest

from feedback.losses import (
    JaccardLoss,
    PixelDistanceLoss,
    explanation_loss_for,
    soft_jaccard,
    soft_threshold,
    weighted_jaccard,
)


def graded_loss():
    return JaccardLoss(jaccard=weighted_jaccard)


LOSSES = (JaccardLoss, graded_loss, PixelDistanceLoss)


def _value(loss, mask, saliency) -> float:
    return float(loss(np.asarray(mask, "float32"), np.asarray(saliency, "float32")))


def test_by_hand():
    # y = (1, 1, 0, 0), s = (1, 0, 1, 0): intersection 1, union 3, J = 1/3, (2/3)^2 = 4/9.
    assert _value(JaccardLoss(), [[[1, 1], [0, 0]]], [[[1, 0], [1, 0]]]) == pytest.approx(4 / 9, abs=1e-6)
    # A soft map: sum(y s) = 0.5 + 0.25 = 0.75, union = 2 + 1.25 - 0.75 = 2.5, J = 0.3, (0.7)^2 = 0.49.
    assert _value(JaccardLoss(), [[[1, 1], [0, 0]]], [[[0.5, 0.25], [0.5, 0]]]) == pytest.approx(0.49, abs=1e-6)
    # The mean over images of (1 - J)^2, not (1 - mean J)^2: images with J = 1 and J = 0 give 1/2, not 1/4.
    masks = [[[1, 0]], [[1, 0]]]
    assert _value(JaccardLoss(), masks, [[[1, 0]], [[0, 1]]]) == pytest.approx(0.5, abs=1e-6)


def test_numpy_loop():
    rng = np.random.default_rng(0)
    mask = (rng.random((5, 6, 7)) > 0.6).astype("float32")
    saliency = rng.random((5, 6, 7)).astype("float32")
    expected = []
    for y, s in zip(mask, saliency, strict=True):
        both = sum(float(a) * float(b) for a, b in zip(y.ravel(), s.ravel(), strict=True))
        expected.append((1 - both / (y.sum() + s.sum() - both)) ** 2)
    assert _value(JaccardLoss(), mask, saliency) == pytest.approx(np.mean(expected), rel=1e-5)
    assert _value(JaccardLoss(), mask[..., None], saliency[..., None]) == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize(("mask", "saliency", "expected"), [(1, 1, 0.0), (0, 0, 0.0), (0, 1, 1.0), (1, 0, 1.0)])
def test_closed_forms(mask, saliency, expected):
    shape = (2, 4, 4)
    for loss in (JaccardLoss(), graded_loss()):
        assert _value(loss, np.full(shape, mask), np.full(shape, saliency)) == pytest.approx(expected, abs=1e-6)


def test_constant_map_is_its_area():
    # Map 0.5 everywhere, a quarter marked of 16 pixels: intersection 2, union 4 + 8 - 2 = 10, J = 0.2.
    mask = np.zeros((1, 4, 4), "float32")
    mask[:, :2, :2] = 1
    assert float(soft_jaccard(mask, np.full((1, 4, 4), 0.5, "float32"))[0]) == pytest.approx(0.2)


def test_graded_form_equals_the_set_form_for_binary_masks_only():
    rng = np.random.default_rng(1)
    mask, saliency = (rng.random((3, 5, 5)) > 0.5).astype("float32"), rng.random((3, 5, 5)).astype("float32")
    np.testing.assert_allclose(weighted_jaccard(mask, saliency), soft_jaccard(mask, saliency), rtol=1e-5)
    np.testing.assert_allclose(weighted_jaccard(saliency, saliency), 1.0, rtol=1e-6)
    assert np.all(np.asarray(soft_jaccard(saliency, saliency)) < 0.9)


def test_pixel_distance_by_hand():
    assert _value(PixelDistanceLoss(), [[[1.0, 0.5]]], [[[0.0, 0.0]]]) == pytest.approx((1 + 0.25) / 2)


def test_soft_threshold_is_the_step_made_soft():
    values = np.array([0.0, 0.4, 0.5, 0.6, 1.0], "float32")
    np.testing.assert_allclose(soft_threshold(values), 1 / (1 + np.exp(-20 * (values - 0.5))), rtol=1e-5)
    hard = np.asarray(soft_threshold(values, steepness=2000.0))
    np.testing.assert_allclose(hard, [0, 0, 0.5, 1, 1], atol=1e-6)
    # With a threshold the loss sees what the reported, hard Jaccard index sees.
    mask, saliency = [[[1, 1], [0, 0]]], [[[0.9, 0.2], [0.8, 0.1]]]
    assert _value(JaccardLoss(threshold=0.5), mask, saliency) == pytest.approx(4 / 9, abs=1e-2)


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize("case", ["one image", "empty mask", "constant map", "both empty"])
def test_gradients_are_finite_on_awkward_batches(make, case):
    mask = np.zeros((1, 3, 3), "float32")
    mask[0, 0, 0] = float(case in ("one image", "constant map"))
    start = {"one image": np.linspace(0, 1, 9).reshape(1, 3, 3), "constant map": np.full((1, 3, 3), 0.5)}.get(case)
    variable = keras.Variable(np.zeros((1, 3, 3), "float32") if start is None else start.astype("float32"))
    gradient = _gradient(lambda: make()(mask, variable.value), variable)
    assert np.all(np.isfinite(gradient))
    if case == "one image":
        assert np.abs(gradient).max() > 0


def _gradient(function, variable) -> np.ndarray:
    if keras.backend.backend() == "jax":
        import jax

        def stateless(value):
            with keras.StatelessScope(state_mapping=[(variable, value)]):
                return function()

        return np.asarray(jax.grad(stateless)(variable.value))
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(variable.value)
        loss = function()
    return np.asarray(tape.gradient(loss, variable.value))


@pytest.mark.parametrize("make", LOSSES)
def test_wrong_shapes_are_named(make):
    with pytest.raises(ValueError, match=r"\(2, 4, 4\) and \(2, 5, 5\)"):
        make()(np.zeros((2, 4, 4), "float32"), np.zeros((2, 5, 5), "float32"))
    with pytest.raises(ValueError, match=r"\(2, 4, 4, 3\)"):
        make()(np.zeros((2, 4, 4, 3), "float32"), np.zeros((2, 4, 4, 3), "float32"))


def test_settings_choose_the_loss():
    mask, saliency = np.ones((2, 2, 2), "float32"), np.full((2, 2, 2), 0.9, "float32")
    assert explanation_loss_for("binary", 0.5)(mask, saliency).shape == (2,)
    assert explanation_loss_for("graded", 0.5).jaccard is weighted_jaccard
    assert isinstance(explanation_loss_for("distance", 0.5), PixelDistanceLoss)
    with pytest.raises(ValueError, match="binary, graded or distance"):
        explanation_loss_for("rank", 0.5)
