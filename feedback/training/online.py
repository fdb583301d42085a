"""Algorithm 2: online tuning of class and region, from a whole simulated user or from one correction."""

import math

import keras
import numpy as np
import pandas as pd

from common import device
from common.data.pipeline import Batches
from common.errors import UsageError
from common.runs import Run, fit
from feedback.config import Simulation
from feedback.models import SelfExplaining, map_layers
from feedback.training.stage import Stage

LAST_GOOD = "last_good.keras"


class LossNotFinite(UsageError):
    """Training stopped because its loss is no longer finite."""


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
            f"the loss is {loss} at step {batch + 1} of epoch {self._epoch + 1}, learning rate {rate:g}; {self._keep()}; "
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


def self_explaining(classifier: keras.Model, settings: Simulation) -> SelfExplaining:
    """The model of a simulation's settings, ready for `fit`: SGD as in Algorithm 1, its rate grown with the batch."""
    model = SelfExplaining(
        classifier,
        explanation_weight=float(settings.explanation_weight),
        differentiate_weights=settings.gradients == "differentiated",
        layers=map_layers(classifier, settings.layer, settings.fuse_stages),
        feedback=settings.explanation_loss,
        threshold=settings.threshold,
        soft=settings.soft,
        only_wrong=settings.feedback == "wrong",
        region_threshold=settings.region_threshold,
        nominal_batch=settings.batch_size,
    )
    optimizer = keras.optimizers.SGD(settings.learning_rate * settings.batch_size, global_clipnorm=settings.clip_norm or None)
    model.compile(optimizer, jit_compile=device.jit_compile())
    return model


def targets(labels: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """What `SelfExplaining` learns from."""
    return {"label": labels, "mask": masks}


def online_step(model: SelfExplaining, images: np.ndarray, labels: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """One step of Algorithm 2 on one image or a few: what a user's correction does to the model.

    Args:
        model: compiled (`self_explaining`).
        images: `(batch, size, size, 3)` raw RGB; labels `(batch,)`; masks `(batch, H, W)` 0..255, all zero where no region is given.

    Returns:
        loss, classification, explanation, accuracy, jaccard (before the step).

    Raises:
        UsageError: the loss is not finite. The weights are then what they were.
    """
    kept = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    model.reset_metrics()
    logs = model.train_on_batch(np.asarray(images, "float32"), targets(np.asarray(labels, "int32"), masks), return_dict=True)
    found = {name: float(value) for name, value in logs.items()}
    if not math.isfinite(found["loss"]):
        for variable, value in zip(model.trainable_variables, kept, strict=True):
            variable.assign(value)
        raise UsageError("the loss of this correction is not finite; the model is unchanged (try a smaller learning rate)")
    return found


def tune(
    model: SelfExplaining, stage: Stage, rows: np.ndarray, settings: Simulation, run: Run, name: str, seed: int, callbacks: tuple = ()
) -> pd.DataFrame:
    """Algorithm 2 over `rows`; the model ends as the epoch with the highest validation Jaccard index (section 5.3). Returns the history.

    Raises:
        LossNotFinite: with step, epoch and learning rate; the model as it was before that epoch is in the run folder, `last_good.keras`.
    """
    wanted = targets(stage.labels, stage.masks)
    batches = Batches(stage.images, wanted, batch_size=min(settings.batch_size, len(rows)), seed=seed, shuffle=True, rows=rows)
    return fit(
        model,
        batches,
        run=run,
        stage=name,
        epochs=settings.epochs,
        validation=Batches(stage.images, wanted, batch_size=32, rows=stage.part("validation")),
        monitor="val_jaccard",
        mode="max",
        select="best",
        extra_callbacks=[StopOnNaN(run, start_counts=True), *callbacks],
    )
