"""The field's other losses against scikit-learn and SciPy, closed forms by hand, and the awkward batches."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from lmf.losses import (
    BalancedSoftmaxLoss,
    ClassBalancedLoss,
    Crossentropy,
    LogitAdjustedLoss,
    adjusted_probabilities,
    deferred_weights,
    effective_weights,
    log_priors,
)

COUNTS = [229, 360, 769, 81, 779, 4693, 100]
rng = np.random.default_rng(3)
LOGITS, LABELS = rng.normal(0, 2, (11, 7)).astype("float32"), rng.integers(0, 7, 11)
PROBABILITIES = np.exp(log_softmax(LOGITS.astype("float64"), axis=1))


def exact_weights(counts, beta):
    """(1 - beta) / (1 - beta^n), to sum to K, in exact fractions."""
    weights = [(1 - Fraction(beta)) / (1 - Fraction(beta) ** n) for n in counts]
    return [float(weight * len(counts) / sum(weights)) for weight in weights]


def test_effective_weights_by_hand():
    # n = 1 and 2, beta 1/2: effective numbers 1 and 3/2, weights 1 and 2/3, to sum to 2: 6/5 and 4/5.
    assert effective_weights([1, 2], 0.5) == pytest.approx([1.2, 0.8], abs=1e-15)
    assert effective_weights([3, 50, 7], 0.0) == pytest.approx([1, 1, 1])
    assert effective_weights([3, 50], 1 - 1e-12) == pytest.approx([100 / 53, 6 / 53], rel=1e-9)


@pytest.mark.parametrize("beta", ["9/10", "999/1000", "9999/10000"])
def test_effective_weights_in_exact_fractions(beta):
    assert effective_weights(COUNTS, float(Fraction(beta))) == pytest.approx(exact_weights(COUNTS, beta), rel=1e-9)


def test_class_balanced_is_scikit_learns_weighted_log_loss():
    weights = np.array(exact_weights(COUNTS, "999/1000"))[LABELS]
    expected = log_loss(LABELS, PROBABILITIES, sample_weight=weights, labels=range(7), normalize=False) / len(LABELS)
    assert float(ClassBalancedLoss(COUNTS)(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-6)
    assert float(ClassBalancedLoss(COUNTS, beta=0)(LABELS, LOGITS)) == pytest.approx(float(Crossentropy()(LABELS, LOGITS)), rel=1e-6)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_logit_adjusted_is_scipys_log_softmax_of_shifted_logits(tau):
    shifted = LOGITS.astype("float64") + tau * np.log(np.array(COUNTS) / sum(COUNTS))
    expected = -log_softmax(shifted, axis=1)[np.arange(11), LABELS].mean()
    assert float(LogitAdjustedLoss(COUNTS, tau)(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-6)


def test_balanced_softmax_in_a_slow_loop():
    total = 0.0
    for row, y in zip(LOGITS.astype("float64"), LABELS, strict=True):
        total -= math.log(COUNTS[y] * math.exp(row[y]) / sum(n * math.exp(z) for n, z in zip(COUNTS, row, strict=True)))
    assert float(BalancedSoftmaxLoss(COUNTS)(LABELS, LOGITS)) == pytest.approx(total / 11, rel=1e-6)
    assert float(LogitAdjustedLoss(COUNTS)(LABELS, LOGITS)) == pytest.approx(total / 11, rel=1e-6)


def test_equal_logits_leave_the_prior():
    """-log pi_y, and the gradient pi - one-hot: it vanishes over a batch with the classes' own shares."""
    zeros, labels = np.zeros((4, 2), "float32"), np.array([0, 0, 0, 1])
    expected = -(3 * math.log(0.75) + math.log(0.25)) / 4
    assert float(BalancedSoftmaxLoss([30, 10])(labels, zeros)) == pytest.approx(expected, rel=1e-6)


def test_gradient_of_balanced_softmax_at_equal_logits(gradient):
    found = gradient(BalancedSoftmaxLoss([30, 10]), np.array([0, 0, 0, 1]), np.zeros((4, 2), "float32"))
    assert found.sum(axis=0) == pytest.approx([0, 0], abs=1e-7)
    assert found[0] * 4 == pytest.approx([-0.25, 0.25], abs=1e-6)


def test_adjustment_after_training_by_hand():
    # (0.8, 0.2) with counts 3 : 1 and tau 1: 0.8/3 against 0.2, so 4/7 and 3/7; tau 0 changes nothing.
    assert adjusted_probabilities(np.array([[0.8, 0.2]]), [30, 10]) == pytest.approx(np.array([[4 / 7, 3 / 7]]))
    assert adjusted_probabilities(PROBABILITIES, COUNTS, 0) == pytest.approx(PROBABILITIES)
    assert np.isfinite(adjusted_probabilities(np.array([[1.0, 0.0]]), [30, 10])).all()


def test_training_with_and_adjusting_after_share_their_optimum():
    """Menon et al.: where softmax(z + log pi) are the posteriors, z has those that the posteriors have after adjustment."""
    posterior = PROBABILITIES
    logits = np.log(posterior) - log_priors(COUNTS)
    balanced = np.exp(log_softmax(logits, axis=1))
    assert adjusted_probabilities(posterior, COUNTS) == pytest.approx(balanced)


def test_deferred_weights_begin_late():
    weights = deferred_weights(COUNTS, epochs=20)
    assert weights(15).tolist() == [1] * 7
    assert weights(16) == pytest.approx(exact_weights(COUNTS, "9999/10000"), rel=1e-9)
    assert deferred_weights(COUNTS, epochs=200)(159).tolist() == [1] * 7 and deferred_weights(COUNTS, epochs=200)(160)[3] > 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ClassBalancedLoss(COUNTS, beta=1.0), "beta must be at least 0 and below 1, got 1.0"),
        (lambda: ClassBalancedLoss(COUNTS, beta=float("nan")), "beta"),
        (lambda: LogitAdjustedLoss(COUNTS, tau=-1), "tau must be a finite number of at least 0"),
        (lambda: BalancedSoftmaxLoss(None), "got None"),
        (lambda: BalancedSoftmaxLoss([4, 0]), "at least 1 for every class"),
        (lambda: BalancedSoftmaxLoss([4, 5])(np.array([0]), np.zeros((1, 3))), "2 class counts do not fit"),
    ],
)
def test_wrong_settings_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
