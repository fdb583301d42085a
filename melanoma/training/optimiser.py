"""Adam as the appendix sets it (A.2), with the weight decay in either form."""

from typing import Any

import keras

from common.optimizer import CoupledAdam


def adam(settings: Any) -> keras.optimizers.Adam:
    """A.2: Adam with the same hyper-parameters in every stage; `settings.decay` says how its weight decay acts."""
    if settings.decay == "coupled" and settings.weight_decay:
        return CoupledAdam(settings.learning_rate, settings.weight_decay, epsilon=1e-7)
    return keras.optimizers.Adam(settings.learning_rate, weight_decay=settings.weight_decay or None)
