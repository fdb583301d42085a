"""What the commands of Tables 2 to 6 share: several rows and seeds, each run made only when it is missing. No Keras.

All rows of a table are like for like (`LIKE_FOR_LIKE`): the same encoders, outputs, numbers of steps and regularised head, and epochs
selected by Dice and cross-entropy together. What `train` does by default is the paper's text, in which rows differ in all of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from common.grids import Engine
from common.settings import Command, require
from melanoma.experiments import shared
from melanoma.experiments.base import EVERYWHERE, reading
from melanoma.experiments.train import DESCRIBED, BioUNetSettings

# The rows of Table 3, and the settings that make them.
ABLATION: Mapping[str, Mapping[str, Any]] = {
    "f_res": {"simclr": False, "segmentation": False},
    "f_res_seg": {"simclr": False, "segmentation": True},
    "f_res_clr": {"simclr": True, "segmentation": False},
    "bio_u_net": {"simclr": True, "segmentation": True},
}
LIKE_FOR_LIKE: Mapping[str, Any] = {"encoders": "equal", "head": "l2", "watch": "dice+bce"}


@dataclass(frozen=True, kw_only=True)
class TableSettings(Engine, BioUNetSettings):
    """A table: several runs, each made only when it is missing."""

    ROWS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"bio_u_net": ABLATION["bio_u_net"]}
    NOT_RECIPE = BioUNetSettings.NOT_RECIPE | Engine.NOT_RECIPE | {"seeds", "rows"}
    AXES = ("seeds", "rows")

    seeds: tuple[int, ...] = (0,)
    """Seeds; every row of the table is run with each. Comparisons need several."""
    rows: tuple[str, ...] = ()
    """Rows of the table to run."""

    def check(self) -> None:
        super().check()
        for row in self.rows:
            require(row in self.ROWS, f"--rows {row}: expected some of {', '.join(self.ROWS)}")

    def wants_dataset_b(self) -> bool:
        return self.pretrained is None and any(self.ROWS[row]["simclr"] for row in self.rows)

    def unused(self) -> dict[str, str]:
        decided = {name for row in self.ROWS.values() for name in row}
        cells = [self.cell(self.seeds[0], row).unused() for row in self.rows] if self.seeds else []
        # What no row of the table takes.
        found = {name: reason for name, reason in (cells[0] if cells else {}).items() if all(name in cell for cell in cells)}
        found |= dict.fromkeys(decided, "the rows of the table decide that; choose them with --rows, or use the command train")
        return found | self.idle_options() | {"seed": "a table is made of several runs; use --seeds"}

    def cell(self, seed: int, row: str) -> BioUNetSettings:
        """The settings of one run of the table."""
        own = {each.name: getattr(self, each.name) for each in fields(BioUNetSettings)}
        own |= {**self.ROWS[row], "seed": seed, "run_dir": None}
        return BioUNetSettings(**own if own["simclr"] else {**own, "pretrained": None})


def table_command(kind: type[TableSettings], help_page: str) -> Command:
    """The command that makes a table; by default all its rows."""
    values = {**vars(DESCRIBED), **LIKE_FOR_LIKE}
    default = partial(reading, kind(**values, rows=tuple(kind.ROWS)))
    return Command(kind, "melanoma.training.grids:grid_command", help_page, default, EVERYWHERE)


def root(settings: TableSettings) -> Path:
    """Folder whose runs a table is made of."""
    return settings.run_dir or Path("runs/melanoma")


def variant(settings: Mapping[str, Any]) -> str:
    """Row of Table 3, or of the shared design (`experiments.shared.ROWS`)."""
    prefix, rows = ("shared_", shared.ROWS) if "indicator_heads" in settings else ("", ABLATION)
    return prefix + next(row for row, own in rows.items() if own.items() <= settings.items())
