"""Manifest arrays to batches for `fit`, `evaluate` and `predict`, the same on every backend."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from common.errors import UsageError

Augment = Callable[[np.ndarray, Any, np.random.Generator], tuple[np.ndarray, Any]]


class Batches(keras.utils.PyDataset):
    """Batches of stored images, shuffled and augmented as a pure function of (seed, epoch, batch number).

    - `images`: `(n, h, w, c)`, as a rule the memory map of `cached_images`; yielded in its own dtype (Keras casts uint8)
    - `targets`: None, an array, or a tuple or dict of arrays, aligned with `images`
    - `rows`: row numbers to use, in this order (default all); so one cache serves train, validation and test
    - `shuffle`: a new permutation each epoch, from (seed, epoch)
    - `augment`: `augment(images, targets, rng) -> (images, targets)` on a whole batch, `rng` from (seed, epoch, batch)
    - `sample_weights`: an array aligned with `images`
    - `drop_remainder`: leave out a last batch that is not full
    - `smallest`: leave out a last batch of fewer images (a loss of pairs learns nothing from one)

    Yields `images`, `(images, targets)` or `(images, targets, weights)`. Use `fit(batches, shuffle=False)` (Keras would
    shuffle the batches' order itself, unseeded) and no `steps_per_epoch` (Keras would then draw batches before the
    epoch they belong to).

    `epoch` counts completed passes and may be set, to resume. Keras calls `on_epoch_end` also when no epoch ended (at
    the start of every `fit`, and after a trial batch on JAX), so a pass counts when it has begun and its last batch was
    asked for.
    """

    def __init__(
        self,
        images: np.ndarray,
        targets: Any = None,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        augment: Augment | None = None,
        sample_weights: np.ndarray | None = None,
        epoch: int = 0,
        drop_remainder: bool = False,
        rows: np.ndarray | None = None,
        smallest: int = 1,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size}: expected at least 1")
        for part in keras.tree.flatten(targets) if targets is not None else []:
            if len(part) != len(images):
                raise ValueError(f"{len(images)} images but {len(part)} targets")
        if sample_weights is not None and len(sample_weights) != len(images):
            raise ValueError(f"{len(images)} images but {len(sample_weights)} sample weights")
        self.images, self.targets, self.sample_weights = images, targets, sample_weights
        self.rows = np.arange(len(images)) if rows is None else np.asarray(rows, dtype=np.int64)
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self.augment, self.smallest = augment, batch_size if drop_remainder else smallest
        self._order: tuple[int, np.ndarray] | None = None
        self.epoch = epoch
        if not len(self):
            raise UsageError(f"{len(self.rows)} images make no batch of {batch_size}; expected more images")

    @property
    def epoch(self) -> int:
        return self._epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._epoch = int(value)
        self._begun = self._complete = False

    def __len__(self) -> int:
        full, rest = divmod(len(self.rows), self.batch_size)
        return full + (rest > 0 and rest >= self.smallest)

    def order(self, epoch: int | None = None) -> np.ndarray:
        """The row numbers in the order of `epoch` (default: the current one)."""
        epoch = self._epoch if epoch is None else epoch
        if not self.shuffle:
            return self.rows
        known = self._order  # read once: a prefetching thread may replace it
        if known is None or known[0] != epoch:
            known = (epoch, np.random.default_rng([self.seed, epoch]).permutation(self.rows))
            self._order = known
        return known[1]

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        epoch = self._epoch
        rows = self.order(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
        images = self.images[rows]
        targets = None if self.targets is None else keras.tree.map_structure(lambda each: each[rows], self.targets)
        if self.augment is not None:
            # From 1 on: NumPy takes (seed, epoch, 0) for (seed, epoch), which drew the order.
            images, targets = self.augment(images, targets, np.random.default_rng([self.seed, epoch, index + 1]))
        if index == len(self) - 1:
            self._complete = True
        if targets is None:
            return images
        if self.sample_weights is None:
            return images, targets
        return images, targets, self.sample_weights[rows]

    def on_epoch_begin(self) -> None:
        self._begun, self._complete = True, False

    def on_epoch_end(self) -> None:
        if self._begun and self._complete:
            self.epoch += 1
        self._begun = False
