"""What the commands of many runs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

from common.grids import Grid
from common.settings import Reading
from lmf.experiments.base import LmfSource
from lmf.experiments.train import OF_LOSSES, LossName, TrainSettings


@dataclass(frozen=True, kw_only=True)
class LmfGrid(Grid, LmfSource):
    """Networks by losses by seeds, on the images of the grid."""

    RUNS: ClassVar[tuple[str, ...]] = ("train",)
    SHARED: ClassVar[tuple[str, ...]] = (*(field.name for field in fields(LmfSource)), "reading")
    DRIVEN: ClassVar[tuple[str, ...]] = (*Grid.DRIVEN, "loss", "network")

    reading: Reading = "described"
    """`described`: the document's text. `coded`: what the authors' code does. `corrected`: careful practice."""
    train: TrainSettings = TrainSettings()
    """Of every run."""

    def unused_of(self, losses: Sequence[LossName]) -> dict[str, str]:
        """`unused` of a grid over losses: what acts in one of them acts."""
        found = super().unused()
        idle = [self.run_settings("train", loss=loss).unused() for loss in losses]
        for name in (*OF_LOSSES, "loss_reading"):
            found.pop(f"train.{name}", None)
            if all(name in reasons for reasons in idle):
                found[f"train.{name}"] = f"none of the losses {', '.join(losses)} has it"
        return found


def short_options(driven: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    """Every setting of a run by its own name, but for those that the grid sets: {"epochs": ("train.epochs",), …}."""
    own = {field.name for field in fields(TrainSettings)} - {field.name for field in fields(LmfGrid)} - set(driven)
    return {name.replace("_", "-"): (f"train.{name.replace('_', '-')}",) for name in sorted(own)}
