"""Adam as the appendix sets it (A.2), with the weight decay in either form."""

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="melanoma")
class CoupledAdam(keras.optimizers.Adam):
    """Adam whose weight decay λ is added to the gradient, g + λ w, before its moments, as `torch.optim.Adam(weight_decay=λ)` does.

    Keras's own `weight_decay` takes lr · λ of a weight away instead (AdamW, Loshchilov & Hutter 2019).
    """

    def __init__(self, learning_rate: Any = 1e-3, coupled_decay: float = 0.0, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        self.coupled_decay = float(coupled_decay)

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        grads = [g if g is None else g + self.coupled_decay * keras.ops.cast(v, g.dtype) for g, v in zip(grads, variables, strict=True)]
        return super().apply(grads, trainable_variables)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "coupled_decay": self.coupled_decay}


def adam(settings: Any) -> keras.optimizers.Adam:
    """A.2: Adam with the same hyper-parameters in every stage; `settings.decay` says how its weight decay acts."""
    if settings.decay == "coupled" and settings.weight_decay:
        return CoupledAdam(settings.learning_rate, settings.weight_decay)
    return keras.optimizers.Adam(settings.learning_rate, weight_decay=settings.weight_decay or None)
