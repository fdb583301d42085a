"""Two things PyTorch has and Keras has not: Adam with coupled weight decay, and macro F1 as a metric of integer labels and logits."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("lmf")
class CoupledAdam(keras.optimizers.Adam):
    """Adam whose weight decay is part of the gradient: g + l2 * w enters both moments, as `torch.optim.Adam(weight_decay=l2)` does.

    Keras's own `weight_decay` is decoupled (AdamW), which is another method. Every trained weight decays, biases and
    batch-normalisation scales included, as in PyTorch.
    """

    def __init__(self, learning_rate=1e-4, l2: float = 5e-4, epsilon: float = 1e-8, name: str = "coupled_adam", **kwargs):
        super().__init__(learning_rate=learning_rate, epsilon=epsilon, name=name, **kwargs)
        self.l2 = l2

    def apply(self, grads, trainable_variables=None):
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        grads = [g if g is None else g + ops.cast(self.l2 * v, g.dtype) for g, v in zip(grads, variables, strict=True)]
        return super().apply(grads, trainable_variables)

    def get_config(self) -> dict:
        return {**super().get_config(), "l2": self.l2}


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
