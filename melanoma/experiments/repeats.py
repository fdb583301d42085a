"""Table 4: one to five segmentation updates an iteration.

Printed for streaks: 14.17, 15.50, 12.83, 7.93, 11.5 %. Costs five training runs a seed.
"""

from melanoma.experiments.table import ABLATION, TableSettings, table_command


class RepeatsSettings(TableSettings):
    """Table 4."""

    ROWS = {str(count): {**ABLATION["bio_u_net"], "repeats": count} for count in range(1, 6)}


COMMAND = table_command(RepeatsSettings, __doc__)
