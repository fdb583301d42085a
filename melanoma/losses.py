"""The two losses of the melanoma study that Keras lacks: SimCLR's (eq. 1) and the soft Dice (eq. 2).

The third, L_BCE of Algorithm 1, line 13, is `keras.losses.BinaryCrossentropy` and stays that.
"""

from typing import Any

import keras
from keras import ops

EPSILON = 1e-7  # Keeps 0/0 defined; far below the square of one saturated pixel.


def _shape(tensor: Any) -> tuple[int | None, ...]:
    return tuple(tensor.shape)


def simclr(first: Any, second: Any, temperature: float) -> Any:
    """NT-Xent of two views, `(batch, d)` float each; returns `(2 * batch,)` float32, one value an anchor.

    Paper §4.2, eq. 1, read as Chen et al. (2020) define it (DEVIATIONS row 8):

        z = [first; second], s_ik = cos(z_i, z_k) / τ
        l_i = -log( exp(s_ip) / Σ_{k≠i} exp(s_ik) ),  p = the other view of the same image

    The denominator holds the positive and the 2(N-1) negatives, never the anchor itself.
    """
    views = ops.cast(ops.concatenate([first, second], axis=0), "float32")
    # An all-zero embedding has no direction; the added epsilon keeps its gradient finite where `normalize` would not.
    views = views / ops.sqrt(ops.sum(ops.square(views), axis=1, keepdims=True) + 1e-12)
    similarity = ops.matmul(views, ops.transpose(views)) / temperature
    anchors = ops.shape(views)[0]
    self_mask = ops.eye(anchors, dtype="float32")
    # -1e9 instead of -inf: its exponential is exactly 0 and its gradient is 0, not NaN.
    log_denominator = ops.logsumexp(similarity - 1e9 * self_mask, axis=1)
    half = anchors // 2
    # The positive of anchor i is i + N: the diagonal of the upper right block, read without building a (2N, 2N) mask.
    positive = ops.sum(views[:half] * views[half:], axis=1) / temperature
    return log_denominator - ops.concatenate([positive, positive], axis=0)


def soft_dice(mask: Any, prediction: Any) -> Any:
    """Soft Dice loss of maps `(batch, h, w, channels)` float in 0..1; returns `(batch, channels)`. Paper §4.4, eq. 2.

        L = 1 - 2 Σ y p / (Σ y² + Σ p²),  sums over the pixels of one image

    Both empty gives 0 (nothing to find, nothing claimed); an empty mask under a non-empty map gives 1.
    """
    mask, prediction = ops.cast(mask, "float32"), ops.cast(prediction, "float32")
    overlap = 2.0 * ops.sum(mask * prediction, axis=(1, 2))
    size = ops.sum(ops.square(mask), axis=(1, 2)) + ops.sum(ops.square(prediction), axis=(1, 2))
    return 1.0 - (overlap + EPSILON) / (size + EPSILON)


@keras.saving.register_keras_serializable(package="melanoma")
class SimCLRLoss(keras.losses.Loss):
    """`SimCLRLoss(τ)(first, second)`: scalar mean of `simclr` over all 2·batch anchors.

    Args:
        temperature: τ > 0; the paper's value is 0.5 (A.3).

    Raises:
        ValueError: a temperature that is not positive, or views that are not two `(batch, d)` of one shape.
    """

    def __init__(self, temperature: float = 0.5, name: str = "simclr") -> None:
        super().__init__(name=name)
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, not {temperature}")
        self.temperature = float(temperature)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        first, second = _shape(y_true), _shape(y_pred)
        if len(first) != 2 or first != second:
            raise ValueError(f"SimCLRLoss needs two views of one shape (batch, d), not {first} and {second}")
        return simclr(y_true, y_pred, self.temperature)

    def get_config(self) -> dict[str, Any]:
        return {"temperature": self.temperature, "name": self.name}


