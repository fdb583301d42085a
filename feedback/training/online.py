"""Algorithm 2: online tuning of class and region, from a whole simulated user or from one correction."""

import math
from typing import Any

import keras
import numpy as np
import pandas as pd

from common import device
from common.backbones import keep_batchnorm_frozen
from common.data.pipeline import Batches
from common.errors import UsageError
from common.runs.fitting import fit
from common.runs.folder import Run
from feedback.assessment import class_scores
from feedback.experiments.simulate import SimulateSettings
from feedback.models import SelfExplaining, map_layers
from feedback.training.stage import Stage

LAST_GOOD = "last_good.keras"


class LossNotFinite(UsageError):
    """Training stopped because its loss is no longer finite."""

    SAID = "the loss is not finite"


class StopOnNaN(keras.callbacks.Callback):
    """Ends training with one clear line at the first step whose loss is not finite, and keeps the model of before that epoch.

    Checkpoints are written only as often as they are cheap, and hold no model that could be used; this writes `last_good.keras`.

    Args:
        run: folder for that file; None writes nothing.
        start_counts: whether the model that training starts from is worth keeping too (a tuned one is, an untrained one is not).
    """

    def __init__(self, run: Run | None = None, start_counts: bool = False) -> None:
        super().__init__()
        self._run, self._start_counts = run, start_counts
        self._epoch, self._good = 0, []  # type: int, list[np.ndarray]

    @property
    def _classifier(self) -> keras.Model:
        return getattr(self.model, "classifier", self.model)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch
        if self._run is not None and (epoch or self._start_counts):
            self._good = [keras.ops.convert_to_numpy(weight) for weight in self._classifier.weights]

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        loss = float((logs or {}).get("loss", 0.0))
        if math.isfinite(loss):
            return
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        raise LossNotFinite(
            f"{LossNotFinite.SAID}: {loss} at step {batch + 1} of epoch {self._epoch + 1}, learning rate {rate:g}; {self._keep()}; "
            "try a smaller --learning-rate or a --clip-norm above 0"
        )

    def _keep(self) -> str:
        """Put the weights of before this epoch back and write them; says what was kept."""
        if self._run is None or not self._good:
            return "no epoch was finished before"
        for weight, value in zip(self._classifier.weights, self._good, strict=True):
            weight.assign(value)
        path = self._run.save_model(self._classifier, LAST_GOOD)
        which = f"after epoch {self._epoch}" if self._epoch else "it started from"
        return f"the model {which} is kept as {path.parent.name}/{path.name}"


def self_explaining(classifier: keras.Model, settings: SimulateSettings, steps: int = 0) -> SelfExplaining:
    """The model of a setting, compiled, plain gradient descent with the rate grown with the batch.

    `steps`: optimiser steps in all, over which a cosine schedule falls to zero.
    """
    classification, explanation = settings.weights_of_terms
    model = SelfExplaining(
        classifier,
        explanation_weight=explanation,
        classification_weight=classification,
        normalise_terms=settings.gradient_scaling == "normalised",
        anchor_weight=settings.anchor_weight,
        differentiate_weights=settings.channel_weights == "differentiated",
        layers=map_layers(classifier, settings.layer, settings.fuse_stages),
        feedback=settings.explanation_loss,
        threshold=settings.threshold,
        only_wrong=settings.feedback == "wrong",
        nominal_batch=settings.batch_size,
    )
    rate: Any = settings.learning_rate * settings.batch_size
    if settings.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, max(steps, 1))
    optimizer = keras.optimizers.SGD(rate, global_clipnorm=settings.clip_norm or None)
    model.compile(optimizer, jit_compile=device.jit_compile())
    return model


