"""Give each loss the same number of trials over its own parameters, chosen by macro F1 on validation images.

A comparison of tuned LMF with untuned baselines says who was tuned. Here alpha and beta (Table 6, chosen by data set and network in the
paper, it does not say on which images), gamma, scale, margin, tau and the effective number's beta are searched alike; a loss without
parameters has one trial. The report shows every trial and the options that train the winner; test images are not looked at. Optuna proposes
(common/runs/search.py); each trial costs what `train` says for these epochs, and the same command goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from common.settings import Command, Within, require
from lmf.experiments import train
from lmf.experiments.grids import LmfGrid, short_options
from lmf.experiments.train import LossName, TrainSettings

DRIVEN = (*LmfGrid.DRIVEN, "control")


@dataclass(frozen=True, kw_only=True)
class TuneSettings(LmfGrid):
    """The search; the settings of `train` are every loss's first trial."""

    AXES: ClassVar[tuple[str, ...]] = (*LmfGrid.AXES, "losses")
    DRIVEN: ClassVar[tuple[str, ...]] = DRIVEN

    losses: tuple[LossName, ...] = ("cce", "focal", "ldam", "bwcce", "lmf", "class_balanced", "balanced_softmax", "logit_adjusted")
    """Losses to tune, each on its own."""
    trials: Annotated[int, Within(1, 10_000)] = 8
    """Trials of each loss that has parameters."""

    def check(self) -> None:
        super().check()
        require(len(self.backbones) == 1, "--backbones: expected one; the search is of one network")
        require(len(self.seeds) == 1, "--seeds: expected one; the winner is trained with several afterwards")

    def unused(self) -> dict[str, str]:
        return self.unused_of(self.losses)

    def base(self, loss: LossName) -> TrainSettings:
        """Trial 0 of a loss."""
        run = {"backbone": self.backbones[0], "loss": loss, "seed": self.seeds[0], "control": False, "run_dir": None}
        return self.run_settings("train", **run).settled()


def default(reading: str, dataset: str) -> TuneSettings:
    """Six epochs on one network."""
    run = replace(train.default(reading, dataset), control=False, epochs=6)
    return TuneSettings(dataset=run.dataset, reading=run.reading, backbones=(run.backbone,), train=run)


COMMAND = Command(TuneSettings, "lmf.training.tune:run_tune", __doc__ or "", default, short_options(DRIVEN))
