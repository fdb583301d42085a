"""Table 5: an encoder for one indicator, with melanoma, for all five, with melanoma.

Printed for pigment network: 32.79, 37.88, 15.64, 23.21 %. Costs four training runs a seed.
"""

from melanoma.experiments.table import ABLATION, TableSettings, table_command


class MultitaskSettings(TableSettings):
    """Table 5."""

    ROWS = {tasks: {**ABLATION["bio_u_net"], "tasks": tasks} for tasks in ("one", "two", "five", "six")}


COMMAND = table_command(MultitaskSettings, __doc__)