@keras.saving.register_keras_serializable(package="melanoma")
class PairedViewsLoss(SimCLRLoss):
    """The same loss on one tensor `(batch, 2, d)`, so that `fit` sees both views as one prediction; targets are ignored."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        shape = _shape(y_pred)
        if len(shape) != 3 or shape[1] != 2:
            raise ValueError(f"PairedViewsLoss needs embeddings of shape (batch, 2, d), not {shape}")
        return simclr(y_pred[:, 0], y_pred[:, 1], self.temperature)


@keras.saving.register_keras_serializable(package="melanoma")
class SoftDiceLoss(keras.losses.Loss):
    """`SoftDiceLoss()(mask, map)`, both `(batch, h, w, channels)`; one loss an image and channel, then the mean.

    With one indicator there is one channel; the multi-task models of Table 5 have one an indicator.

    Raises:
        ValueError: shapes that differ or have no channel axis.
    """

    def __init__(self, name: str = "soft_dice") -> None:
        super().__init__(name=name)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        mask, prediction = _shape(y_true), _shape(y_pred)
        if len(mask) != 4 or mask != prediction:
            raise ValueError(f"SoftDiceLoss needs mask and map of one shape (batch, h, w, channels), not {mask} and {prediction}")
        return soft_dice(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}


@keras.saving.register_keras_serializable(package="melanoma")
class WeightedBinaryCrossentropy(keras.losses.Loss):
    """L_BCE on logits with the positives of each output weighted: for the rare indicators of Table 1 (reading `corrected`).

    L = mean over images and outputs of w_k y log(1 + e^-z) + (1 - y) log(1 + e^z); all w_k = 1 is `BinaryCrossentropy(from_logits=True)`.

    Args:
        positive_weights: one w_k > 0 an output, as a rule negatives / positives of the training images.
    """

    def __init__(self, positive_weights: tuple[float, ...], name: str = "weighted_bce") -> None:
        super().__init__(name=name)
        if not positive_weights or min(positive_weights) <= 0:
            raise ValueError(f"positive_weights must be positive, not {positive_weights}")
        self.positive_weights = tuple(float(weight) for weight in positive_weights)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        labels, logits = _shape(y_true), _shape(y_pred)
        if labels != logits or logits[-1] != len(self.positive_weights):
            raise ValueError(
                f"WeightedBinaryCrossentropy needs labels and logits (batch, {len(self.positive_weights)}), not {labels} and {logits}"
            )
        y, z = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
        weights = ops.convert_to_tensor(self.positive_weights, "float32")
        return ops.mean(weights * y * ops.softplus(-z) + (1.0 - y) * ops.softplus(z), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {"positive_weights": self.positive_weights, "name": self.name}


@keras.saving.register_keras_serializable(package="melanoma")
class UncertaintyWeights(keras.layers.Layer):
    """Total of several losses L_i with learned log variances s_i (Kendall, Gal & Cipolla 2018, eq. 7 and 10; s = log σ²):

        L = Σ c_i exp(-s_i) L_i + s_i / 2,  c = 1 for cross-entropies, 1/2 for the Dice loss, which is taken as a regression's

    All s begin at 0. `fixed` keeps them there with all c = 1: the plain sum.
    """

    def __init__(self, factors: dict[str, float], fixed: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factors, self.fixed = dict(factors), fixed
        self.log_variances = {
            name: self.add_weight(shape=(), initializer="zeros", trainable=not fixed, name=f"log_variance_{name}") for name in factors
        }

    def call(self, losses: dict[str, Any]) -> Any:
        if self.fixed:
            return sum(ops.cast(losses[name], "float32") for name in self.factors)
        terms = [
            factor * ops.exp(-self.log_variances[name]) * ops.cast(losses[name], "float32") + self.log_variances[name] / 2
            for name, factor in self.factors.items()
        ]
        return sum(terms)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factors": self.factors, "fixed": self.fixed}
