"""Table 6: continuous Dice at thresholds 0.0 to 0.9.

Printed for streaks: 14.17 % at 0.0, 18.66 at 0.6. Costs one training run a seed, nothing where it is there. `--binarise` scores
binary maps.
"""

from melanoma.experiments.table import TableSettings, table_command

COMMAND = table_command(TableSettings, __doc__)
