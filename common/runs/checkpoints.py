"""Checkpoints: every variable of a training, and the plain facts around it, in one file that is whole or absent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from common.runs.files import atomic, plain


class Checkpoint:
    """State of a hand-written or Keras training loop, saved at the ends of epochs.

    Args:
        folder: where `state.npz` lies.
        variables: Keras variables in a fixed order: weights, seed generators (`model.variables` holds both) and the optimizer's.
    """

    def __init__(self, folder: Path, variables: Sequence[keras.Variable]) -> None:
        self.path = Path(folder) / "state.npz"
        self.variables = list(variables)

    def save(self, epoch: int, extra: dict[str, Any] | None = None, arrays: dict[str, np.ndarray] | None = None) -> None:
        """Save all variables with `epoch`, the JSON-able `extra` and further named `arrays`."""
        values = {f"variable_{index}": ops.convert_to_numpy(variable) for index, variable in enumerate(self.variables)}
        facts = json.dumps({"epoch": epoch, "extra": plain(extra or {})})
        with atomic(self.path) as temporary:
            np.savez(temporary, facts=np.array(facts), **values, **(arrays or {}))

    def restore(self) -> dict[str, Any] | None:
        """Put the saved values back.

        Returns:
            None when nothing is saved; else {"epoch": int, "extra": dict, "arrays": dict}.

        Raises:
            ValueError: the file belongs to another network.
        """
        if not self.path.is_file():
            return None
        with np.load(self.path, allow_pickle=False) as stored:
            facts = json.loads(str(stored["facts"]))
            names = [name for name in stored.files if name.startswith("variable_")]
            if len(names) != len(self.variables):
                raise ValueError(f"{self.path}: holds {len(names)} variables, the training has {len(self.variables)}")
            for index, variable in enumerate(self.variables):
                variable.assign(stored[f"variable_{index}"])
            facts["arrays"] = {name: stored[name] for name in stored.files if name != "facts" and name not in names}
        return facts
