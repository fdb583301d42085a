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


class StopOnNaN(keras.callbacks.Callback):
    """Ends training with one clear line at the first step whose loss is not finite; the last finished epoch stays on disk."""

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            raise UsageError(
                f"the loss is {loss} at step {batch + 1} of the epoch, learning rate {rate:g}; the last finished epoch is kept; "
                "try a smaller --learning-rate or a --clip-norm above 0"
            )


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
    """Algorithm 2 over `rows`; the model ends as the epoch with the highest validation Jaccard index (section 5.3). Returns the history."""
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
        extra_callbacks=[StopOnNaN(), *callbacks],
    )
