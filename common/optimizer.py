"""Adam with coupled weight decay, which PyTorch has and Keras has not."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("common")
class CoupledAdam(keras.optimizers.Adam):
    """Adam whose weight decay is part of the gradient: g + l2 * w enters both moments, as `torch.optim.Adam(weight_decay=l2)` does.

    Keras's own `weight_decay` takes lr * l2 of a weight away instead (AdamW, Loshchilov & Hutter 2019), which is another method. Every
    trained weight decays, biases and batch-normalisation scales included, as in PyTorch.
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
