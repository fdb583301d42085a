"""`keras.Model.fit` that can be killed: the finished run equals an unbroken one, dropout and augmentation included.

A kill costs the epochs since the last checkpoint; SIGTERM, which announces itself, costs nothing: the state is saved at the batch's end.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import pandas as pd
from keras import ops

from common import device, stopping
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

        def train_on(data: Any, last: int) -> None:
            with stopping.at_batch_ends(), device.sharing_batches():
                model.fit(
                    data, epochs=last, initial_epoch=keeper.epoch, validation_data=validation, callbacks=[*callbacks, keeper],
                    shuffle=False, verbose=0,
                )  # fmt: skip

        if keeper.step:  # the rest of an epoch that was broken off
            train_on(_Rest(train, keeper.step), keeper.epoch + 1)
        if keeper.epoch < epochs and not keeper.stopped:
            train_on(train, epochs)
        keeper.complete()
    return keeper.table()


class _Rest(keras.utils.PyDataset):
    """The batches of an epoch from number `first` on."""

    def __init__(self, whole: keras.utils.PyDataset, first: int) -> None:
        super().__init__()
        self.whole, self.first = whole, first

    def __len__(self) -> int:
        return len(self.whole) - self.first

    def __getitem__(self, index: int) -> Any:
        return self.whole[self.first + index]


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
        self.step, self.stopped = 0, False  # batches of the present epoch that an earlier process did; no further epoch is wanted
        self.sums: list[np.ndarray] = []  # the metrics' sums over them
        self.save_seconds = self.last_save = self.began = 0.0
        self.first = 0  # batch of the present epoch that this process began with

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
            arrays = facts["arrays"]
            self.best_weights = [arrays[f"best_{index}"] for index in range(sum(name.startswith("best_") for name in arrays))]
            self.sums = [arrays[f"sum_{index}"] for index in range(sum(name.startswith("sum_") for name in arrays))]
            self.step = extra.get("step", 0)
            within = f" and batch {self.step}" if self.step else ""
            log.info("%s: taken up after epoch %d%s of %d", self.stage, self.epoch, within, self.epochs)
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
        self.first, self.step = self.step, 0
        if hasattr(self.train, "epoch"):  # Keras's look at a first batch counts as an epoch where there is only one batch
            self.train.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self.sums:
            # The metrics' variables exist since this batch only. They are sums from zero, so adding the earlier ones now is exact.
            self._sync()
            for variable, value in zip(self.model.metrics_variables, self.sums, strict=True):
                variable.assign(ops.convert_to_numpy(variable) + value)
            self.sums = []
        if stopping.requested() == signal.SIGTERM and isinstance(self.train, keras.utils.PyDataset):
            done = self.first + batch + 1
            if done == len(self.train):
                return  # the epoch's end is one validation away, and stops there
            self._sync()
            sums = {f"sum_{index}": ops.convert_to_numpy(variable) for index, variable in enumerate(self.model.metrics_variables)}
            self._save(done, sums)
            log.info("%s: terminated; saved after epoch %d and batch %d of %d", self.stage, self.epoch, done, len(self.train))
        stopping.check()

    def on_test_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if stopping.requested() == signal.SIGINT:
            stopping.check()

    def _sync(self) -> None:
        """On JAX the variables are behind the training until they are asked for."""
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()

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
        self.stopped, asked = bool(self.model.stop_training), stopping.requested()
        if len(self.rows) == 1 or last or asked == signal.SIGTERM or self.save_seconds <= _CHECKPOINT_SHARE * since:
            self._save()
        # Another `fit` after the rest of an epoch begins with these.
        self.states = [_numbers(callback) for callback in self.others]
        self._say(row)
        if asked == signal.SIGTERM:
            log.info("%s: terminated; saved after epoch %d", self.stage, self.epoch)
        stopping.check()

    def _save(self, step: int = 0, sums: dict[str, np.ndarray] | None = None) -> None:
        """Write a checkpoint after `step` batches of the present epoch, with the metrics' `sums` over them."""
        began = time.monotonic()
        self.table()
        extra = {
            "rows": self.rows,
            "callbacks": [_numbers(callback) for callback in self.others],
            "best": self.best if math.isfinite(self.best) else None,
            "stopped": bool(self.model.stop_training),
            "step": step,
        }
        best = {f"best_{index}": value for index, value in enumerate(self.best_weights)}
        Checkpoint(self.folder, [*self.model.variables, *self.model.optimizer.variables]).save(self.epoch, extra, best | (sums or {}))
        self.last_save = time.monotonic()
        self.save_seconds = self.last_save - began

    def complete(self) -> None:
        """Give the model the selected weights and keep only those."""
        for variable, value in zip(self.model.variables, self.best_weights, strict=False):
            variable.assign(value)
        Checkpoint(self.folder / "complete", self.model.variables).save(self.epoch, {"rows": self.rows})
        Checkpoint(self.folder, []).drop()

    def table(self) -> pd.DataFrame:
        """This stage's history; also merges it into the run's history.csv."""
        return merge_history(self.run, self.stage, self.rows)

    def _say(self, row: dict[str, Any]) -> None:
        shown = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if key not in ("stage", "epoch", "seconds", "learning_rate"))
        recent = [item["seconds"] for item in self.rows[-5:]]
        left = (self.epochs - self.epoch) * sum(recent) / len(recent)
        log.info("%s %d/%d  %s  %.1f s  %s left", self.stage, self.epoch, self.epochs, shown, row["seconds"], duration(left))


def merge_history(run: Run, stage: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Replace a stage's rows in the run's history.csv; returns them as a table."""
    table = whole = pd.DataFrame(rows)
    path = run.path / "history.csv"
    if path.is_file():
        try:
            before = pd.read_csv(path)
            whole = pd.concat([before[before["stage"] != stage], table], ignore_index=True)
        except (ValueError, KeyError, OSError):
            log.warning("%s is damaged; it is made again from the checkpoints", path)
    run.write_csv("history.csv", whole)
    if run.logbook is not None:
        run.logbook.epochs(stage, rows)
    return table


def _numbers(callback: keras.callbacks.Callback) -> dict[str, float]:
    """The counters of a callback (best, wait, cooldown, …)."""
    found = {}
    for key, value in vars(callback).items():
        if isinstance(value, bool | int | float | np.number) and math.isfinite(float(value)):
            found[key] = value.item() if isinstance(value, np.number) else value
    return found
