"""The losses of the LMF paper (Sadi et al. 2024, eqs. 1 to 8), usable on their own with any Keras model that returns logits.

Every loss takes integer labels `(batch,)` (or `(batch, 1)`) in 0..K-1 and logits `(batch, K)`, and returns the scalar batch mean.
Two readings, because paper and authors' code differ (see DEVIATIONS.md):
- "described": the equations, with the sum over the other classes of eqs. 5 and 8 read as sum_{j != y} e^{z_j}; no logit scale,
  no class weights in LDAM, weighted losses divided by the batch size;
- "coded": the authors' program: LDAM multiplies all logits by 30 and weighs each sample by its class margin; WCCE, BWCCE and
  LDAM divide by the sum of the weights in the batch, not by its size.
The focal loss is the same in both.

    from lmf.losses import LMFLoss
    model.compile(optimizer="adam", loss=LMFLoss([229, 360, 769, 81, 779, 4693, 100], alpha=1.0, beta=2.0))
"""

import abc
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

READINGS = ("described", "coded")
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


def cross_entropies(logits, labels):
    """Eq. 1 for each sample: -log p_y `(batch,)`; `logits` `(batch, K)` float32, `labels` `(batch,)` int32 in range."""
    return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


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


def of_class(per_class, labels):
    """Each sample's entry of an array `(K,)`: `(batch,)` float32."""
    return ops.take(ops.convert_to_tensor(per_class, "float32"), labels, axis=0)


