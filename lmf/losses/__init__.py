"""Losses for imbalanced classes: the LMF paper's (eqs. 1 to 8) in `paper`, the field's other answers in `others`; public names are here.

from lmf.losses import LMFLoss
model.compile(optimizer="adam", loss=LMFLoss([229, 360, 769, 81, 779, 4693, 100], alpha=1.0, beta=2.0))
"""

from collections.abc import Sequence
from typing import Any

from lmf.losses.base import READINGS, ImbalanceLoss
from lmf.losses.others import (
    BalancedSoftmaxLoss,
    ClassBalancedLoss,
    LogitAdjustedLoss,
    OneReadingLoss,
    adjusted_probabilities,
    deferred_weights,
    effective_weights,
    log_priors,
)
from lmf.losses.paper import (
    BalancedWeightedCrossentropy,
    Crossentropy,
    FocalLoss,
    LDAMLoss,
    LMFLoss,
    WeightedCrossentropy,
    balanced_weights,
    inverse_weights,
    margins,
)

__all__ = [
    "LOSSES", "READINGS", "BalancedSoftmaxLoss", "BalancedWeightedCrossentropy", "ClassBalancedLoss", "Crossentropy", "FocalLoss",
    "ImbalanceLoss", "LDAMLoss", "LMFLoss", "LogitAdjustedLoss", "WeightedCrossentropy", "adjusted_probabilities", "balanced_weights",
    "build_loss", "deferred_weights", "effective_weights", "inverse_weights", "log_priors", "margins",
]  # fmt: skip

LOSSES: dict[str, type[ImbalanceLoss]] = {
    "cce": Crossentropy,
    "wcce": WeightedCrossentropy,
    "focal": FocalLoss,
    "ldam": LDAMLoss,
    "bwcce": BalancedWeightedCrossentropy,
    "lmf": LMFLoss,
    "class_balanced": ClassBalancedLoss,
    "balanced_softmax": BalancedSoftmaxLoss,
    "logit_adjusted": LogitAdjustedLoss,
}


def build_loss(name: str, class_counts: Sequence[int], reading: str = "described", **settings: Any) -> ImbalanceLoss:
    """The loss called `name` on the command line; `settings` are those of its class (alpha, beta, gamma, max_margin, scale, tau, …)."""
    if name not in LOSSES:
        raise ValueError(f"loss {name!r}: expected one of {', '.join(LOSSES)}")
    made = LOSSES[name]
    return made(class_counts, **settings) if issubclass(made, OneReadingLoss) else made(class_counts, reading=reading, **settings)
