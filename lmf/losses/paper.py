"""The losses of the LMF paper (Sadi et al. 2024, eqs. 1 to 8), usable on their own with any Keras model that returns logits.

Every loss takes integer labels `(batch,)` in 0..K-1 or one-hot ones `(batch, K)` and logits `(batch, K)`, or the same for every pixel of
dense predictions `(batch, height, width, K)` (the paper's future work), and returns the scalar mean.
Two readings, because paper and authors' code differ (see DEVIATIONS.md):
- "described": the equations, with the sum over the other classes of eqs. 5 and 8 read as sum_{j != y} e^{z_j}; no logit scale,
  no class weights in LDAM, weighted losses divided by the batch size;
- "coded": the authors' program: LDAM multiplies all logits by 30 and weighs each sample by its class margin; WCCE, BWCCE and
  LDAM divide by the sum of the weights in the batch, not by its size.
The focal loss is the same in both.

    from lmf.losses import LMFLoss
    model.compile(optimizer="adam", loss=LMFLoss([229, 360, 769, 81, 779, 4693, 100], alpha=1.0, beta=2.0))
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from lmf.losses.base import ImbalanceLoss, at_least_zero, checked_counts, cross_entropies, of_class, required

CODED_SCALE = 30.0
TINY = 1e-12
# Taken from the plain cross-entropy, LDAM multiplies that one's float32 rounding by e^margin: harmless up to here, not at 30 * 0.5.
LARGEST_SHARED_MARGIN = 1.0


def inverse_weights(class_counts: Sequence[int]) -> np.ndarray:
    """Eq. 2's weights, "the inverse ratio of the number of images": w_j = N / (K n_j), float64 `(K,)`; all 1 when the counts are equal."""
    counts = checked_counts(class_counts)
    return counts.sum() / (len(counts) * counts)


def balanced_weights(class_counts: Sequence[int]) -> np.ndarray:
    """Eq. 3: w_j = (1 - n_j / sum n) / (K - 1), float64 `(K,)`, summing to 1."""
    counts = checked_counts(class_counts)
    return (1 - counts / counts.sum()) / (len(counts) - 1)


def margins(class_counts: Sequence[int], max_margin: float = 0.5) -> np.ndarray:
    """Eq. 4: Delta_j = C / n_j^(1/4), float64 `(K,)`. C is left open by the paper; as in the code, the largest margin is `max_margin`."""
    counts = checked_counts(class_counts)
    return max_margin * (counts.min() / counts) ** 0.25


def ldam_values(logits, labels, class_margins, scale: float = 1.0):
    """Eq. 5 for each sample, `(batch,)`: cross-entropy of scale * (z - Delta_y on the true class's logit)."""
    shifted = logits - ops.one_hot(labels, logits.shape[-1], dtype="float32") * class_margins
    return cross_entropies(shifted if scale == 1 else scale * shifted, labels)


def shared_ldam_values(cross_entropy, against, sample_margins):
    """Eq. 5 at scale 1 for each sample from its cross-entropy (eq. 1), 1 - p_y and its class's margin, all `(batch,)`.

    With u = e^{z_y - Delta} eq. 5 is -log p + log(p + (1 - p) e^Delta) = ce + log1p((1 - p) (e^Delta - 1)): only positive terms, so
    nothing cancels. For margins up to `LARGEST_SHARED_MARGIN`; `ldam_values` takes any.
    """
    return cross_entropy + ops.log1p(against * ops.expm1(sample_margins))


def focal_values(cross_entropy, against, gamma: float):
    """Eq. 6 for each sample from its cross-entropy and 1 - p_y, all `(batch,)`: (1 - p_y)^gamma * -log p_y."""
    return ops.power(against, gamma) * cross_entropy


def probability_against(cross_entropy):
    """1 - p_y of each sample, `(batch,)`: -expm1(-ce), without cancellation near p_y = 1.

    Kept above `TINY`: for gamma < 1 the slope of the focal loss's power is infinite at 0, and infinity times zero would be NaN.
    """
    return ops.maximum(-ops.expm1(-cross_entropy), TINY)


@keras.saving.register_keras_serializable("lmf")
class Crossentropy(ImbalanceLoss):
    """CCE, eq. 1: mean of -log p_y. `class_counts` are optional and only checked against the logits."""

    def __init__(self, class_counts=None, reading: str = "described", name: str = "cce", **kwargs):
        super().__init__(class_counts, reading, name, **kwargs)

    def values(self, logits, labels):
        return cross_entropies(logits, labels)


@keras.saving.register_keras_serializable("lmf")
class WeightedCrossentropy(ImbalanceLoss):
    """WCCE, eq. 2: w_y * -log p_y with w_j = N / (K n_j)."""

    def __init__(self, class_counts, reading: str = "described", name: str = "wcce", **kwargs):
        super().__init__(required(class_counts), reading, name, **kwargs)
        self.class_weights = inverse_weights(class_counts)

    def values(self, logits, labels):
        return self.weighted(cross_entropies(logits, labels), labels, self.class_weights)


