"""Train LMF under the three alpha/beta settings of fig. 4 and choose on validation images.

Printed: setting 2 (alpha = 1) has the best mean, setting 1 (alpha = beta) the smallest deviation; Table 6 has alpha 1, beta 2 for
EfficientNetV2 on HAM10000. 31 runs of 60 epochs; each costs what `train` says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from common.settings import Command, check_range, require
from lmf.experiments import train
from lmf.experiments.grids import LmfGrid, short_options
from lmf.experiments.train import TrainSettings

# Eleven values from 0.5 to 2.0 that hold all of Table 6's and those the text names; the paper does not list its grid.
GRID = (0.5, 0.6, 0.7, 0.8, 1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0)
SWEPT = {"equal": "alpha = beta", "beta": "alpha = 1, beta varies", "alpha": "beta = 1, alpha varies"}
DRIVEN = (*LmfGrid.DRIVEN, "control", "alpha", "beta")


@dataclass(frozen=True, kw_only=True)
class SweepSettings(LmfGrid):
    """LMF with pairs of alpha and beta."""

    AXES: ClassVar[tuple[str, ...]] = (*LmfGrid.AXES, "settings", "grid")
    DRIVEN: ClassVar[tuple[str, ...]] = DRIVEN

    settings: tuple[Literal["equal", "beta", "alpha"], ...] = ("equal", "beta", "alpha")
    """equal: alpha = beta (setting 1); beta: alpha = 1 (setting 2); alpha: beta = 1 (setting 3)."""
    grid: tuple[float, ...] = GRID
    """Values of alpha and beta."""

    def check(self) -> None:
        super().check()
        require(len(self.backbones) == 1, "--backbones: expected one; the sweep is of one network")
        for value in self.grid:
            check_range("grid", value, 0.01, 100)

    def pairs(self, setting: str) -> list[tuple[float, float]]:
        """(alpha, beta) of one setting, in the grid's order."""
        return [{"equal": (v, v), "beta": (1.0, v), "alpha": (v, 1.0)}[setting] for v in self.grid]

    def cells(self) -> list[TrainSettings]:
        """The settings of every pair and seed, each pair once although the three ways share some."""
        pairs = dict.fromkeys(pair for setting in self.settings for pair in self.pairs(setting))
        own = {"backbone": self.backbones[0], "loss": "lmf", "control": False, "run_dir": None}
        return [self.run_settings("train", alpha=alpha, beta=beta, seed=seed, **own) for alpha, beta in pairs for seed in self.seeds]


def default(reading: str, dataset: str) -> SweepSettings:
    """Sixty epochs and eleven values, as the paper; on the sample three values."""
    run = replace(train.default(reading, dataset), control=False)
    small = dataset == "sample"
    return SweepSettings(
        dataset=run.dataset,
        reading=run.reading,
        backbones=(run.backbone,),
        grid=(0.5, 1.0, 2.0) if small else GRID,
        train=run if small else replace(run, epochs=60),
    )


COMMAND = Command(SweepSettings, "lmf.training.grids:run_sweep", __doc__ or "", default, short_options(DRIVEN))
