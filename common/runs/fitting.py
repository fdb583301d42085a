"""`keras.Model.fit` that can be killed: the finished run equals an unbroken one, dropout and augmentation included."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import pandas as pd
from keras import ops

from common.durations import duration
from common.errors import UsageError
from common.runs.checkpoints import Checkpoint
from common.runs.folder import Run

log = logging.getLogger(__name__)

# A checkpoint may take at most this part of the training time; the first and the last epoch's are always written.
_CHECKPOINT_SHARE = 0.05


def fit(
    model: keras.Model,
    train: Any,
    *,
    run: Run,
    stage: str,
    epochs: int,
    validation: Any = None,
    monitor: str = "val_loss",
    mode: Literal["min", "max"] = "min",
    select: Literal["best", "last"] = "last",
    patience: int | None = None,
    reduce_lr: dict[str, Any] | None = None,
    schedule: Callable[[int], float] | None = None,
    extra_callbacks: Sequence[keras.callbacks.Callback] = (),
) -> pd.DataFrame:
    """Train one stage of a run, taking up where an earlier process stopped.

    Args:
        model: compiled model.
        train: `common.data.pipeline.Batches` or any data set Keras takes; its `epoch` attribute is set on resume.
        run: the run folder; checkpoints go to `checkpoints/<stage>/`, one row an epoch to history.csv.
        stage: name of the stage, unique in the run.
        epochs: number of epochs in all.
        validation: data set evaluated at each epoch's end.
        monitor: metric that `select="best"` and `patience` look at.
        mode: whether a smaller ("min") or larger ("max") `monitor` is better.
        select: weights the model ends with: those of the best epoch by `monitor`, or the last epoch's.
        patience: stop after so many epochs without a better `monitor`; None never stops early.
        reduce_lr: arguments of `keras.callbacks.ReduceLROnPlateau`, or None.
        schedule: learning rate of an epoch (0-based), or None.
        extra_callbacks: further callbacks; their numeric attributes are saved and restored too.

    Returns:
        History of this stage: columns stage, epoch (1-based), seconds, learning_rate and the metrics.

    Raises:
        UsageError: the loss is no longer finite; names epoch and learning rate; the last checkpoint stays on disk.
    """
    model.optimizer.build(model.trainable_variables)
    callbacks: list[keras.callbacks.Callback] = []
    if schedule is not None:
        callbacks.append(keras.callbacks.LearningRateScheduler(lambda epoch, _: float(schedule(epoch))))
    if reduce_lr is not None:
        callbacks.append(keras.callbacks.ReduceLROnPlateau(**reduce_lr))
    if patience is not None:
        callbacks.append(keras.callbacks.EarlyStopping(monitor=monitor, patience=patience, mode=mode))
    callbacks += extra_callbacks
    keeper = _Keeper(run, stage, epochs, train, callbacks, monitor if select == "best" else None, mode)
    if keeper.prepare(model):
        model.fit(
            train,
            epochs=epochs,
            initial_epoch=keeper.epoch,
            validation_data=validation,
            callbacks=[*callbacks, keeper],
            shuffle=False,
            verbose=0,
        )
        keeper.complete()
    return keeper.table()


class _Keeper(keras.callbacks.Callback):
    """Last of the callbacks: saves what every other one and the model hold, writes the history, prints a line an epoch."""

    def __init__(
        self,
        run: Run,
        stage: str,
        epochs: int,
        train: Any,
        others: list[keras.callbacks.Callback],
        monitor: str | None,
        mode: str,
    ) -> None:
        super().__init__()
        self.run, self.stage, self.epochs, self.train, self.others = run, stage, epochs, train, others
        self.monitor, self.sign = monitor, 1.0 if mode == "min" else -1.0
        self.folder: Path = run.path / "checkpoints" / stage
        self.epoch, self.rows, self.states = 0, [], []  # type: int, list[dict[str, Any]], list[dict[str, float]]
        self.best, self.best_weights = math.inf, []  # type: float, list[np.ndarray]
        self.save_seconds = self.last_save = self.began = 0.0

    def prepare(self, model: keras.Model) -> bool:
        """Restore what is on disk; False when the stage was complete (the model then has its final weights)."""
        done = Checkpoint(self.folder / "complete", model.variables)
        facts = done.restore()
        if facts is not None:
            self.rows, self.epoch = facts["extra"]["rows"], facts["epoch"]
            log.info("%s: complete already (%d epochs)", self.stage, self.epoch)
            return False
        facts = Checkpoint(self.folder, [*model.variables, *model.optimizer.variables]).restore()
        if facts is not None:
            extra = facts["extra"]
            self.epoch, self.rows, self.states = facts["epoch"], extra["rows"], extra["callbacks"]
            self.best = extra["best"] if extra["best"] is not None else math.inf
            self.best_weights = [facts["arrays"][f"best_{index}"] for index in range(len(facts["arrays"]))]
            log.info("%s: taken up after epoch %d of %d", self.stage, self.epoch, self.epochs)
            if extra["stopped"] or self.epoch >= self.epochs:
                self.set_model(model)
                self.complete()
                return False
        if hasattr(self.train, "epoch"):
            self.train.epoch = self.epoch
        return True

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        # Keras callbacks forget their counters when a training begins; this callback is last, so it has the last word.
        for callback, state in zip(self.others, self.states, strict=False):
            vars(callback).update(state)
        self.last_save = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.began = time.monotonic()
        if hasattr(self.train, "epoch"):  # Keras's look at a first batch counts as an epoch where there is only one batch
            self.train.epoch = epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        values = {key: float(value) for key, value in (logs or {}).items()}
        rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        if not math.isfinite(values.get("loss", 0.0)):
            raise UsageError(
                f"{self.stage}: the loss is {values['loss']} in epoch {epoch + 1} at learning rate {rate:g}; "
                f"the last checkpoint is kept in {self.run.path.name}; try a smaller learning rate"
            )
        self.epoch = epoch + 1
        seconds = time.monotonic() - self.began
        row = {"stage": self.stage, "epoch": self.epoch, "seconds": round(seconds, 3), **values, "learning_rate": rate}
        self.rows.append(row)
        if self.monitor is not None and self.sign * values[self.monitor] < self.best:
            self.best = self.sign * values[self.monitor]
            self.best_weights = [ops.convert_to_numpy(variable) for variable in self.model.variables]
        last = self.epoch == self.epochs or self.model.stop_training
        since = time.monotonic() - self.last_save
        if len(self.rows) == 1 or last or self.save_seconds <= _CHECKPOINT_SHARE * since:
            self._save()
        self._say(row)

    def _save(self) -> None:
        began = time.monotonic()
        self.table()
        extra = {
            "rows": self.rows,
            "callbacks": [_numbers(callback) for callback in self.others],
            "best": self.best if math.isfinite(self.best) else None,
            "stopped": bool(self.model.stop_training),
        }
        best = {f"best_{index}": value for index, value in enumerate(self.best_weights)}
        Checkpoint(self.folder, [*self.model.variables, *self.model.optimizer.variables]).save(self.epoch, extra, best)
        self.last_save = time.monotonic()
        self.save_seconds = self.last_save - began

    def complete(self) -> None:
        """Give the model the selected weights and keep only those."""
        for variable, value in zip(self.model.variables, self.best_weights, strict=False):
            variable.assign(value)
        Checkpoint(self.folder / "complete", self.model.variables).save(self.epoch, {"rows": self.rows})
        (self.folder / "state.npz").unlink(missing_ok=True)

    def table(self) -> pd.DataFrame:
        """This stage's history; also merges it into the run's history.csv."""
        table = pd.DataFrame(self.rows)
        path = self.run.path / "history.csv"
        if path.is_file():
            whole = pd.read_csv(path)
            whole = pd.concat([whole[whole["stage"] != self.stage], table], ignore_index=True)
        else:
            whole = table
        self.run.write_csv("history.csv", whole)
        return table

    def _say(self, row: dict[str, Any]) -> None:
        shown = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if key not in ("stage", "epoch", "seconds", "learning_rate"))
        recent = [item["seconds"] for item in self.rows[-5:]]
        left = (self.epochs - self.epoch) * sum(recent) / len(recent)
        log.info("%s %d/%d  %s  %.1f s  %s left", self.stage, self.epoch, self.epochs, shown, row["seconds"], duration(left))


def _numbers(callback: keras.callbacks.Callback) -> dict[str, float]:
    """The counters of a callback (best, wait, cooldown, …)."""
    found = {}
    for key, value in vars(callback).items():
        if isinstance(value, bool | int | float | np.number) and math.isfinite(float(value)):
            found[key] = value.item() if isinstance(value, np.number) else value
    return found
