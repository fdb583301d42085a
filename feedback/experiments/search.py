"""Search over lambda of eq. 4.1 (a hyper-parameter "that can be search[ed]"), chosen on validation.

One `simulate` for each lambda, in run folders of their own. Chosen is the largest validation Jaccard index among those whose balanced
accuracy stays within --allowed-drop of the base's. Printed: Table 5.3 has lambda 0, 0.3 and 1. Cost: one `simulate` a value.
"""

from dataclasses import dataclass, replace

from common.settings import Command, check_range, require
from feedback.experiments import simulate
from feedback.experiments.simulate import SimulateSettings


@dataclass(frozen=True, kw_only=True)
class SearchSettings(SimulateSettings):
    """As `simulate`, for several lambdas."""

    lambdas: tuple[float, ...] = (0.0, 0.3, 0.5, 0.7, 1.0)
    """Values of --explanation-weight to try."""

    def check(self) -> None:
        super().check()
        for value in self.lambdas:
            check_range("lambdas", value, 0, 1)
        require(self.objective == "combined", f"--objective {self.objective}: has no lambda; expected combined")

    def unused(self) -> dict[str, str]:
        return super().unused() | {"explanation_weight": "the search sets it (--lambdas)"}


def default(reading: str, dataset: str) -> SearchSettings:
    """As `simulate`; on validation the classifier must be kept."""
    settings = SearchSettings(**vars(simulate.default(reading, dataset)))
    return replace(settings, allowed_drop=0.01)


COMMAND = Command(
    SearchSettings, "feedback.training.search:run_search", __doc__ or "", default, presets={"objective": simulate.objective_words}
)
