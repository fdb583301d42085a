"""Table 4: one to five segmentation updates an iteration.

Printed for streaks: 14.17, 15.50, 12.83, 7.93, 11.5 %. Costs five training runs a seed.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.settings import Command
from melanoma.experiments.base import EVERYWHERE
from melanoma.experiments.table import ABLATION, TableSettings, table_default


@dataclass(frozen=True, kw_only=True)
class RepeatsSettings(TableSettings):
    """Table 4."""

    ROWS = {str(count): {**ABLATION["bio_u_net"], "repeats": count} for count in range(1, 6)}


COMMAND = Command(RepeatsSettings, "melanoma.training.grids:grid_command", __doc__, table_default(RepeatsSettings), EVERYWHERE)