class ImbalanceLoss(keras.losses.Loss, abc.ABC):
    """What the losses share: checks, one-hot labels and class weights; subclasses define `values(logits, labels)` `(batch,)`.

    `class_counts`: training images of each class, in the order of the logits; all at least 1.
    Raises ValueError for counts that do not match the logits, wrong shapes and, outside a compiled function, labels out of range
    (inside one such a label makes the loss NaN, which stops our training; it never passes silently).
    """

    def __init__(self, class_counts: Sequence[int] | None, reading: str, name: str, **kwargs):
        super().__init__(name=name, **kwargs)
        if reading not in READINGS:
            raise ValueError(f"reading={reading!r}: expected one of {', '.join(READINGS)}")
        self.reading = reading
        self.class_counts = None if class_counts is None else [int(count) for count in checked_counts(class_counts)]

    @property
    def coded(self) -> bool:
        return self.reading == "coded"

    @abc.abstractmethod
    def values(self, logits, labels):
        """Loss of each sample, `(batch,)` float32, whose plain mean is the loss of the batch."""

    def weighted(self, values, labels, class_weights):
        """Each sample's value times its class weight; in the coded reading scaled so that the plain mean is sum(w v) / sum(w)."""
        weights = of_class(class_weights, labels)
        return values * (weights / ops.mean(weights) if self.coded else weights)

    def call(self, y_true, y_pred):
        # float32 whatever comes in: with scale 30 a float16 logit of 2200 would already overflow.
        logits = ops.cast(y_pred, "float32")
        labels = self._checked_labels(y_true, logits)
        known = ops.mod(labels, logits.shape[-1])
        return ops.where(ops.equal(known, labels), self.values(logits, known), float("nan"))

    def _checked_labels(self, y_true, logits):
        shape, classes = tuple(y_true.shape), logits.shape[-1] if len(logits.shape) == 2 else None
        if classes is None or classes < 2:
            raise ValueError(f"{self.name}: logits must have shape (batch, classes) with at least 2 classes, got {tuple(logits.shape)}")
        if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
            raise ValueError(f"{self.name}: labels must be integers of shape (batch,), got shape {shape}")
        if None not in (shape[0], logits.shape[0]) and shape[0] != logits.shape[0]:
            raise ValueError(f"{self.name}: labels of shape {shape} do not fit logits of shape {tuple(logits.shape)}")
        if self.class_counts is not None and len(self.class_counts) != classes:
            raise ValueError(f"{self.name}: {len(self.class_counts)} class counts do not fit logits of shape {tuple(logits.shape)}")
        labels = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        values = concrete(labels)
        if values is not None and values.size and (values.min() < 0 or values.max() >= classes):
            raise ValueError(f"{self.name}: labels must lie in 0..{classes - 1}, got {values.min()}..{values.max()}")
        return labels

    def get_config(self) -> dict:
        return {**super().get_config(), "class_counts": self.class_counts, "reading": self.reading}


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
    """

    def __init__(self, class_counts, max_margin: float = 0.5, scale: float | None = None, reading: str = "described",
                 name: str = "ldam", **kwargs):  # fmt: skip
        super().__init__(required(class_counts), reading, name, **kwargs)
        self.max_margin, self.scale = at_least_zero("max_margin", max_margin), reading_scale(scale, reading)
        self.class_margins = margins(class_counts, self.max_margin)

    def values(self, logits, labels):
        values = ldam_values(logits, labels, ops.convert_to_tensor(self.class_margins, "float32"), self.scale)
        return self.weighted(values, labels, self.class_margins) if self.coded else values

    def get_config(self) -> dict:
        return {**super().get_config(), "max_margin": self.max_margin, "scale": self.scale}


@keras.saving.register_keras_serializable("lmf")
class LMFLoss(LDAMLoss):
    """LMF, eq. 8: alpha * LDAM (eq. 5) + beta * focal (eq. 7), both on the same logits; alpha, beta, gamma >= 0."""

    def __init__(self, class_counts, alpha: float = 1.0, beta: float = 1.0, gamma: float = 1.5, max_margin: float = 0.5,
                 scale: float | None = None, reading: str = "described", name: str = "lmf", **kwargs):  # fmt: skip
        super().__init__(class_counts, max_margin, scale, reading, name, **kwargs)
        self.alpha, self.beta, self.gamma = at_least_zero("alpha", alpha), at_least_zero("beta", beta), at_least_zero("gamma", gamma)

    def values(self, logits, labels):
        # Cross-entropy is by far the dearest operation, and both parts are functions of the same one unless LDAM's logits are scaled.
        cross_entropy, sample_margins = cross_entropies(logits, labels), of_class(self.class_margins, labels)
        against = probability_against(cross_entropy)
        if self.scale == 1 and not self.coded and self.max_margin <= LARGEST_SHARED_MARGIN:
            ldam = shared_ldam_values(cross_entropy, against, sample_margins)
        else:
            ldam = super().values(logits, labels)
        return self.alpha * ldam + self.beta * sample_margins * focal_values(cross_entropy, against, self.gamma)

    def get_config(self) -> dict:
        return {**super().get_config(), "alpha": self.alpha, "beta": self.beta, "gamma": self.gamma}


def checked_counts(class_counts: Sequence[int]) -> np.ndarray:
    """Counts as float64 `(K,)`; ValueError unless there are at least two classes with at least one image each."""
    counts = np.asarray(class_counts, dtype="float64")
    if counts.ndim != 1 or len(counts) < 2:
        raise ValueError(f"class_counts must list at least two classes, got shape {counts.shape}")
    if not (np.isfinite(counts).all() and (counts >= 1).all()):
        raise ValueError(f"class_counts must be at least 1 for every class, got {[float(count) for count in counts]}")
    return counts


def required(class_counts):
    """Only CCE and the plain focal loss (eq. 6) do without counts."""
    if class_counts is None:
        raise ValueError("class_counts must list the training images of each class, got None")
    return class_counts


def at_least_zero(name: str, value: float) -> float:
    if not (np.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number of at least 0, got {value}")
    return float(value)


def reading_scale(scale: float | None, reading: str) -> float:
    """The logit scale s: as given, else 30 in the coded reading and 1 in the described one."""
    if scale is None:
        return CODED_SCALE if reading == "coded" else 1.0
    if not scale > 0:
        raise ValueError(f"scale must be greater than 0, got {scale}")
    return float(scale)


def concrete(tensor) -> np.ndarray | None:
    """The tensor's numbers, or None while a function is being traced, when it has none yet."""
    try:
        return np.asarray(ops.convert_to_numpy(tensor))
    except Exception:  # each backend has an exception of its own for this, and naming it would need its import
        return None


LOSSES = {
    "cce": Crossentropy,
    "wcce": WeightedCrossentropy,
    "focal": FocalLoss,
    "ldam": LDAMLoss,
    "bwcce": BalancedWeightedCrossentropy,
    "lmf": LMFLoss,
}


def build_loss(name: str, class_counts: Sequence[int], reading: str = "described", **settings) -> ImbalanceLoss:
    """The loss called `name` on the command line; `settings` are those of its class (alpha, beta, gamma, max_margin, scale)."""
    if name not in LOSSES:
        raise ValueError(f"loss {name!r}: expected one of {', '.join(LOSSES)}")
    return LOSSES[name](class_counts, reading=reading, **settings)
