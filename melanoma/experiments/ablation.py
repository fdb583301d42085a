"""Table 3: f_Res, with f_Seg, with f_CLR, with both, like for like; with `--order interleaved` in the order of Algorithm 1.

Printed for streaks: 5.16, 3.83, 12.67, 14.17 % continuous Dice; melanoma 0.76, 0.76, 0.80, 0.82. Every row has the same encoders, outputs
(`--tasks`), steps and L2-regularised head, so rows without f_Seg are the control "the same extra epochs without Dice"; `--encoders plain`
is the paper's f_Res instead. Costs four training runs a seed, one pre-training shared.
"""

from melanoma.experiments.table import ABLATION, TableSettings, table_command


class AblationSettings(TableSettings):
    """Table 3."""

    ROWS = ABLATION


COMMAND = table_command(AblationSettings, __doc__)
