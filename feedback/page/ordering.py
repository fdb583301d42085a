"""Which image comes up next."""

from collections.abc import Collection
from typing import Literal

import numpy as np

from common.data.images import resize
from common.errors import UsageError
from common.metrics.overlap import jaccard_index
from feedback.assessment import uncertainty_order
from feedback.page.files import ImageFolder
from feedback.page.log import CorrectionLog
from feedback.page.model import TunedModel
from feedback.page.replay import network_mask

# Images among which the most uncertain one is looked for: a choice among all would decode a whole collection first.
POOL = 200
# After a correction only the most uncertain ones of the pool are looked at again.
FRESH = 48
SIMILAR = 3  # corrected lesions whose regions a map is compared with
Order = Literal["uncertain", "disagreement", "name"]


class Ordering:
    """The images without a correction, in the orders that the page offers. Not safe for threads: the session locks.

    Attributes:
        unreadable: images that cannot be read, and why.
    """

    def __init__(self, log: CorrectionLog, model: TunedModel, folder: ImageFolder) -> None:
        self.log, self.model, self.folder = log, model, folder
        self.unreadable: dict[str, str] = {}
        self._small: dict[str, np.ndarray] = {}
        self._ranking: list[str] = []
        self._ranked_at = -1

    def next(self, order: Order, seen: Collection[str], current: str | None, revision: int) -> str:
        """The next image without a correction; images in `seen` come last. `revision`: of the model.

        `order`: "name" is the next after `current`; "uncertain" the one the model is least sure of; "disagreement" the one whose map lies
        farthest from the regions of the corrected lesions of which the model says most nearly the same (as "uncertain" while there are
        none).
        """
        corrected = {entry["image"] for entry in self.log.active()}
        names = self.folder.names()
        while left := [name for name in names if name not in corrected and name not in self.unreadable and name != current]:
            unseen = [name for name in left if name not in seen] or left
            if order != "name":
                if ranking := self._rank(unseen, revision):
                    return self._disagreeing(ranking) if order == "disagreement" else ranking[0]
                continue  # none of those could be read: they are noted now
            # By its place in the list, which is sorted folder by folder; the uploads come last.
            place = {name: index for index, name in enumerate(names)}
            following = place.get(current, -1) if current is not None else -1
            chosen = next((name for name in unseen if place[name] > following), unseen[0])
            if self.readable(chosen) is not None:
                return chosen
        raise UsageError("every image has been looked at; choose one from the list to correct it again")

    def _rank(self, names: list[str], revision: int) -> list[str]:
        """The pool, most uncertain first. Images that cannot be read are noted and left out."""
        wanted = set(names)
        pool = [name for name in self._ranking if name in wanted]
        if len(pool) < min(POOL // 4, len(names)) or not pool:
            known = set(pool)
            rest = [name for name in names if name not in known]
            wide = min(POOL - len(pool), len(rest))
            picked = np.unique(np.linspace(0, len(rest) - 1, wide).round().astype(int)) if wide else np.zeros(0, int)
            pool = self._sorted([*pool, *(rest[k] for k in picked)])
        elif self._ranked_at != revision:
            pool = [*self._sorted(pool[:FRESH]), *pool[FRESH:]]
        self._ranking, self._ranked_at = pool, revision
        self._small = {name: self._small[name] for name in pool}
        return pool

    def _disagreeing(self, ranking: list[str]) -> str:
        """Of the most uncertain images the one whose map overlaps least with the regions of similar corrected lesions."""
        known = [entry for entry in self.log.active() if self.log.mask(entry).any()]
        if not known:
            return ranking[0]
        names = ranking[:FRESH]
        images = np.stack([self._small[name] for name in names])
        said = np.array([[entry["before"]["probabilities"][name] for name in self.log.session["classes"]] for entry in known])
        regions = np.stack([network_mask(self.log.mask(entry), self.model.size) for entry in known])
        gaps = np.abs(self.model.probabilities(images)[:, None] - said[None]).sum(axis=2)
        nearest = np.argsort(gaps, axis=1, kind="stable")[:, :SIMILAR]
        expected = regions[nearest].mean(axis=1) >= 0.5
        overlap = jaccard_index(expected, self.model.maps(images), float(self.model.model.cut))
        return names[int(np.argmin(overlap))]

    def readable(self, name: str) -> np.ndarray | None:
        """The picture; None when it cannot be read, which is noted so that no order stops at it again."""
        try:
            return self.folder.read(name)
        except UsageError as error:
            self.unreadable[name] = str(error)
            return None

    def _sorted(self, names: list[str]) -> list[str]:
        readable = []
        for name in names:
            if name not in self._small:
                picture = self.readable(name)
                if picture is None:
                    continue
                self._small[name] = resize(picture, self.model.size, self.log.session["resize_filter"])
            readable.append(name)
        if not readable:
            return []
        order = uncertainty_order(self.model.probabilities(np.stack([self._small[name] for name in readable])))
        return [readable[k] for k in order]
