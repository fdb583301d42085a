"""Batches of several streams side by side (Algorithm 1, VAT)."""

from typing import Any

import keras
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


class Beside(keras.utils.PyDataset):
    """Batches of `own`, and beside each the next few of endless streams: `(batch, {name: [batch, …]})`. An epoch is one pass of `own`.

    others: name -> (batches, how many beside each).
    """

    def __init__(self, own: Batches, **others: tuple[Batches, int]) -> None:
        super().__init__()
        self.own, self.others = own, others

    @property
    def epoch(self) -> int:
        return self.own.epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self.own.epoch = value

    def __len__(self) -> int:
        return len(self.own)

    def __getitem__(self, index: int) -> Any:
        step = self.epoch * len(self) + index
        return self.own[index], {
            name: [at(batches, step * count + number) for number in range(count)] for name, (batches, count) in self.others.items()
        }

    def on_epoch_begin(self) -> None:
        self.own.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.own.on_epoch_end()


def scalar(logs: Any) -> float:
    """The loss in what `train_on_batch` or `evaluate` returns."""
    return float(logs[0] if isinstance(logs, list | tuple) else logs)
