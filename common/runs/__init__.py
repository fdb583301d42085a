"""Run folders, checkpoints and training that can be killed at any moment and taken up again."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.runs.checkpoints import Checkpoint
    from common.runs.files import atomic, read_json
    from common.runs.fitting import fit
    from common.runs.folder import Run, is_finished

__all__ = ["Checkpoint", "Run", "atomic", "fit", "is_finished", "read_json"]

_HOMES = {"Checkpoint": "checkpoints", "Run": "folder", "atomic": "files", "fit": "fitting", "is_finished": "folder", "read_json": "files"}


def __getattr__(name: str) -> Any:
    # Looked up at first use: reports, tables and grids read run folders without the four seconds of importing Keras.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
