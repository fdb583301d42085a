"""What a session did, for a doctor to read: corrected, learned, kept, and what changed for images that nobody corrected."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from common.metrics.overlap import jaccard_index
from feedback.page.guard import Reading
from feedback.page.replay import restore
from feedback.page.session import CorrectionSession

LOOKED_AT = 48


@dataclass(frozen=True)
class Summary:
    """A session so far.

    Attributes:
        entries: of the log, all of them; guard: the model as it is now (None: there is none).
        unseen: images of the folder that nobody corrected and that were looked at for this (at most `LOOKED_AT`); changed: how many of
            them are called something else than before the first correction; overlap: mean Jaccard index of their regions then and now.
    """

    entries: tuple[dict[str, Any], ...]
    guard: Reading | None
    unseen: int = 0
    changed: int = 0
    overlap: float = 1.0


def summarise(session: CorrectionSession) -> Summary:
    """The session as it is now; the model goes back to the base for a moment to look at the uncorrected images."""
    with session.exclusively():
        entries, model = tuple(session.log.entries()), session.model
        corrected = {entry["image"] for entry in entries}
        names = [name for name in session.folder.names() if name not in corrected and name not in session.ordering.unreadable]
        chosen = np.unique(np.linspace(0, len(names) - 1, min(LOOKED_AT, len(names))).round().astype(int)) if names else []
        pictures = [picture for k in chosen if (picture := session.ordering.readable(names[k])) is not None]
        if not pictures:
            return Summary(entries, session.guard_reading())
        images, weights = np.stack([session.shrunk(picture) for picture in pictures]), model.weights()
        now, maps = model.probabilities(images).argmax(axis=1), model.maps(images)
        try:
            restore(session.log, model, [])
            before, old = model.probabilities(images).argmax(axis=1), model.maps(images)
        finally:
            model.set_weights(weights)
        overlap = float(np.mean(jaccard_index(old >= session.threshold, maps, session.threshold)))
        return Summary(entries, session.guard_reading(), len(images), int((now != before).sum()), overlap)
