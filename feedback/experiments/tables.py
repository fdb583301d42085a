"""Tables 5.1 to 5.4 over objectives, balances and seeds; runs only what is missing.

Printed, Jaccard index before and after with the explanation loss: 0.100 and 0.447 unbalanced (Table 5.1), 0.10 and 0.18 up-sampled (5.3).
Cost: nine `simulate` runs a seed, with --slices three `slices` runs more; --faithfulness N adds 168 passes for each of N images to a run.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from common.grids import Engine
from common.settings import Command, Epochs, Within, require
from feedback.experiments import simulate
from feedback.experiments.simulate import OBJECTIVES, SimulateSettings

TableObjective = Literal["classification", "explanation", "combined", "balanced-combined"]
TableBalance = Literal["none", "reduced", "upsampled"]


@dataclass(frozen=True, kw_only=True)
class TablesSettings(Engine, SimulateSettings):
    """As `simulate`, for every cell of the tables."""

    NOT_RECIPE = Engine.NOT_RECIPE | SimulateSettings.NOT_RECIPE
    AXES = ("objectives", "balances", "seeds", "kinds")

    objectives: tuple[TableObjective, ...] = OBJECTIVES
    """Rows of the tables. `balanced-combined` has balanced batches of its own and stands in the table of unbalanced data."""
    balances: tuple[TableBalance, ...] = ("none", "reduced", "upsampled")
    """Tables: `none` is 5.1, `reduced` 5.2, `upsampled` 5.3."""
    reduced_epochs: Epochs = 20
    """Epochs on reduced data (section 5.7)."""
    slices: Annotated[int, Within(0, 200)] = 0
    """Also Table 5.4, with so many slices (thesis: 20); 0 leaves it out."""
    slice_epochs: Epochs = 20
    """Epochs on each slice (section 5.4)."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of order and dropout; the split is one."""
    kinds: tuple[Literal["constant", "differentiated"], ...] = ("constant",)
    """The map's channel weights inside the loss: constants (thesis), or differentiated as well; both: they are compared."""

    def check(self) -> None:
        super().check()
        require(self.gradient_scaling == "sum", "--gradient-scaling: tables takes it from --objectives balanced-combined")

    def unused(self) -> dict[str, str]:
        set_by = {"objective": "objectives", "balance": "balances", "seed": "seeds", "channel_weights": "kinds"}
        found = super().unused() | {name: f"tables takes --{many}" for name, many in set_by.items()}
        found.pop("explanation_weight", None)
        if not self.slices:
            found["slice_epochs"] = "Table 5.4 is left out (--slices 0)"
        if "reduced" not in self.balances:
            found["reduced_epochs"] = "Table 5.2 is left out (--balances)"
        return found


def default(reading: str, dataset: str) -> TablesSettings:
    """The thesis's objectives with the data handling of the reading; with `corrected` the balanced recipe is a row more."""
    described = simulate.default("described", dataset)
    if reading == "described":
        settings = TablesSettings(**vars(described))
    else:
        own = {
            "reading": "corrected",
            "split": "grouped",
            "keep_overlap_in_training": False,
            "adapt_epochs": simulate.CORRECTED.adapt_epochs,
        }
        settings = TablesSettings(
            **{**vars(described), **own}, objectives=(*OBJECTIVES, "balanced-combined"), balances=("none",), kinds=("differentiated",)
        )
    return replace(settings, reduced_epochs=1, slice_epochs=1, adapt_epochs=0) if dataset == "sample" else settings


COMMAND = Command(TablesSettings, "feedback.training.tables:run_tables", __doc__ or "", default)
