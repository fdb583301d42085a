"""A small search over dropout, learning rates, temperature and projection, chosen on validation images (thesis chapter 7: future work).

The documents tried a few values by hand and print only the last. Here Optuna proposes (common/runs/search.py), each trial is an ordinary
run, and the report shows every trial and the options that train the winner; test images are not looked at. The first trial is the reading's
own settings. Costs `--trials` runs of each method; the same command goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from cervical.experiments import contrastive, finetune
from cervical.experiments.contrastive import ContrastiveSettings
from cervical.experiments.finetune import FinetuneSettings
from cervical.experiments.grids import Grid, everywhere, grid_networks
from common.settings import Command, Within, require

Method = Literal["finetune", "contrastive"]


@dataclass(frozen=True, kw_only=True)
class TuneSettings(Grid):
    """Methods by trials, on one network."""

    RUNS: ClassVar[tuple[str, ...]] = ("finetune", "contrastive")
    AXES: ClassVar[tuple[str, ...]] = (*Grid.AXES, "methods")

    methods: tuple[Method, ...] = ("finetune", "contrastive")
    """Methods to tune, each on its own."""
    trials: Annotated[int, Within(1, 10_000)] = 8
    """Trials of each method."""
    finetune: FinetuneSettings = finetune.DESCRIBED
    """The first trial of fine-tuning."""
    contrastive: ContrastiveSettings = contrastive.DESCRIBED
    """The first trial of the contrastive method."""

    def check(self) -> None:
        super().check()
        require(len(self.backbones) == 1, "--backbones: expected one; the search is of one network")
        require(len(self.seeds) == 1, "--seeds: expected one; the winner is trained with several afterwards")

    def unused(self) -> dict[str, str]:
        return super().unused() | {"contrastive.control": "the search is of the method; its control has settings of its own"}

    def base(self, method: Method) -> FinetuneSettings | ContrastiveSettings:
        """Trial 0 of a method."""
        return self.run_settings(method, backbone=self.backbones[0], seed=self.seeds[0])


def default(reading: str, dataset: str) -> TuneSettings:
    """The reading's settings on one network; small on the sample."""
    runs = {"finetune": finetune.default(reading, dataset), "contrastive": replace(contrastive.default(reading, dataset), control=False)}
    first = runs["finetune"]
    return TuneSettings(dataset=first.dataset, reading=first.reading, backbones=grid_networks(first, ("mobilenetv2",)), **runs)


EVERYWHERE = everywhere({"finetune": finetune.EVERYWHERE, "contrastive": contrastive.EVERYWHERE})
COMMAND = Command(TuneSettings, "cervical.training.tune:run_tune", __doc__, default, EVERYWHERE)
