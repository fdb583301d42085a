"""What PyTorch has and Keras has not: Adam with coupled weight decay, and macro F1 as a metric of integer labels and logits."""

import keras
from keras import ops

from common.optimizer import CoupledAdam

__all__ = ["CoupledAdam", "MacroF1"]


@keras.saving.register_keras_serializable("lmf")
class MacroF1(keras.metrics.Metric):
    """Eq. 13 over everything seen since the last reset: mean F1 of the classes that occur in labels or predictions, 0..1.

    Labels `(batch,)` integers, logits or probabilities `(batch, classes)`. A class never predicted right has F1 0 (scikit-learn's
    `zero_division=0`, which the authors use).
    """

    def __init__(self, classes: int, name: str = "macro_f1", **kwargs):
        super().__init__(name=name, **kwargs)
        self.classes = classes
        self.matrix = self.add_weight(shape=(classes, classes), initializer="zeros", name="confusion")

    def update_state(self, y_true, y_pred, sample_weight=None):
        truth = ops.one_hot(ops.cast(ops.reshape(y_true, (-1,)), "int32"), self.classes, dtype=self.dtype)
        called = ops.one_hot(ops.argmax(y_pred, axis=-1), self.classes, dtype=self.dtype)
        if sample_weight is not None:
            truth = truth * ops.reshape(ops.cast(sample_weight, self.dtype), (-1, 1))
        self.matrix.assign_add(ops.matmul(ops.transpose(truth), called))

    def result(self):
        matrix = ops.convert_to_tensor(self.matrix)
        both = ops.sum(matrix, axis=0) + ops.sum(matrix, axis=1)
        occurs = ops.cast(both > 0, matrix.dtype)
        f1 = 2 * ops.diagonal(matrix) / ops.maximum(both, 1)
        return ops.sum(f1 * occurs) / ops.maximum(ops.sum(occurs), 1)

    def get_config(self) -> dict:
        return {**super().get_config(), "classes": self.classes}
