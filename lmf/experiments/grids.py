"""What the commands of many runs share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

from common.grids import Grid
from common.settings import Reading
from lmf.experiments.base import LmfSource
from lmf.experiments.train import TrainSettings


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


def short_options(driven: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    """Every setting of a run by its own name, but for those that the grid sets: {"epochs": ("train.epochs",), …}."""
    own = {field.name for field in fields(TrainSettings)} - {field.name for field in fields(LmfGrid)} - set(driven)
    return {name.replace("_", "-"): (f"train.{name.replace('_', '-')}",) for name in sorted(own)}
