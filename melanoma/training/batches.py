"""Batches and histories of the training loop that `fit` does not run (Algorithm 1)."""

from typing import Any

import numpy as np

from common.data.pipeline import Batches


def full_batches(images: np.ndarray, targets: Any = None, *, rows: np.ndarray, batch_size: int, seed: int) -> Batches:
    """Shuffled training batches without a smaller last one, for which a compiled step would be compiled once more."""
    size = min(batch_size, len(rows))
    return Batches(images, targets, rows=rows, batch_size=size, seed=seed, shuffle=True, drop_remainder=True)


def at(batches: Batches, step: int) -> Any:
    """Batch number `step` of an endless stream of epochs."""
    epoch, index = divmod(step, len(batches))
    if batches.epoch != epoch:
        batches.epoch = epoch
    return batches[index]


def scalar(logs: Any) -> float:
    """The loss in what `train_on_batch` or `evaluate` returns."""
    return float(logs[0] if isinstance(logs, list | tuple) else logs)
