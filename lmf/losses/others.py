"""The field's other answers to imbalance, on integer labels and logits as the paper's losses, so that they can be compared with LMF.

- effective number of samples: Cui et al. 2019, "Class-Balanced Loss Based on Effective Number of Samples", eqs. 2 and 6;
- balanced softmax: Ren et al. 2020, "Balanced Meta-Softmax for Long-Tailed Visual Recognition", eq. 3;
- logit adjustment: Menon et al. 2021, "Long-Tail Learning via Logit Adjustment", eqs. 9 (after training) and 10 (in training);
- deferred re-weighting: Cao et al. 2019 (the LDAM paper), algorithm 1.

They have one reading each: the mean is over the images of the batch.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from lmf.losses.base import ImbalanceLoss, at_least_zero, checked_counts, cross_entropies, required


def effective_weights(class_counts: Sequence[int], beta: float = 0.999) -> np.ndarray:
    """w_j = (1 - beta) / (1 - beta^n_j), scaled to sum to K, float64 `(K,)`. beta = 0: all 1; beta towards 1: in proportion to 1 / n_j."""
    counts = checked_counts(class_counts)
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be at least 0 and below 1, got {beta}")
    # log1p and expm1: 1 - beta^n loses all digits for a beta near 1.
    effective = -np.expm1(counts * np.log1p(beta - 1)) if beta > 0 else np.ones_like(counts)
    return len(counts) / effective / np.sum(1 / effective)


def log_priors(class_counts: Sequence[int]) -> np.ndarray:
    """log(n_j / N), float64 `(K,)`."""
    counts = checked_counts(class_counts)
    return np.log(counts / counts.sum())


def deferred_weights(class_counts: Sequence[int], epochs: int, share: float = 0.8, beta: float = 0.9999) -> Callable[[int], np.ndarray]:
    """Class weights `(K,)` of an epoch (0-based) of `epochs`: all 1, and from `share` of them on the `effective_weights`.

    As in the LDAM paper's DRW, which begins at epoch 160 of 200.
    """
    weights, first = effective_weights(class_counts, beta), round(share * epochs)
    return lambda epoch: weights if epoch >= first else np.ones_like(weights)


class OneReadingLoss(ImbalanceLoss):
    """A loss that has no `reading`."""

    def __init__(self, class_counts, name: str, **kwargs):
        super().__init__(required(class_counts), "described", name, **kwargs)

    def get_config(self) -> dict:
        return {name: value for name, value in super().get_config().items() if name != "reading"}


@keras.saving.register_keras_serializable("lmf")
class ClassBalancedLoss(OneReadingLoss):
    """Class-balanced cross-entropy: w_y * -log p_y with w_j = (1 - beta) / (1 - beta^n_j), scaled to sum to K; mean over images."""

    def __init__(self, class_counts, beta: float = 0.999, name: str = "class_balanced", **kwargs):
        super().__init__(class_counts, name, **kwargs)
        self.beta = float(beta)
        self.class_weights = effective_weights(class_counts, self.beta)

    def values(self, logits, labels):
        return self.weighted(cross_entropies(logits, labels), labels, self.class_weights)

    def get_config(self) -> dict:
        return {**super().get_config(), "beta": self.beta}


@keras.saving.register_keras_serializable("lmf")
class LogitAdjustedLoss(OneReadingLoss):
    """Logit-adjusted cross-entropy: -log(e^{z_y + tau log pi_y} / sum_j e^{z_j + tau log pi_j}), pi_j = n_j / N.

    tau = 0 is cross-entropy, tau = 1 balanced softmax. Predictions stay the argmax of z.
    """

    def __init__(self, class_counts, tau: float = 1.0, name: str = "logit_adjusted", **kwargs):
        super().__init__(class_counts, name, **kwargs)
        self.tau = at_least_zero("tau", tau)
        self.shifts = self.tau * log_priors(class_counts)

    def values(self, logits, labels):
        return cross_entropies(logits + ops.convert_to_tensor(self.shifts, "float32"), labels)

    def get_config(self) -> dict:
        return {**super().get_config(), "tau": self.tau}


@keras.saving.register_keras_serializable("lmf")
class BalancedSoftmaxLoss(LogitAdjustedLoss):
    """Balanced softmax: -log(n_y e^{z_y} / sum_j n_j e^{z_j})."""

    def __init__(self, class_counts, name: str = "balanced_softmax", **kwargs):
        super().__init__(class_counts, 1.0, name, **kwargs)

    def get_config(self) -> dict:
        return {name: value for name, value in super().get_config().items() if name != "tau"}


def adjusted_probabilities(probabilities: np.ndarray, class_counts: Sequence[int], tau: float = 1.0) -> np.ndarray:
    """Logit adjustment after training: p_j / pi_j^tau, scaled to sum to 1 again, `(n, K)` from probabilities `(n, K)`."""
    logits = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), 1e-300)) - tau * log_priors(class_counts)
    scaled = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return scaled / scaled.sum(axis=-1, keepdims=True)
