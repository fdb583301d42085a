"""The paper's losses against golden numbers, a slow loop, closed forms and the awkward batches."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from lmf.losses import (
    BalancedWeightedCrossentropy,
    Crossentropy,
    FocalLoss,
    LDAMLoss,
    LMFLoss,
    WeightedCrossentropy,
    balanced_weights,
    build_loss,
    inverse_weights,
    margins,
)

LOSSES = ("cce", "wcce", "focal", "ldam", "bwcce", "lmf")
HAM_COUNTS = [229, 360, 769, 81, 779, 4693, 100]
LOGITS = np.array(
    [
        [2, 0.5, -1, 0.1, 0.3, 1, -0.5],
        [0.2, 0.1, 0, 0.7, -0.2, 1.5, 0.3],
        [-0.3, 0.4, 0.9, -1.2, 0.6, 2.2, 0],
        [0, 1.1, 0.2, 0.3, 0.8, 0.9, -0.7],
    ],
    dtype="float32",
)
LABELS = np.array([0, 3, 5, 1])

# Computed from the authors' definitions on the batch above with the HAM10000 training counts (Table 5), outside this project.
CODED = [
    (LDAMLoss(HAM_COUNTS, reading="coded"), 14.889876),
    (FocalLoss(HAM_COUNTS, reading="coded"), 0.279201),
    (LMFLoss(HAM_COUNTS, 1, 1, reading="coded"), 15.169077),
    (LMFLoss(HAM_COUNTS, 1.5, 1, reading="coded"), 22.614016),
    (LMFLoss(HAM_COUNTS, 1, 2, reading="coded"), 15.448278),
    (BalancedWeightedCrossentropy(HAM_COUNTS, reading="coded"), 1.224387),
    (Crossentropy(HAM_COUNTS, reading="coded"), 1.123179),
    # Scale 30 without class weights is the plain mean of the same per-sample values.
    (LDAMLoss(HAM_COUNTS, scale=30, reading="described"), 10.847978),
]


def loop(name: str, logits, labels, counts, reading="described", alpha=1.0, beta=1.0, gamma=1.5):
    """The same losses sample by sample in plain Python, straight from eqs. 1 to 8."""
    classes, total = len(counts), sum(counts)
    delta = [0.5 * min(counts) ** 0.25 / n**0.25 for n in counts]
    weights = {
        "cce": [1.0] * classes,
        "wcce": [total / (classes * n) for n in counts],
        "bwcce": [(1 - n / total) / (classes - 1) for n in counts],
        "ldam": delta if reading == "coded" else [1.0] * classes,
    }

    def cross_entropy(row, y):
        return -math.log(math.exp(row[y]) / sum(math.exp(z) for z in row))

    def weighted_mean(values, w):
        weight = sum(w[y] for y in labels) if reading == "coded" else len(labels)
        return sum(v * w[y] for v, y in zip(values, labels, strict=True)) / weight

    pairs = [([float(z) for z in row], int(y)) for row, y in zip(logits, labels, strict=True)]
    scale = 30 if reading == "coded" else 1
    shifted = [([scale * (z - delta[y] * (j == y)) for j, z in enumerate(row)], y) for row, y in pairs]
    ldam = weighted_mean([cross_entropy(row, y) for row, y in shifted], weights["ldam"])
    focal = 0.0
    for row, y in pairs:
        p = math.exp(-cross_entropy(row, y))
        focal += delta[y] * (1 - p) ** gamma * -math.log(p) / len(labels)
    if name in ("focal", "ldam", "lmf"):
        return {"focal": focal, "ldam": ldam, "lmf": alpha * ldam + beta * focal}[name]
    return weighted_mean([cross_entropy(row, y) for row, y in pairs], weights[name])


@pytest.mark.parametrize(("loss", "expected"), CODED, ids=lambda value: getattr(value, "name", None))
def test_golden_numbers_of_the_authors_definitions(loss, expected):
    assert float(loss(LABELS, LOGITS)) == pytest.approx(expected, rel=2e-6)


def test_golden_margins():
    assert margins(HAM_COUNTS) == pytest.approx([0.385596, 0.344362, 0.284846, 0.5, 0.283927, 0.181229, 0.474342], abs=1e-6)
    assert margins([10, 10]) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("reading", ["described", "coded"])
@pytest.mark.parametrize("name", LOSSES)
def test_against_the_slow_loop(name, reading):
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(0, 2, (11, 7)).astype("float32"), rng.integers(0, 7, 11)
    expected = loop(name, logits, labels, HAM_COUNTS, reading)
    assert float(build_loss(name, HAM_COUNTS, reading)(labels, logits)) == pytest.approx(expected, rel=1e-5)


def test_lmf_takes_alpha_and_beta_of_the_formula():
    expected = loop("lmf", LOGITS, LABELS, HAM_COUNTS, alpha=0.7, beta=1.9, gamma=2.0)
    assert float(LMFLoss(HAM_COUNTS, 0.7, 1.9, gamma=2.0)(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("reading", ["described", "coded"])
def test_alpha_or_beta_zero_leaves_the_other_part(reading):
    ldam, focal = (build_loss(name, HAM_COUNTS, reading) for name in ("ldam", "focal"))
    assert float(LMFLoss(HAM_COUNTS, 1, 0, reading=reading)(LABELS, LOGITS)) == pytest.approx(float(ldam(LABELS, LOGITS)), rel=1e-6)
    assert float(LMFLoss(HAM_COUNTS, 0, 1, reading=reading)(LABELS, LOGITS)) == pytest.approx(float(focal(LABELS, LOGITS)), rel=1e-6)


def test_gamma_zero_is_cross_entropy():
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(LABELS, LOGITS)
    assert float(FocalLoss(None, gamma=0)(LABELS, LOGITS)) == pytest.approx(float(cross_entropy), rel=1e-6)
    assert float(Crossentropy()(LABELS, LOGITS)) == pytest.approx(float(cross_entropy), rel=1e-6)
    # With equal counts alpha is 0.5 everywhere.
    assert float(FocalLoss([9] * 7, gamma=0)(LABELS, LOGITS)) == pytest.approx(0.5 * float(cross_entropy), rel=1e-6)


def test_closed_forms_at_equal_logits():
    """Equal logits: p = 1/K; two equal classes, margin 0.5: LDAM = log(1 + e^0.5)."""
    zeros, labels = np.zeros((3, 2), "float32"), np.array([0, 1, 1])
    assert float(LDAMLoss([5, 5])(labels, zeros)) == pytest.approx(math.log(1 + math.exp(0.5)), rel=1e-6)
    assert float(FocalLoss([5, 5], gamma=2)(labels, zeros)) == pytest.approx(0.5 * 0.25 * math.log(2), rel=1e-6)
    assert float(LDAMLoss([5, 5], max_margin=0)(labels, zeros)) == pytest.approx(math.log(2), rel=1e-6)


def test_class_weights():
    assert balanced_weights(HAM_COUNTS).sum() == pytest.approx(1)
    assert balanced_weights([30, 10]) == pytest.approx([0.25, 0.75])
    assert inverse_weights([30, 10]) == pytest.approx([40 / 60, 40 / 20])
    equal = [7] * 7
    for loss in (WeightedCrossentropy(equal), WeightedCrossentropy(equal, "coded"), BalancedWeightedCrossentropy(equal, "coded")):
        assert float(loss(LABELS, LOGITS)) == pytest.approx(float(Crossentropy()(LABELS, LOGITS)), rel=1e-6)


@pytest.mark.parametrize("gap", [-200.0, -20.0, -3.0, 0.0, 3.0, 12.0, 15.0, 40.0, 200.0])
@pytest.mark.parametrize("max_margin", [0.5, 1.0, 4.0])
def test_lmf_and_its_gradient_against_double_precision(gradient, gap, max_margin):
    """Up to a margin of 1 both parts come from one cross-entropy (LDAM as ce + log1p((1 - p) expm1(margin))), above it from two."""
    logits = np.random.default_rng(1).normal(0, 1, (9, 7))
    labels = np.arange(9) % 7
    logits[np.arange(9), labels] = logits.max(axis=1) + gap
    logits = logits.astype("float32").astype("float64")
    delta = margins(HAM_COUNTS, max_margin)[labels]
    others = np.exp(np.where(np.eye(7)[labels] == 1, -np.inf, logits) - logits[np.arange(9), labels, None]).sum(axis=1)
    cross_entropy, ldam, against = np.log1p(others), np.log1p(np.exp(delta) * others), others / (1 + others)
    expected = np.mean(ldam + 2 * delta * against**1.5 * cross_entropy)
    # Slopes in log(others); the gradient of a true class's logit is minus that.
    slope = np.exp(delta) * others / (1 + np.exp(delta) * others)
    slope += 2 * delta * against**1.5 * (1.5 * (1 - against) * cross_entropy + against)
    loss = LMFLoss(HAM_COUNTS, 1, 2, max_margin=max_margin)
    # A float32 cross-entropy is a multiple of 6e-8 near 0.
    assert float(loss(labels, logits.astype("float32"))) == pytest.approx(expected, rel=2e-6, abs=5e-7)
    measured = gradient(loss, labels, logits.astype("float32"))
    assert measured[np.arange(9), labels] == pytest.approx(-slope / 9, rel=5e-6, abs=1e-7)


def test_lmf_has_second_derivatives(gradient):
    """Nothing hides the loss from differentiation: the Hessian's rows sum to 0, as adding a constant to the logits changes nothing."""
    loss, labels = LMFLoss(HAM_COUNTS), LABELS[:2]
    if keras.backend.backend() == "jax":
        import jax

        hessian = np.asarray(jax.hessian(lambda z: loss(labels, z))(ops.convert_to_tensor(LOGITS[:2])))
    else:
        import tensorflow as tf

        z = tf.Variable(LOGITS[:2])
        with tf.GradientTape(persistent=True) as outer:
            with tf.GradientTape() as inner:
                value = loss(labels, z)
            slope = inner.gradient(value, z)
        hessian = outer.jacobian(slope, z, experimental_use_pfor=False).numpy()
    step = np.zeros_like(LOGITS[:2])
    step[1, 3] = 1e-2
    moved = (gradient(loss, labels, LOGITS[:2] + step) - gradient(loss, labels, LOGITS[:2] - step)) / 2e-2
    assert hessian[:, :, 1, 3] == pytest.approx(moved, abs=2e-5)
    assert hessian.sum(axis=(2, 3)) == pytest.approx(np.zeros((2, 7)), abs=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.5])