def targets(labels: np.ndarray, masks: np.ndarray, anchor: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """What `SelfExplaining` learns from; `anchor` `(n, classes)` are the probabilities to stay near."""
    return {"label": labels, "mask": masks} | ({} if anchor is None else {"anchor": anchor})


def online_step(model: SelfExplaining, images: np.ndarray, wanted: dict[str, np.ndarray]) -> dict[str, float]:
    """One step of Algorithm 2 on one image or a few: what a user's correction does to the model.

    Args:
        model: compiled (`self_explaining`).
        images: `(batch, size, size, 3)` raw RGB.
        wanted: targets as `SelfExplaining` takes them.

    Returns:
        loss, classification, explanation, accuracy, jaccard (before the step).

    Raises:
        UsageError: the loss is not finite. The weights are then what they were.
    """
    kept = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    model.reset_metrics()
    logs = model.train_on_batch(np.asarray(images, "float32"), wanted, return_dict=True)
    found = {name: float(value) for name, value in logs.items()}
    if not math.isfinite(found["loss"]):
        for variable, value in zip(model.trainable_variables, kept, strict=True):
            variable.assign(value)
        raise UsageError("the loss of this correction is not finite; the model is unchanged (try a smaller learning rate)")
    return found


class BalancedBatches(Batches):
    """Batches in which every class occurs equally often: as many images an epoch as there are, the classes in turn.

    Each class is gone through in an order drawn from (seed, epoch), from the beginning again when it has come to its end.
    """

    def __init__(self, images: np.ndarray, targets: np.ndarray | dict[str, np.ndarray], **options: Any) -> None:
        super().__init__(images, targets, **options)
        self._labels = np.asarray(targets["label"] if isinstance(targets, dict) else targets)

    def order(self, epoch: int | None = None) -> np.ndarray:
        """The row numbers in the order of `epoch`."""
        epoch = self.epoch if epoch is None else epoch
        if self._order is None or self._order[0] != epoch:
            drawn = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
            members = [drawn[self._labels[drawn] == label] for label in np.unique(self._labels[drawn])]
            turns = -(-len(drawn) // len(members))
            order = np.stack([np.resize(one, turns) for one in members], axis=1).ravel()[: len(drawn)]
            self._order = epoch, order
        return self._order[1]


class KeptClassifier(keras.callbacks.Callback):
    """Adds to an epoch's validation scores what the feedback must not spoil, and the score by which the epoch is chosen.

    `val_balanced_accuracy`, `val_auc` (macro, one against the rest, over the classes that occur), `val_share_<class>` (share of the
    images that are predicted so), and `val_selection`: the Jaccard index where the balanced accuracy is at most `allowed_drop` below
    that of the model before the feedback, else minus what is missing, so that the least spoilt epoch is taken where all are.
    """

    def __init__(self, stage: Stage, allowed_drop: float) -> None:
        super().__init__()
        self._stage, self._rows, self.allowed_drop = stage, stage.part("validation"), allowed_drop
        self.floor = -1.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.floor = self._scores()["balanced_accuracy"] - self.allowed_drop

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        found = self._scores()
        missing = self.floor - found["balanced_accuracy"]
        found["selection"] = (logs or {}).get("val_jaccard", 0.0) if missing <= 1e-9 else -missing
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in found.items()})

    def _scores(self) -> dict[str, float]:
        classifier: Any = getattr(self.model, "classifier", self.model)
        probabilities = classifier.predict(Batches(self._stage.images, batch_size=64, rows=self._rows), verbose=0)
        return class_scores(self._stage.labels[self._rows], probabilities, self._stage.classes)


def adapt(model: keras.Model, stage: Stage, settings: SimulateSettings, run: Run) -> pd.DataFrame:
    """Class-balanced cross-entropy on the simulation's own training images, before any feedback: the base has seen other images.

    Its batch normalisation stays as the base's training left it. The model ends as the epoch of the highest balanced accuracy on
    validation. Returns the history.
    """
    keep_batchnorm_frozen(model)
    model.compile(
        keras.optimizers.Adam(settings.adapt_learning_rate), loss="sparse_categorical_crossentropy", jit_compile=device.jit_compile()
    )
    rows = stage.part("train")
    batches = BalancedBatches(stage.images, stage.labels, batch_size=min(16, len(rows)), seed=settings.seed, shuffle=True, rows=rows)
    return fit(
        model, batches, run=run, stage="adaptation", epochs=settings.adapt_epochs, monitor="val_balanced_accuracy", mode="max",
        select="best", extra_callbacks=[StopOnNaN(run), KeptClassifier(stage, 1.0)],
    )  # fmt: skip


def batches_of(stage: Stage, rows: np.ndarray, settings: SimulateSettings, seed: int, anchor: np.ndarray | None = None) -> Batches:
    """The training batches of a setting over the images `rows`."""
    kind = BalancedBatches if settings.balance == "batches" else Batches
    wanted = targets(stage.labels, stage.masks, anchor)
    return kind(stage.images, wanted, batch_size=min(settings.batch_size, len(rows)), seed=seed, shuffle=True, rows=rows)


def anchor_of(model: keras.Model, stage: Stage, settings: SimulateSettings) -> np.ndarray | None:
    """Probabilities `(N, classes)` of the model before the feedback, over all images; None where there is no anchor."""
    return model.predict(Batches(stage.images, batch_size=64), verbose=0) if settings.anchor_weight else None


def tune(model: SelfExplaining, stage: Stage, batches: Batches, settings: SimulateSettings, run: Run, name: str) -> pd.DataFrame:
    """Algorithm 2 over `batches`; the model ends as the epoch that `KeptClassifier` scores highest (section 5.3: the highest validation
    Jaccard index). Returns the history.

    Raises:
        LossNotFinite: with step, epoch and learning rate; the model as it was before that epoch is in the run folder, `last_good.keras`.
    """
    anchor = batches.targets.get("anchor")
    watching = [StopOnNaN(run, start_counts=True), KeptClassifier(stage, settings.allowed_drop)]
    if settings.patience:  # behind the callback that gives it its score
        watching.append(keras.callbacks.EarlyStopping("val_selection", mode="max", patience=settings.patience))
    return fit(
        model,
        batches,
        run=run,
        stage=name,
        epochs=settings.epochs,
        validation=Batches(stage.images, targets(stage.labels, stage.masks, anchor), batch_size=32, rows=stage.part("validation")),
        monitor="val_selection",
        mode="max",
        select="best",
        extra_callbacks=watching,
    )
