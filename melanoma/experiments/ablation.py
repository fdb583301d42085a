"""Table 3: f_Res, with f_Seg, with f_CLR, with both, like for like; with `--order interleaved` in the order of Algorithm 1.

Printed for streaks: 5.16, 3.83, 12.67, 14.17 % continuous Dice; melanoma 0.76, 0.76, 0.80, 0.82. Every row has the same encoders, outputs
(`--tasks`), steps and L2-regularised head, so rows without f_Seg are the control "the same extra epochs without Dice"; `--encoders plain`
is the paper's f_Res instead. Costs four training runs a seed, one pre-training shared.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.settings import Command
from melanoma.experiments.base import EVERYWHERE
from melanoma.experiments.table import ABLATION, TableSettings, table_default


@dataclass(frozen=True, kw_only=True)
class AblationSettings(TableSettings):
    """Table 3."""

    ROWS = ABLATION


COMMAND = Command(AblationSettings, "melanoma.training.grids:grid_command", __doc__, table_default(AblationSettings), EVERYWHERE)
