"""SimCLR and soft Dice against plain loops, values worked out by hand, and the batches that break careless code."""

import math

import keras
import numpy as np
import pytest

from melanoma.losses import PairedViewsLoss, SimCLRLoss, SoftDiceLoss, WeightedBinaryCrossentropy


def simclr_by_loops(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    """Chen et al. (2020), Algorithm 1, one exponential at a time."""
    views = [v / np.linalg.norm(v) for v in np.concatenate([first, second]).astype("float64")]
    images = len(first)
    losses = []
    for i, anchor in enumerate(views):
        positive = (i + images) % (2 * images)
        denominator = sum(math.exp(float(anchor @ views[k]) / temperature) for k in range(2 * images) if k != i)
        losses.append(-math.log(math.exp(float(anchor @ views[positive]) / temperature) / denominator))
    return float(np.mean(losses))


@pytest.mark.parametrize("temperature", [0.07, 0.5, 1.0])
@pytest.mark.parametrize("images", [2, 24])
def test_simclr_equals_the_loop(temperature: float, images: int) -> None:
    first, second = np.random.default_rng(images).normal(size=(2, images, 128)).astype("float32")
    ours = float(SimCLRLoss(temperature)(first, second))
    assert ours == pytest.approx(simclr_by_loops(first, second, temperature), rel=1e-5)


def test_simclr_on_orthogonal_pairs_by_hand() -> None:
    # Two images along two axes: the positive has cosine 1, both negatives 0, so l = -log(e^2 / (e^2 + 2)) at τ 0.5.
    axes = np.eye(2, 8, dtype="float32")
    assert float(SimCLRLoss(0.5)(axes, axes)) == pytest.approx(math.log(1 + 2 * math.exp(-2)), rel=1e-6)


def test_simclr_of_identical_embeddings_is_the_log_of_the_candidates() -> None:
    same = np.ones((24, 128), "float32")
    assert float(SimCLRLoss(0.5)(same, same)) == pytest.approx(math.log(47), rel=1e-6)  # 1 positive + 46 negatives


def test_simclr_ignores_length_and_the_order_of_the_views() -> None:
    first, second = np.random.default_rng(1).normal(size=(2, 6, 16)).astype("float32")
    loss = SimCLRLoss(0.5)
    assert float(loss(first * 7, second)) == pytest.approx(float(loss(second, first)), rel=1e-5)


def test_one_image_has_no_negative_and_costs_nothing() -> None:
    first, second = np.random.default_rng(2).normal(size=(2, 1, 8)).astype("float32")
    assert float(SimCLRLoss(0.5)(first, second)) == pytest.approx(0.0, abs=1e-6)


def test_paired_views_is_the_same_loss() -> None:
    first, second = np.random.default_rng(3).normal(size=(2, 5, 16)).astype("float32")
    paired = float(PairedViewsLoss(0.5)(np.zeros(5, "float32"), np.stack([first, second], axis=1)))
    assert paired == pytest.approx(float(SimCLRLoss(0.5)(first, second)), rel=1e-6)


def soft_dice_by_loops(mask: np.ndarray, prediction: np.ndarray) -> float:
    """Eq. 2 pixel by pixel."""
    losses = []
    for y, p in zip(mask, prediction, strict=True):
        overlap = size = 0.0
        for true, predicted in zip(y.ravel(), p.ravel(), strict=True):
            overlap += 2 * float(true) * float(predicted)
            size += float(true) ** 2 + float(predicted) ** 2
        losses.append(1 - overlap / size if size else 0.0)
    return float(np.mean(losses))


def test_soft_dice_equals_the_loop() -> None:
    rng = np.random.default_rng(4)
    mask = (rng.random((3, 6, 5, 1)) > 0.6).astype("float32")
    prediction = rng.random((3, 6, 5, 1)).astype("float32")
    assert float(SoftDiceLoss()(mask, prediction)) == pytest.approx(soft_dice_by_loops(mask, prediction), rel=1e-5)


def test_soft_dice_by_hand() -> None:
    # y = [1, 1, 0, 0], p = [.5, 1, .5, 0]: overlap 2 * 1.5 = 3, sizes 2 + 1.5, so L = 1 - 3 / 3.5.
    mask = np.array([1, 1, 0, 0], "float32").reshape(1, 2, 2, 1)
    prediction = np.array([0.5, 1, 0.5, 0], "float32").reshape(1, 2, 2, 1)
    assert float(SoftDiceLoss()(mask, prediction)) == pytest.approx(1 - 3 / 3.5, rel=1e-6)


@pytest.mark.parametrize(("mask", "prediction", "expected"), [(0, 0, 0.0), (1, 1, 0.0), (0, 1, 1.0), (1, 0, 1.0), (1, 0.5, 0.2)])
def test_soft_dice_of_constant_maps(mask: float, prediction: float, expected: float) -> None:
    shape = (2, 4, 4, 1)
    loss = float(SoftDiceLoss()(np.full(shape, mask, "float32"), np.full(shape, prediction, "float32")))
    assert loss == pytest.approx(expected, abs=1e-6)


def test_soft_dice_averages_images_and_channels_alike() -> None:
    rng = np.random.default_rng(5)
    mask = (rng.random((2, 4, 4, 3)) > 0.5).astype("float32")
    prediction = rng.random((2, 4, 4, 3)).astype("float32")
    each = [float(SoftDiceLoss()(mask[..., c : c + 1], prediction[..., c : c + 1])) for c in range(3)]
    assert float(SoftDiceLoss()(mask, prediction)) == pytest.approx(np.mean(each), rel=1e-5)


def weighted_bce_by_loops(labels: np.ndarray, logits: np.ndarray, weights: tuple[float, ...]) -> float:
    """Probabilities and logarithms, one output at a time."""
    losses = []
    for row, scores in zip(labels, logits, strict=True):
        for y, z, w in zip(row, scores, weights, strict=True):
            p = 1 / (1 + math.exp(-float(z)))
            losses.append(-(w * math.log(p) if y else math.log(1 - p)))
    return float(np.mean(losses))


def test_weighted_cross_entropy_equals_the_loop_and_with_ones_keras() -> None:
    rng = np.random.default_rng(6)
    labels, logits = (rng.random((8, 3)) > 0.6).astype("float32"), rng.normal(0, 3, (8, 3)).astype("float32")
    weights = (1.0, 4.5, 0.25)
    assert float(WeightedBinaryCrossentropy(weights)(labels, logits)) == pytest.approx(
        weighted_bce_by_loops(labels, logits, weights), rel=1e-5
    )
    plain = float(keras.losses.BinaryCrossentropy(from_logits=True)(labels, logits))
    assert float(WeightedBinaryCrossentropy((1.0, 1.0, 1.0))(labels, logits)) == pytest.approx(plain, rel=1e-5)


def test_weighted_cross_entropy_by_hand_and_far_from_zero() -> None:
    loss = WeightedBinaryCrossentropy((3.0,))
    assert float(loss(np.ones((1, 1), "float32"), np.zeros((1, 1), "float32"))) == pytest.approx(3 * math.log(2), rel=1e-6)
    assert float(loss(np.zeros((1, 1), "float32"), np.zeros((1, 1), "float32"))) == pytest.approx(math.log(2), rel=1e-6)
    # log(1 + e^200) is 200, not infinity.
    assert float(loss(np.ones((1, 1), "float32"), np.full((1, 1), -200, "float32"))) == pytest.approx(600, rel=1e-6)
    with pytest.raises(ValueError, match="positive"):
        WeightedBinaryCrossentropy((1.0, 0.0))
    with pytest.raises(ValueError, match=r"\(batch, 1\)"):
        loss(np.ones((2, 2), "float32"), np.ones((2, 2), "float32"))


def descends_with_finite_weights(loss: keras.losses.Loss, inputs: np.ndarray, targets: np.ndarray, layers: list) -> bool:
    """Two optimiser steps leave every weight finite. That is the gradient being finite, on whichever backend runs."""
    model = keras.Sequential([keras.Input(inputs.shape[1:]), *layers])
    model.compile("adam", loss, jit_compile=False)
    for _ in range(2):
        model.train_on_batch(inputs, targets)
    return all(np.isfinite(keras.ops.convert_to_numpy(weight)).all() for weight in model.weights)


def test_gradients_stay_finite_on_awkward_batches() -> None:
    zero_embeddings = np.zeros((2, 2, 4), "float32")
    assert descends_with_finite_weights(PairedViewsLoss(0.5), zero_embeddings, np.zeros(2, "float32"), [keras.layers.Dense(4)])
    empty = np.zeros((2, 4, 4, 1), "float32")
    assert descends_with_finite_weights(SoftDiceLoss(), empty, empty, [keras.layers.Conv2D(1, 1, use_bias=False, activation="relu")])


@pytest.mark.parametrize("loss", [SimCLRLoss(0.3), PairedViewsLoss(0.3), SoftDiceLoss(), WeightedBinaryCrossentropy((2.0, 0.5))])
def test_losses_are_serialisable(loss: keras.losses.Loss) -> None:
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(4, 8\).*\(3, 8\)"):
        SimCLRLoss()(np.zeros((4, 8), "float32"), np.zeros((3, 8), "float32"))
    with pytest.raises(ValueError, match=r"\(4, 8\)"):
        PairedViewsLoss()(np.zeros(4, "float32"), np.zeros((4, 8), "float32"))
    with pytest.raises(ValueError, match=r"\(2, 4, 4, 1\).*\(2, 4, 8, 1\)"):
        SoftDiceLoss()(np.zeros((2, 4, 4, 1), "float32"), np.zeros((2, 4, 8, 1), "float32"))
    with pytest.raises(ValueError, match="positive"):
        SimCLRLoss(0.0)
