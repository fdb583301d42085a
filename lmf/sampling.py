"""Which images an epoch draws, and how much each counts: the paper's data-centric strategies ("Introduction"), the LDAM paper's schedule.

- "shuffle": every image once;
- "balanced": a class, each alike, then one of its images (Kang et al. 2020, "Decoupling Representation and Classifier", 3.2, q = 0);
- "oversample": every image once, and images of rarer classes again until all classes have as many as the largest;
- "undersample": of each class as many as the smallest has, others each epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from common.data.pipeline import Batches
from lmf.experiments.base import Sampler

SAMPLERS: tuple[Sampler, ...] = ("shuffle", "balanced", "oversample", "undersample")


def draw(labels: np.ndarray, how: Sampler, rng: np.random.Generator) -> np.ndarray:
    """Places in `labels` `(n,)` that one epoch uses, in its order; always as many for the same labels.

    ValueError for another `how`.
    """
    if how not in SAMPLERS:
        raise ValueError(f"sampler {how!r}: expected one of {', '.join(SAMPLERS)}")
    if how == "shuffle":
        return rng.permutation(len(labels))
    members = [np.flatnonzero(labels == name) for name in np.unique(labels)]
    if how == "balanced":
        chosen = rng.integers(0, len(members), len(labels))
        sizes = np.array([len(each) for each in members])[chosen]
        places = np.floor(rng.random(len(labels)) * sizes).astype(int)
        return np.array([members[name][place] for name, place in zip(chosen, places, strict=True)])
    if how == "oversample":
        largest = max(map(len, members))
        drawn = [np.concatenate([each, rng.choice(each, largest - len(each))]) for each in members]
    else:
        smallest = min(map(len, members))
        drawn = [rng.choice(each, smallest, replace=False) for each in members]
    return rng.permutation(np.concatenate(drawn))


class SampledBatches(Batches):
    """Batches whose images a sampler draws anew each epoch, from (seed, epoch), and whose weights may change with the epoch.

    Args:
        images, labels: as of `Batches`; labels `(n,)` are class numbers.
        sampler: one of `SAMPLERS`.
        class_weights: epoch (0-based) -> weights `(K,)` of the classes; None: no weights.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        sampler: Sampler = "shuffle",
        class_weights: Callable[[int], np.ndarray] | None = None,
        rows: np.ndarray | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.sampler, self.class_weights = sampler, class_weights
        self.pool = np.arange(len(images)) if rows is None else np.asarray(rows, dtype=np.int64)
        # As many rows as an epoch draws: the number of batches comes from them.
        first = self.pool[draw(labels[self.pool], sampler, np.random.default_rng([seed, 0]))]
        super().__init__(images, labels, rows=first, seed=seed, shuffle=True, **options)

    def order(self, epoch: int | None = None) -> np.ndarray:
        if self.sampler == "shuffle":
            self.rows = self.pool  # the very order of `Batches`
            return super().order(epoch)
        epoch = self.epoch if epoch is None else epoch
        known = self._order  # read once: a prefetching thread may replace it
        if known is None or known[0] != epoch:
            chosen = draw(self.targets[self.pool], self.sampler, np.random.default_rng([self.seed, epoch]))
            known = (epoch, self.pool[chosen])
            self._order = known
        return known[1]

    def __getitem__(self, index: int) -> Any:
        epoch = self.epoch
        images, labels = super().__getitem__(index)
        if self.class_weights is None:
            return images, labels
        return images, labels, self.class_weights(epoch)[labels].astype("float32")
