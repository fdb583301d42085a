"""From a correction log to weights: at the start of a session, for undo, and as a check (`feedback replay LOG`)."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.data.images import resize
from common.errors import UsageError
from common.runs.files import atomic
from feedback.experiments.replay import ReplaySettings
from feedback.experiments.simulate import stored
from feedback.page.log import CorrectionLog
from feedback.page.model import Learning, ReplaySet, TunedModel, digest, load_weights
from feedback.training.stage import load_classifier

log = logging.getLogger(__name__)
# Another machine or another number of threads adds in another order; beyond this the weights are other weights.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Replayed:
    """Outcome of a replay.

    Attributes:
        corrections: how many were learned again.
        digest: of the weights that came out.
        recorded: digest in the log; None when nothing was learned.
        difference: largest difference of a weight to the recorded ones; None when that state is not on disk any more.
    """

    corrections: int
    digest: str
    recorded: str | None
    difference: float | None

    @property
    def equal(self) -> bool:
        """The same weights: bit by bit, or to `TOLERANCE` where they can be compared."""
        return self.recorded in (None, self.digest) or (self.difference is not None and self.difference <= TOLERANCE)


def open_model(log: CorrectionLog) -> TunedModel:
    """The base model of a log, ready to learn with the log's settings."""
    missing = [name for name in ("simulation", "learning") if not isinstance(log.session.get(name), dict)]
    if missing:
        raise UsageError(f"{log.path / 'session.json'}: no entry {missing[0]}; a log of an older form, which these steps cannot repeat")
    run_settings = stored(log.session["simulation"])
    classifier = load_classifier(log.path / "base")
    if classifier.output_shape[-1] != len(log.session["classes"]):
        raise UsageError(f"{log.path}: the model has {classifier.output_shape[-1]} outputs for {len(log.session['classes'])} classes")
    replayed = ReplaySet.load(log.replay_file)
    if log.session.get("replayed") and replayed is None:
        raise UsageError(f"{log.replay_file}: missing; the corrections were learned beside these images and cannot be repeated without")
    return TunedModel(classifier, run_settings, Learning(**log.session["learning"]), replayed)


def network_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A region `(h, w)` bool at the network's size `(size, size)`; a region too thin for one pixel keeps its middle one."""
    small = resize(mask.astype(np.uint8), size, "nearest").astype(bool)
    if mask.any() and not small.any():
        rows, columns = np.nonzero(mask)
        small[int(np.median(rows) * size / mask.shape[0]), int(np.median(columns) * size / mask.shape[1])] = True
    return small


def apply(log: CorrectionLog, model: TunedModel, entry: dict[str, Any], progress: Callable[[float], None] | None = None) -> list[float]:
    """Learn the correction of an entry; returns the loss before each step."""
    label = log.session["classes"].index(entry["class"])
    return model.learn(log.seen(entry), label, network_mask(log.mask(entry), model.size), entry["seed"], entry["case"], progress)


def restore(log: CorrectionLog, model: TunedModel, active: Sequence[dict[str, Any]] | None = None) -> None:
    """Give the model the weights after the corrections `active` (default: all that count): from the last state on disk that fits."""
    to_learn = learned(log.active() if active is None else active)
    for known in range(len(to_learn), -1, -1):
        expected = to_learn[known - 1]["model_after"] if known else log.session["base_digest"]
        weights = load_weights(log.state(to_learn[known - 1]["number"] if known else 0))
        if weights is not None and digest(weights) == expected:
            model.set_weights(weights)
            break
    else:
        model.set_weights(open_model(log).weights())
        known = 0
    for entry in to_learn[known:]:
        apply(log, model, entry)


def learned(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries that change the model."""
    return [entry for entry in entries if entry["status"] in ("received", "learned") and entry["case"] != "both_right"]


def replay(log: CorrectionLog) -> tuple[Replayed, TunedModel]:
    """Learn everything again from the base model, states on disk left aside, and compare with what was recorded."""
    model = open_model(log)
    entries = learned(log.active())
    for entry in entries:
        apply(log, model, entry)
    recorded = entries[-1]["model_after"] if entries else None
    weights, difference = model.weights(), None
    stored = load_weights(log.state(entries[-1]["number"])) if entries else None
    if stored is not None:
        difference = max((float(np.abs(a - b).max()) for a, b in zip(weights, stored, strict=True) if a.size), default=0.0)
    return Replayed(len(entries), digest(weights), recorded, difference), model


def run_replay(options: ReplaySettings) -> Replayed:
    """`feedback replay LOG`. UsageError when the weights that come out are not those of the log."""
    opened = CorrectionLog.open(options.log)
    try:
        found, model = replay(opened)
    finally:
        opened.release()
    if options.output is not None:
        with atomic(options.output) as temporary:
            model.classifier.save(temporary)
        log.info("model: %s", options.output)
    if not found.equal:
        how = "that state is not on disk any more" if found.difference is None else f"largest difference {found.difference:.2g}"
        raise UsageError(f"{options.log}: the replayed weights are not the recorded ones ({how}); was it made on another machine?")
    if found.recorded is None:
        log.info("%d corrections replayed; no weights are recorded to compare with", found.corrections)
    elif found.digest == found.recorded:
        log.info("%d corrections replayed; the weights equal the recorded ones bit by bit (%s)", found.corrections, found.digest)
    else:
        log.info("%d corrections replayed; the weights equal the recorded ones to %.1g", found.corrections, found.difference)
    return found
