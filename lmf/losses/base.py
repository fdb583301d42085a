"""What every loss shares: shapes and labels checked, one-hot and dense labels brought to one form, class weights of a batch."""

import abc
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

READINGS = ("described", "coded")


def cross_entropies(logits, labels):
    """Eq. 1 for each sample: -log p_y `(batch,)`; `logits` `(batch, K)` float32, `labels` `(batch,)` int32 in range."""
    return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def class_numbers(one_hot):
    """Class numbers `(…)` int32 from labels `(…, K)`; -1 where they are not one 1 beside zeros."""
    labels = ops.cast(one_hot, "float32")
    proper = ops.logical_and(ops.equal(ops.sum(ops.abs(labels), axis=-1), 1.0), ops.equal(ops.max(labels, axis=-1), 1.0))
    return ops.where(proper, ops.cast(ops.argmax(labels, axis=-1), "int32"), -1)


def of_class(per_class, labels):
    """Each sample's entry of an array `(K,)`: `(batch,)` float32."""
    return ops.take(ops.convert_to_tensor(per_class, "float32"), labels, axis=0)


class ImbalanceLoss(keras.losses.Loss, abc.ABC):
    """What the losses share: checks, forms of labels and class weights; subclasses define `values(logits, labels)`.

    Logits `(batch, K)`, or dense `(batch, height, width, K)` as in segmentation; labels are integers of the same shape without the
    last axis, or one-hot of the same shape (same rank; a last axis of 1 holds integers). Dense predictions count by pixel.
    `class_counts`: training images (or pixels) of each class, in the order of the logits; all at least 1.
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
        """Loss of each sample, `(n,)` float32 from logits `(n, K)` and labels `(n,)`; its plain mean is the loss of the batch."""

    def weighted(self, values, labels, class_weights):
        """Each sample's value times its class weight; in the coded reading scaled so that the plain mean is sum(w v) / sum(w)."""
        weights = of_class(class_weights, labels)
        return values * (weights / ops.mean(weights) if self.coded else weights)

    def call(self, y_true, y_pred):
        # float32 whatever comes in: with scale 30 a float16 logit of 2200 would already overflow.
        logits = ops.cast(y_pred, "float32")
        labels = self._checked_labels(y_true, logits)
        classes = logits.shape[-1]
        flat = ops.reshape(labels, (-1,))
        known = ops.mod(flat, classes)
        values = self.values(logits if len(logits.shape) == 2 else ops.reshape(logits, (-1, classes)), known)
        values = ops.where(ops.equal(known, flat), values, float("nan"))
        return values if len(logits.shape) == 2 else ops.reshape(values, ops.shape(labels))

    def _checked_labels(self, y_true, logits):
        """The labels as int32 class numbers in the shape of the logits without their last axis."""
        shape, rank = tuple(y_true.shape), len(logits.shape)
        classes = logits.shape[-1] if rank >= 2 else None
        if classes is None or classes < 2:
            raise ValueError(f"{self.name}: logits must have shape (batch, …, classes) with at least 2 classes, got {tuple(logits.shape)}")
        column, one_hot = len(shape) == rank and shape[-1] == 1, len(shape) == rank and shape[-1] in (classes, None)
        if not (len(shape) == rank - 1 or column or one_hot):
            expected = "integers of the logits' shape without its last axis, or one-hot of the logits' shape"
            raise ValueError(f"{self.name}: labels must be {expected}, got shape {shape} beside {tuple(logits.shape)}")
        if any(None not in sizes and sizes[0] != sizes[1] for sizes in zip(shape, tuple(logits.shape)[:-1], strict=False)):
            raise ValueError(f"{self.name}: labels of shape {shape} do not fit logits of shape {tuple(logits.shape)}")
        if self.class_counts is not None and len(self.class_counts) != classes:
            raise ValueError(f"{self.name}: {len(self.class_counts)} class counts do not fit logits of shape {tuple(logits.shape)}")
        labels = class_numbers(y_true) if one_hot else ops.cast(ops.squeeze(y_true, -1) if column else y_true, "int32")
        values = concrete(labels)
        if values is not None and values.size and (values.min() < 0 or values.max() >= classes):
            if one_hot:
                raise ValueError(f"{self.name}: one-hot labels must hold one 1 and zeros beside it for each sample")
            raise ValueError(f"{self.name}: labels must lie in 0..{classes - 1}, got {values.min()}..{values.max()}")
        return labels

    def get_config(self) -> dict:
        return {**super().get_config(), "class_counts": self.class_counts, "reading": self.reading}


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


def concrete(tensor) -> np.ndarray | None:
    """The tensor's numbers, or None while a function is being traced, when it has none yet."""
    try:
        return np.asarray(ops.convert_to_numpy(tensor))
    except Exception:  # each backend has an exception of its own for this, and naming it would need its import
        return None
