"""Feedback that arrives in 20 slices; the best model of one starts the next (Table 5.4, figures 5.14 and 5.15).

Printed: Jaccard index 0.15 after the first slice and 0.19 after the last with the explanation loss; 13 to 55 minutes a slice. The slices
are of up-sampled data, as in section 5.9. Cost: 20 times the epochs of one slice.
"""

from dataclasses import dataclass
from typing import Annotated

from common.settings import Command, Within
from feedback.experiments import simulate
from feedback.experiments.simulate import Balance, SimulateSettings


@dataclass(frozen=True, kw_only=True)
class SlicesSettings(SimulateSettings):
    """As `simulate`, in slices; --epochs counts for each."""

    balance: Balance = "upsampled"
    epochs: int = 20
    slices: Annotated[int, Within(1, 200)] = 20
    """Parts in which the training images arrive (thesis: 20 of 4 % each)."""


def default(reading: str, dataset: str) -> SlicesSettings:
    """As `simulate`, on up-sampled data and 20 epochs a slice; two slices of the drawn sample."""
    own = {"slices": 2, "epochs": 1, "batch_size": 8} if dataset == "sample" else {"epochs": 20, "batch_size": 1}
    return SlicesSettings(**{**vars(simulate.default(reading, dataset)), "balance": "upsampled", **own})


COMMAND = Command(
    SlicesSettings, "feedback.training.simulate:run_simulate", __doc__ or "", default, presets={"objective": simulate.objective_words}
)