def test_focal_gradient_at_certainty_is_zero_for_every_gamma(gradient, gamma):
    """(1 - p)^gamma has an infinite slope at p = 1 for gamma < 1; the loss must still have gradient 0 there."""
    logits = 200 * np.eye(7, dtype="float32")[LABELS]
    assert gradient(FocalLoss(HAM_COUNTS, gamma=gamma), LABELS, logits) == pytest.approx(np.zeros_like(logits), abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_against_finite_differences(gradient, name):
    loss = build_loss(name, HAM_COUNTS)
    measured = gradient(loss, LABELS, LOGITS)
    for row, column in [(0, 0), (1, 5), (3, 6)]:
        step = np.zeros_like(LOGITS)
        step[row, column] = 1e-2
        slope = (float(loss(LABELS, LOGITS + step)) - float(loss(LABELS, LOGITS - step))) / 2e-2
        assert measured[row, column] == pytest.approx(slope, abs=2e-4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LMFLoss([5, 0, 3]), "at least 1 for every class"),
        (lambda: LDAMLoss([5]), "at least two classes"),
        (lambda: WeightedCrossentropy(None), "got None"),
        (lambda: LMFLoss([5, 5], alpha=-1), "alpha must be a finite number of at least 0"),
        (lambda: LMFLoss([5, 5], alpha=0, beta=0), "alpha and beta are both 0"),
        (lambda: FocalLoss([5, 5], gamma=float("nan")), "gamma"),
        (lambda: LDAMLoss([5, 5], scale=0), "scale must be greater than 0"),
        (lambda: LMFLoss([5, 5], reading="printed"), "expected one of described, coded"),
        (lambda: build_loss("hinge", [5, 5]), "expected one of cce"),
    ],
)
def test_wrong_settings_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("name", ["ldam", "lmf"])
def test_margins_of_a_cosine_head_are_taken_from_the_cosine(name):
    """Logits 30 cos with margins 30 Delta are the LDAM paper's s (cos - Delta)."""
    cosines = np.clip(LOGITS / 3, -1, 1)
    logits, ldam = (30 * cosines).astype("float32"), loop("ldam", cosines, LABELS, HAM_COUNTS, "coded")
    weights = margins(HAM_COUNTS)[LABELS]
    head = build_loss(name, HAM_COUNTS, "coded", scale=1.0, head_scale=30.0)
    if name == "lmf":
        focal = float(FocalLoss(HAM_COUNTS)(LABELS, logits))
        assert float(head(LABELS, logits)) == pytest.approx(ldam + focal, rel=1e-5)
    else:
        assert float(head(LABELS, logits)) == pytest.approx(ldam, rel=1e-5)
    plain = build_loss("ldam", HAM_COUNTS, scale=1.0, head_scale=30.0)
    values = plain.call(LABELS, logits)
    assert np.sum(np.asarray(values) * weights) / weights.sum() == pytest.approx(ldam, rel=1e-5)
