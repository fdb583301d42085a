"""A grid's cells in this process, for tests whose networks exist here only; the grid's own tests show that processes give the same."""

import pickle
from collections.abc import Mapping

from common.cli import _execute
from common.errors import UsageError
from common.runs.cell import command_of
from common.runs.cells import GridCell


def run_here(cell: GridCell, own: Mapping[str, str] | None = None) -> tuple[int, str]:
    """As `common.runs.cells.run_cell`."""
    study, experiment, settings = pickle.loads(cell.stdin())
    try:
        _execute(command_of(study, experiment), settings)
    except UsageError as error:
        return 2, str(error)
    return 0, ""
