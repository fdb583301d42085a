"""Run folders, checkpoints and training that can be killed at any moment and taken up again."""

from common.runs.checkpoints import Checkpoint
from common.runs.files import atomic, read_json
from common.runs.fitting import fit
from common.runs.folder import Run, is_finished

__all__ = ["Checkpoint", "Run", "atomic", "fit", "is_finished", "read_json"]
