"""The divergence of section 5.6 and what a limit to the gradient's norm does about it: each learning rate with and without.

Printed: no number; on unbalanced data the explanation loss "suddenly increases" ("gradient overflow"). Cost: two `simulate` runs a rate.
"""

from dataclasses import dataclass, replace

from common.settings import Command, check_range, require
from feedback.experiments import simulate
from feedback.experiments.baseline import MAX_RATE
from feedback.experiments.simulate import SimulateSettings


@dataclass(frozen=True, kw_only=True)
class ClippingSettings(SimulateSettings):
    """As `simulate`, for several learning rates, each with --clip-norm and without."""

    rates: tuple[float, ...] = (1e-4, 1e-3, 1e-2)
    """Learning rates for one image to try."""

    def check(self) -> None:
        super().check()
        for rate in self.rates:
            check_range("rates", rate, 0, MAX_RATE, above=True)
        require(self.clip_norm > 0, "--clip-norm 0: the runs without clipping are made anyway; expected the norm of the others")

    def unused(self) -> dict[str, str]:
        return super().unused() | {"learning_rate": "the runs take those of --rates"}


def default(reading: str, dataset: str) -> ClippingSettings:
    """As `simulate`."""
    settings = ClippingSettings(**vars(simulate.default(reading, dataset)))
    return replace(settings, rates=(2e-3, 2e-1)) if dataset == "sample" else settings


COMMAND = Command(
    ClippingSettings, "feedback.training.clipping:run_clipping", __doc__ or "", default, presets={"objective": simulate.objective_words}
)
