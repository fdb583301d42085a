"""The explanation loss of the thesis, its parts, and two forms for feedback that is not binary.

Eq. 4.1, which adds it to the cross-entropy, is `feedback.models.SelfExplaining.compute_loss`.

Everywhere: `mask` is what the user marked, `saliency` what the model shows, both `(batch, height, width)` or `(batch, height, width, 1)`
in 0..1; results are one float32 number per image, `(batch,)`, and the `Loss` classes average them.
"""

from collections.abc import Callable

import keras
from keras import ops

EPSILON = 1e-7
STEEPNESS = 20.0


def soft_threshold(saliency, threshold: float = 0.5, steepness: float = STEEPNESS):
    """Differentiable th(S, t) of Algorithm 2: sigmoid(steepness * (S - t)), shape kept.

    A step function has no gradient, although section 4.1 asks for one (facts, section 4.2, row 5); this is the step made soft. With the
    default steepness a pixel 0.1 above the threshold already counts 0.88.
    """
    return ops.sigmoid(steepness * (saliency - threshold))


def soft_jaccard(mask, saliency):
    """Eq. 3.5 in its set form: J = sum(y s) / (sum(y) + sum(s) - sum(y s)), sums over the pixels of one image.

    The printed eq. 3.4 has |A| x |B| in the denominator; the union is |A| + |B| - |A and B|. Both empty: 1.
    """
    mask, saliency = _pixels(mask, saliency)
    intersection = ops.sum(mask * saliency, axis=1)
    return _ratio(intersection, ops.sum(mask, axis=1) + ops.sum(saliency, axis=1) - intersection)


def weighted_jaccard(importance, saliency):
    """J = sum(min(w, s)) / sum(max(w, s)) (Ruzicka): the set form for graded feedback. Equal maps give 1; both empty: 1.

    For a binary mask it equals `soft_jaccard`, because then min(y, s) = y s and max(y, s) = y + s - y s. (The product form cannot serve
    here: J(w, w) < 1 for weights between 0 and 1.)
    """
    importance, saliency = _pixels(importance, saliency)
    return _ratio(ops.sum(ops.minimum(importance, saliency), axis=1), ops.sum(ops.maximum(importance, saliency), axis=1))


class JaccardLoss(keras.losses.Loss):
    """`JaccardLoss()(mask, map)`: mean over images of (1 - J)^2 (eq. 3.6; eq. 4.3 sums J itself, which would be maximised). Both empty: 0.

    Args:
        threshold: None takes the map as it is; a number softens it first with `soft_threshold` (the block T of eq. 4.4).
        jaccard: `soft_jaccard`, or `weighted_jaccard` for feedback with a weight for each pixel (thesis, section 6.3).

    Raises:
        ValueError: the shapes differ or are not images; the message names them.
    """

    def __init__(self, threshold: float | None = None, jaccard: Callable = soft_jaccard, **kwargs):
        super().__init__(name="jaccard_loss", **kwargs)
        self.threshold, self.jaccard = threshold, jaccard

    def call(self, y_true, y_pred):
        """(batch,) losses of masks `y_true` and maps `y_pred`."""
        _check_shapes(y_true, y_pred)
        return ops.square(1.0 - self.jaccard(y_true, y_pred if self.threshold is None else soft_threshold(y_pred, self.threshold)))


class PixelDistanceLoss(keras.losses.Loss):
    """Mean squared distance of the map and graded feedback, pixel by pixel: the other loss that section 6.3 proposes."""

    def call(self, y_true, y_pred):
        """(batch,) losses of importances `y_true` and maps `y_pred`."""
        _check_shapes(y_true, y_pred)
        importance, saliency = _pixels(y_true, y_pred)
        return ops.mean(ops.square(importance - saliency), axis=1)


def explanation_loss_for(feedback: str, threshold: float) -> keras.losses.Loss:
    """The explanation loss of a setting, one value per image: "binary" (the thesis), "graded" or "distance" (its future work)."""
    if feedback == "binary":
        return JaccardLoss(threshold, reduction=None)
    if feedback == "graded":
        # Graded feedback is compared with the map itself: a threshold would throw away what the grades say.
        return JaccardLoss(None, weighted_jaccard, reduction=None)
    if feedback == "distance":
        return PixelDistanceLoss(reduction=None)
    raise ValueError(f"feedback {feedback!r}: expected binary, graded or distance")


def _pixels(first, second):
    flat = (ops.reshape(ops.cast(image, "float32"), (ops.shape(image)[0], -1)) for image in (first, second))
    return tuple(flat)


def _ratio(intersection, union):
    """intersection / union, 1 where both are empty; the inner `where` keeps the gradient finite there."""
    empty = union < EPSILON
    return ops.where(empty, 1.0, intersection / ops.where(empty, 1.0, union))


def _check_shapes(mask, saliency) -> None:
    first, second = tuple(mask.shape), tuple(saliency.shape)
    image = len(first) == 3 or (len(first) == 4 and first[-1] == 1)
    agree = len(first) == len(second) and all(a == b or a is None or b is None for a, b in zip(first, second, strict=True))
    if not image or not agree:
        raise ValueError(
            f"expected mask and map of the same shape (batch, height, width) or (batch, height, width, 1), got {first} and {second}"
        )
