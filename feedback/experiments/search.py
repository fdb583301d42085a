"""Search over lambda of eq. 4.1 (a hyper-parameter "that can be search[ed]"), rate, anchor and gradient norm, chosen on validation.

One `simulate` for each combination, in run folders of their own. Chosen is the largest validation Jaccard index among those whose balanced
accuracy stays within --allowed-drop of the base's. `--clip-norms 0 1 --rates …` shows the divergence of section 5.6. Printed: Table 5.3 has
lambda 0, 0.3 and 1. Cost: one `simulate` a combination.
"""

from dataclasses import dataclass, replace

from common.grids import Engine
from common.settings import Command, Within, check_range, notes, require
from feedback.experiments import simulate
from feedback.experiments.simulate import SimulateSettings

SEARCHED = {"lambdas": "explanation_weight", "rates": "learning_rate", "anchors": "anchor_weight", "clip_norms": "clip_norm"}


@dataclass(frozen=True, kw_only=True)
class SearchSettings(Engine, SimulateSettings):
    """As `simulate`, for every combination of the values given."""

    NOT_RECIPE = Engine.NOT_RECIPE | SimulateSettings.NOT_RECIPE
    AXES = tuple(SEARCHED)

    lambdas: tuple[float, ...] = (0.0, 0.3, 0.5, 0.7, 1.0)
    """Values of --explanation-weight to try."""
    rates: tuple[float, ...] = ()
    """Values of --learning-rate to try; none: that one alone, as with the other two."""
    anchors: tuple[float, ...] = ()
    """Values of --anchor-weight to try."""
    clip_norms: tuple[float, ...] = ()
    """Values of --clip-norm to try; a loss that is no longer finite is a result then."""

    def check(self) -> None:
        super().check()
        for axis, name in SEARCHED.items():
            each = notes(SimulateSettings, Within)[name]
            for value in getattr(self, axis):
                check_range(axis.replace("_", "-"), value, each.low, each.high, each.above)
        require(self.objective == "combined" or len(self.lambdas) < 2, f"--objective {self.objective}: has no lambda; expected combined")

    def unused(self) -> dict[str, str]:
        given = {name: axis for axis, name in SEARCHED.items() if getattr(self, axis)}
        return super().unused() | {name: f"the search sets it (--{axis.replace('_', '-')})" for name, axis in given.items()}


def default(reading: str, dataset: str) -> SearchSettings:
    """As `simulate`; on validation the classifier must be kept."""
    settings = SearchSettings(**vars(simulate.default(reading, dataset)))
    return replace(settings, allowed_drop=0.01)


COMMAND = Command(
    SearchSettings, "feedback.training.search:run_search", __doc__ or "", default, presets={"objective": simulate.objective_words}
)
