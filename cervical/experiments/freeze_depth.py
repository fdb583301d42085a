"""The search behind "maximum performance when we froze the first 86, 100, 249, 13 and 17 layers" (paper III-C.1).

Accuracy on validation images against the number of frozen layers. Nothing printed beyond the five numbers. Costs one finetune run a depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cervical.experiments import finetune
from cervical.experiments.finetune import FinetuneSettings
from cervical.experiments.grids import Grid, everywhere, grid_networks
from common.settings import Command, check_range


@dataclass(frozen=True, kw_only=True)
class FreezeDepthSettings(Grid):
    """Networks by depths by seeds."""

    RUNS: ClassVar[tuple[str, ...]] = ("finetune",)
    AXES: ClassVar[tuple[str, ...]] = (*Grid.AXES, "depths")

    depths: tuple[int, ...] | None = None
    """Numbers of frozen layers to try; None: none, a quarter, half, three quarters and all of the network, and the paper's."""
    finetune: FinetuneSettings = finetune.DESCRIBED
    """Of every run."""

    def check(self) -> None:
        super().check()
        for depth in self.depths or ():
            check_range("depths", depth, 0)

    def unused(self) -> dict[str, str]:
        return super().unused() | {"finetune.freeze": "--depths names the numbers of frozen layers"}


def default(reading: str, dataset: str) -> FreezeDepthSettings:
    """The reading's settings; small on the sample."""
    run = finetune.default(reading, dataset)
    backbones = grid_networks(run, ("mobilenetv2",))
    return FreezeDepthSettings(dataset=run.dataset, reading=run.reading, backbones=backbones, finetune=run)


EVERYWHERE = everywhere({"finetune": finetune.EVERYWHERE})
COMMAND = Command(FreezeDepthSettings, "cervical.tables:run_freeze_depth", __doc__, default, EVERYWHERE)
