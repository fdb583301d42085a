"""Table 5: an encoder for one indicator, with melanoma, for all five, with melanoma.

Printed for pigment network: 32.79, 37.88, 15.64, 23.21 %. Costs four training runs a seed.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.settings import Command
from melanoma.experiments.base import EVERYWHERE
from melanoma.experiments.table import ABLATION, TableSettings, table_default


@dataclass(frozen=True, kw_only=True)
class MultitaskSettings(TableSettings):
    """Table 5."""

    ROWS = {tasks: {**ABLATION["bio_u_net"], "tasks": tasks} for tasks in ("one", "two", "five", "six")}


COMMAND = Command(MultitaskSettings, "melanoma.training.grids:grid_command", __doc__, table_default(MultitaskSettings), EVERYWHERE)
