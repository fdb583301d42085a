"""Checkpoints: every variable of a training, and the plain facts around it, in one file that is whole or absent."""

from __future__ import annotations

import json
import logging
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from common.errors import UsageError
from common.runs.files import atomic, plain

log = logging.getLogger(__name__)
# What reading a torn or garbled .npz file raises; its CRC-32 sums are compared on the way.
DAMAGE = (ValueError, KeyError, TypeError, OSError, EOFError, RuntimeError, MemoryError, struct.error, zipfile.BadZipFile, zlib.error)


class Checkpoint:
    """State of a hand-written or Keras training loop, saved at the ends of epochs, or between two batches when it is terminated.

    The file before the last one is kept too: it is taken up when the last one turns out to be damaged.

    Args:
        folder: where `state.npz` lies.
        variables: Keras variables in a fixed order: weights, seed generators (`model.variables` holds both) and the optimizer's.
    """

    def __init__(self, folder: Path, variables: Sequence[keras.Variable]) -> None:
        self.path = Path(folder) / "state.npz"
        self.previous = self.path.with_name("previous.npz")
        self.variables = list(variables)

    def save(self, epoch: int, extra: dict[str, Any] | None = None, arrays: dict[str, np.ndarray] | None = None) -> None:
        """Save all variables with `epoch`, the JSON-able `extra` and further named `arrays`."""
        values = {f"variable_{index}": ops.convert_to_numpy(variable) for index, variable in enumerate(self.variables)}
        facts = json.dumps({"epoch": epoch, "extra": plain(extra or {})})
        with atomic(self.path) as temporary:
            np.savez(temporary, facts=np.array(facts), **values, **(arrays or {}))
            if self.path.is_file():
                os.replace(self.path, self.previous)

    def restore(self) -> dict[str, Any] | None:
        """Put the saved values back: the last ones, or those before them where the last file is damaged.

        Returns:
            None when nothing is saved; else {"epoch": int, "extra": dict, "arrays": dict}.

        Raises:
            UsageError: no file is whole, or it belongs to another network; no variable has changed then.
        """
        damaged: list[str] = []
        for path in filter(Path.is_file, (self.path, self.previous)):
            try:
                facts, values = _read(path)
            except DAMAGE as error:
                damaged.append(f"{path}: the checkpoint is damaged ({(str(error) or type(error).__name__)[:100]})")
                continue
            self._check(path, values)
            for variable, value in zip(self.variables, values, strict=True):
                variable.assign(value)
            if damaged:
                log.warning("%s; the one before it, after epoch %d, is taken up", damaged[0], facts["epoch"])
            return facts
        if damaged:
            raise UsageError(f"{damaged[0]} and none before it is whole; delete {self.path.parent} to train this stage from its beginning")
        return None

    def drop(self) -> None:
        """Delete the files."""
        self.path.unlink(missing_ok=True)
        self.previous.unlink(missing_ok=True)

    def _check(self, path: Path, values: list[np.ndarray]) -> None:
        if len(values) != len(self.variables):
            raise UsageError(f"{path}: holds {len(values)} variables, the training has {len(self.variables)}; choose another --run-dir")
        for value, variable in zip(values, self.variables, strict=True):
            if value.shape != tuple(variable.shape):
                expected = f"{tuple(variable.shape)} is expected; choose another --run-dir"
                raise UsageError(f"{path}: holds a variable of shape {value.shape} where {expected}")


def _read(path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The facts (with their arrays) and the values of the variables, everything read before anything is used."""
    with np.load(path, allow_pickle=False) as stored:
        found = {name: stored[name] for name in stored.files}
    facts = json.loads(str(found.pop("facts")))
    if not isinstance(facts["epoch"], int) or not isinstance(facts["extra"], dict):
        raise ValueError("no epoch")
    values = [found.pop(f"variable_{index}") for index in range(sum(name.startswith("variable_") for name in found))]
    return {**facts, "arrays": found}, values
