"""A session of corrections: what the page does, without any page. Every public method may be called from several threads."""

import logging
import threading
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.data.images import resize
from common.errors import UsageError
from common.metrics.overlap import jaccard_index
from feedback.page.files import ImageFolder, pixels_digest
from feedback.page.guard import Guard, GuardLimits, Reading
from feedback.page.log import CorrectionLog, now
from feedback.page.model import Look, TunedModel, save_weights
from feedback.page.ordering import Order, Ordering
from feedback.page.replay import apply, network_mask, restore
from feedback.paper import CASES

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """One image, `picture` `(height, width, 3)` uint8 at its own size, with what the model says of it; `revision`: how often the model had
    changed by then."""

    name: str
    picture: np.ndarray
    look: Look
    revision: int


@dataclass(frozen=True)
class Result:
    """What a correction did: the entry of the log, both looks, the region at the network's size, and the guard (None: there is none)."""

    entry: dict[str, Any]
    before: Look
    after: Look
    region: np.ndarray
    guard: Reading | None


class Stale(UsageError):
    """The model has changed since the caller's view of it was made: what the caller saw and judged is not what would be learned from."""


class CorrectionSession:
    """One log, one model, one folder of images.

    Args:
        log: opened; the model takes up its last state, and a correction that a kill interrupted is learned now.
        model: as it is before the first correction.
        folder: the images.
        validation: images `(n, size, size, 3)` and class numbers for the guard, or None; limits: of the guard.
        keep_states: weight files to keep.
    """

    def __init__(
        self,
        log: CorrectionLog,
        model: TunedModel,
        folder: ImageFolder,
        validation: tuple[np.ndarray, np.ndarray] | None = None,
        limits: GuardLimits = GuardLimits(),  # noqa: B008
        keep_states: int = 20,
    ) -> None:
        self.log, self.model, self.folder, self.keep_states = log, model, folder, keep_states
        self.classes: tuple[str, ...] = tuple(log.session["classes"])
        self.ordering = Ordering(log, model, folder)
        self._lock = threading.RLock()
        self._read: tuple[str, Reading] | None = None  # the guard's last reading, and of which state of the model
        self.revision = 0
        model.warm_up()
        if not log.state(0).is_file():
            save_weights(log.state(0), model.weights())
        self.guard = Guard(model, *validation, self.classes, limits) if validation is not None else None
        self._take_up()
        self._digest = model.digest()
        for entry in [entry for entry in log.active() if entry["status"] == "received"]:
            self._finish(entry, self.model.look(log.seen(entry)), 0.0)

    @property
    def threshold(self) -> float:
        """Share of a map's maximum from which a pixel is inside the region."""
        return float(self.model.model.cut)

    def view(self, name: str) -> View:
        """Open an image and look at it. UsageError: unknown, too large or not decodable."""
        picture = self.folder.read(name)
        with self._lock:
            return View(name, picture, self.model.look(self.shrunk(picture)), self.revision)

    def next_image(self, order: Order = "uncertain", seen: Collection[str] = (), current: str | None = None) -> str:
        """The next image without a correction (`Ordering.next`). UsageError: none is left."""
        with self._lock:
            return self.ordering.next(order, seen, current, self.revision)

    def correct(
        self,
        name: str,
        case: str,
        label: str | None = None,
        region: np.ndarray | None = None,
        source: str = "drawn",
        progress: Callable[[float], None] | None = None,
        revision: int | None = None,
        order: str = "",
    ) -> Result:
        """Write a correction to the log, learn it, and say what changed.

        Args:
            name: image.
            case: one of `feedback.paper.CASES`: "both_right" (thesis, section 1.4: the model stays as it is), "region_wrong",
                "class_wrong", "both_wrong".
            label: the right class, where the class is wrong.
            region: `(height, width)` bool at the image's own size, where the region is wrong. Where it is right, the region that the
                model shows for the class it chose is what it shall show for the right class.
            source: how the region was given, for the log.
            order: in which the image came up ("" when it was chosen by hand), for the log.
            revision: of the view that was judged. "The class is right" is a label: of the class that view showed, no other.

        Raises:
            Stale: the model has changed since `revision`; nothing is written.
            UsageError: case, class and region do not fit together; or it could not be learned (a loss that is not finite, no memory, a
                full disk): the entry stays, `refused` with the reason, and the weights are what they were.
        """
        picture = self.folder.read(name)
        began = time.perf_counter()
        with self._lock:
            self._check(revision)
            seen = self.shrunk(picture)
            before = self.model.look(seen)
            chosen = self._class(case, label, before)
            mask, source = self._region(case, region, before, picture.shape[:2], source)
            entry = {
                "image": name, "case": case, "class_shown": self.classes[before.predicted], "class": chosen, "region": source,
                "order": order, "status": "received", "model_before": self._digest, "model_after": None,
                "seed": int(self.log.session["seed"]) + len(self.log.entries()),
                "before": self.facts(before, network_mask(mask, self.model.size)),
            }  # fmt: skip
            number = self.log.append(entry, seen, mask)
            entry = self.log.entries()[-1]
            kept = self.model.weights()
            try:
                if case != "both_right":
                    losses = apply(self.log, self.model, entry, progress)
                    self.log.update(number, losses=[round(value, 6) for value in losses])
                result = self._finish(self.log.entries()[-1], before, began)
            except Exception as error:
                # Whatever it was: an entry that counts but was not learned would make log and model disagree.
                self.model.set_weights(kept)
                self._digest = self.model.digest()
                reason = reason_of(error)
                self.log.update(number, status="refused", reason=reason)
                if isinstance(error, UsageError):
                    raise
                log.exception("correction %d", number)
                raise UsageError(f"the correction could not be learned ({reason}); the model is unchanged") from None
            self.revision += case != "both_right"
            return result

    def undo(self, revision: int | None = None) -> dict[str, Any]:
        """Take the last correction back: the model becomes what it was before it. Returns the entry.

        Args:
            revision: what the caller's view was made with; another tab may have changed the model since.

        Raises:
            Stale: the model has changed since `revision`.
            UsageError: nothing to undo.
        """
        with self._lock:
            self._check(revision)
            active = self.log.active()
            if not active:
                raise UsageError("there is no correction to undo")
            entry = active[-1]
            if entry["status"] == "confirmed":
                return self.log.update(entry["number"], status="undone", undone=now())
            restore(self.log, self.model, active[:-1])
            self._digest = self.model.digest()
            self.revision += 1
            return self.log.update(entry["number"], status="undone", undone=now())

    def guard_reading(self) -> Reading | None:
        """The guard for the model as it is now."""
        with self._lock:
            return self._guarded()

    def exclusively(self) -> AbstractContextManager[Any]:
        """Nobody corrects, looks or undoes while this is held."""
        return self._lock

    def close(self) -> None:
        """Let other processes use the log."""
        with self._lock:
            self.log.release()

    def original(self, entry: dict[str, Any]) -> Path | None:
        """File of an entry's image; None when it is gone from the folder, cannot be read, or is not what the network saw then."""
        try:
            picture = self.folder.read(entry["image"])
        except UsageError:
            return None
        same = picture.shape[:2] == self.log.mask(entry).shape and pixels_digest(self.shrunk(picture)) == Path(entry["seen"]).stem
        return self.folder.path(entry["image"]) if same else None

    def _check(self, revision: int | None) -> None:
        if revision is not None and revision != self.revision:
            raise Stale("another tab has changed the model since this page was drawn; look at the image again first")

    def _take_up(self) -> None:
        try:
            restore(self.log, self.model)
        except Exception as error:
            # Only a correction that nothing was learned from yet can fail here: the kill came while it was being refused.
            pending = [entry for entry in self.log.active() if entry["status"] == "received"]
            if not pending:
                raise
            self.log.update(pending[-1]["number"], status="refused", reason=reason_of(error))
            restore(self.log, self.model)

    def _finish(self, entry: dict[str, Any], before: Look, began: float) -> Result:
        """The second half of a correction: state, digest, look after, guard, and the entry written again."""
        learned = entry["case"] != "both_right"
        if learned:
            weights = self.model.weights()
            save_weights(self.log.state(entry["number"]), weights)
            self.log.drop_states(self.keep_states)
            self._digest = self.model.digest()
        after = self.model.look(self.log.seen(entry)) if learned else before
        region = network_mask(self.log.mask(entry), self.model.size)
        reading, reached = self._guarded(), self._digest
        back = learned and reading is not None and reading.harm and self.guard is not None and self.guard.limits.rollback
        if back:
            restore(self.log, self.model, [one for one in self.log.active() if one["number"] != entry["number"]])
            self._digest = self.model.digest()
        entry = self.log.update(
            entry["number"],
            status="rolled_back" if back else "learned" if learned else "confirmed",
            model_after=reached,
            after=self.facts(after, region),
            guard=None if reading is None else asdict(reading),
            seconds=round(time.perf_counter() - began, 3) if began else None,
        )
        return Result(entry, before, after, region, reading)

    def _guarded(self) -> Reading | None:
        if self.guard is not None and (self._read is None or self._read[0] != self._digest):
            self._read = self._digest, self.guard.check(self.model)
        return self._read[1] if self._read else None

    def shrunk(self, picture: np.ndarray) -> np.ndarray:
        """A picture as the network sees it, `(size, size, 3)` uint8."""
        return resize(picture, self.model.size, self.log.session["resize_filter"])

    def _class(self, case: str, label: str | None, before: Look) -> str:
        if case not in CASES:
            raise UsageError("choose first which of the four cases it is")
        shown = self.classes[before.predicted]
        if case in ("both_right", "region_wrong"):
            return shown
        if label not in self.classes:
            raise UsageError("choose the right class")
        if label == shown:
            raise UsageError(f"{shown} is what the model says; choose another class, or a case in which the class is right")
        return str(label)

    def _region(self, case: str, region: np.ndarray | None, before: Look, shape: tuple[int, int], source: str) -> tuple[np.ndarray, str]:
        if case in ("region_wrong", "both_wrong"):
            if region is None or not np.any(region):
                raise UsageError("draw the right region, or give it as an ellipse")
            if region.shape != tuple(shape):
                raise UsageError(f"the region is {region.shape[1]} x {region.shape[0]} pixels, the image {shape[1]} x {shape[0]}")
            return np.asarray(region, bool), source
        shown = before.map >= self.threshold
        if case == "class_wrong" and not shown.any():
            raise UsageError("the model shows no region here; choose a case in which the region is wrong, and draw it")
        return resize(shown.astype(np.uint8), shape, "nearest").astype(bool), "model"

    def facts(self, look: Look, region: np.ndarray) -> dict[str, Any]:
        """What the log keeps of a look, beside a region at the network's size."""
        return {
            "class": self.classes[look.predicted],
            "probabilities": {name: round(float(p), 6) for name, p in zip(self.classes, look.probabilities, strict=True)},
            "jaccard": float(jaccard_index(region, look.map, self.threshold)),
        }


def reason_of(error: Exception) -> str:
    """An error in one line, as the log keeps it: its first line, with its kind where it is none of ours."""
    said = (str(error).strip().splitlines() or ["no message"])[0][:200]
    return said if isinstance(error, UsageError) else f"{type(error).__name__}: {said}"