@keras.saving.register_keras_serializable("lmf")
class BalancedWeightedCrossentropy(ImbalanceLoss):
    """BWCCE, eqs. 2 and 3: w_y * -log p_y with w_j = (1 - n_j / N) / (K - 1)."""

    def __init__(self, class_counts, reading: str = "described", name: str = "bwcce", **kwargs):
        super().__init__(required(class_counts), reading, name, **kwargs)
        self.class_weights = balanced_weights(class_counts)

    def values(self, logits, labels):
        return self.weighted(cross_entropies(logits, labels), labels, self.class_weights)


@keras.saving.register_keras_serializable("lmf")
class FocalLoss(ImbalanceLoss):
    """Focal loss, eq. 7: alpha_y (1 - p_y)^gamma * -log p_y, alpha the margins of eq. 4; `class_counts=None` leaves alpha out (eq. 6).

    Always divided by the batch size, as the focal-loss file that the authors' program loads does. gamma = 0 is cross-entropy.
    """

    def __init__(self, class_counts, gamma: float = 1.5, max_margin: float = 0.5, reading: str = "described",
                 name: str = "focal", **kwargs):  # fmt: skip
        super().__init__(class_counts, reading, name, **kwargs)
        self.gamma, self.max_margin = at_least_zero("gamma", gamma), at_least_zero("max_margin", max_margin)
        self.class_margins = None if class_counts is None else margins(class_counts, max_margin)

    def values(self, logits, labels):
        cross_entropy = cross_entropies(logits, labels)
        values = focal_values(cross_entropy, probability_against(cross_entropy), self.gamma)
        return values if self.class_margins is None else values * of_class(self.class_margins, labels)

    def get_config(self) -> dict:
        return {**super().get_config(), "gamma": self.gamma, "max_margin": self.max_margin}


@keras.saving.register_keras_serializable("lmf")
class LDAMLoss(ImbalanceLoss):
    """LDAM, eq. 5: -log(u / (u + sum_{j != y} e^{z_j})), u = e^{z_y - Delta_y}. Coded: scale 30 and the margins as class weights.

    `scale=None` is the reading's: 1 described, 30 coded. No deferred re-weighting and no normalised features, as in the authors' program.
    `head_scale`: what the logits were multiplied by already; with those of a cosine head the margins are then taken from the cosine.
    """

    def __init__(self, class_counts, max_margin: float = 0.5, scale: float | None = None, reading: str = "described",
                 head_scale: float = 1.0, name: str = "ldam", **kwargs):  # fmt: skip
        super().__init__(required(class_counts), reading, name, **kwargs)
        self.max_margin, self.scale = at_least_zero("max_margin", max_margin), reading_scale(scale, reading)
        self.class_margins, self.head_scale = margins(class_counts, self.max_margin), reading_scale(head_scale, reading)

    def values(self, logits, labels):
        shifts = ops.convert_to_tensor(self.head_scale * self.class_margins, "float32")
        values = ldam_values(logits, labels, shifts, self.scale)
        return self.weighted(values, labels, self.class_margins) if self.coded else values

    def get_config(self) -> dict:
        return {**super().get_config(), "max_margin": self.max_margin, "scale": self.scale, "head_scale": self.head_scale}


@keras.saving.register_keras_serializable("lmf")
class LMFLoss(LDAMLoss):
    """LMF, eq. 8: alpha * LDAM (eq. 5) + beta * focal (eq. 7), both on the same logits; alpha, beta, gamma >= 0."""

    def __init__(self, class_counts, alpha: float = 1.0, beta: float = 1.0, gamma: float = 1.5, max_margin: float = 0.5,
                 scale: float | None = None, reading: str = "described", head_scale: float = 1.0, name: str = "lmf", **kwargs):  # fmt: skip
        super().__init__(class_counts, max_margin, scale, reading, head_scale, name, **kwargs)
        self.alpha, self.beta, self.gamma = at_least_zero("alpha", alpha), at_least_zero("beta", beta), at_least_zero("gamma", gamma)
        if self.alpha == self.beta == 0:
            raise ValueError("alpha and beta are both 0: expected at least one above 0")

    def values(self, logits, labels):
        # Cross-entropy is by far the dearest operation, and both parts are functions of the same one unless LDAM's logits are scaled.
        cross_entropy, sample_margins = cross_entropies(logits, labels), of_class(self.class_margins, labels)
        against = probability_against(cross_entropy)
        if self.scale == self.head_scale == 1 and not self.coded and self.max_margin <= LARGEST_SHARED_MARGIN:
            ldam = shared_ldam_values(cross_entropy, against, sample_margins)
        else:
            ldam = super().values(logits, labels)
        return self.alpha * ldam + self.beta * sample_margins * focal_values(cross_entropy, against, self.gamma)

    def get_config(self) -> dict:
        return {**super().get_config(), "alpha": self.alpha, "beta": self.beta, "gamma": self.gamma}


def reading_scale(scale: float | None, reading: str) -> float:
    """The logit scale s: as given, else 30 in the coded reading and 1 in the described one."""
    if scale is None:
        return CODED_SCALE if reading == "coded" else 1.0
    if not scale > 0:
        raise ValueError(f"scale must be greater than 0, got {scale}")
    return float(scale)
