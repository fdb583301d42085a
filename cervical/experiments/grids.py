"""What the commands of many runs share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

from cervical.experiments.base import CellSource, CellTraining, Reading
from common import grids
from common.settings import require

SHARED_OPTIONS = ("split", "split-seed", "limit", "image-size", "copies", "batch-size", "weights", "precision")


@dataclass(frozen=True, kw_only=True)
class Grid(grids.Grid, CellSource):
    """Networks by seeds, on the images of the grid."""

    SHARED: ClassVar[tuple[str, ...]] = (*(field.name for field in fields(CellSource)), "reading")

    reading: Reading = "described"
    """`described`: the documents' text. `coded`: what the authors' code does. `corrected`: careful practice. `reduced`: of no document, a
    protocol for two CPU cores."""

    def acting(self) -> list[str]:
        """The fields of `RUNS` that are trained: those that --methods names, where the command has it."""
        chosen = getattr(self, "methods", None)
        return [name for name in self.RUNS if chosen is None or name.replace("_", "-") in chosen]

    @property
    def limit(self) -> int | None:
        """--limit of all runs, whose images are loaded once."""
        return getattr(self, self.acting()[0]).limit if self.acting() else None

    def check(self) -> None:
        super().check()
        for name in self.acting():
            option = f"--{name.replace('_', '-')}.limit"
            require(getattr(self, name).limit == self.limit, f"{option}: expected one limit for all runs (--limit)")

    def unused(self) -> dict[str, str]:
        return super().unused() | dict.fromkeys(set(self.RUNS) - set(self.acting()), "--methods leaves these runs out")


def everywhere(runs: Mapping[str, Mapping[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    """Short options for all the runs' settings: {field: its own short options} -> `{"epochs": ("finetune.training.epochs", …)}`."""
    spelled = {name.replace("_", "-"): options for name, options in runs.items()}
    found: dict[str, tuple[str, ...]] = {option: tuple(f"{name}.{option}" for name in spelled) for option in SHARED_OPTIONS}
    for name, options in spelled.items():
        for option, targets in options.items():
            found[option] = found.get(option, ()) + tuple(f"{name}.{target}" for target in targets)
    return found


def grid_networks(settings: CellTraining, otherwise: tuple[str, ...]) -> tuple[str, ...]:
    """The grid's networks by default: on the sample the small one of its runs."""
    return (settings.backbone,) if settings.dataset == "sample" else otherwise
