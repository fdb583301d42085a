"""One indicator's encoder: classifier, heatmaps of a frozen snapshot, segmentation (§4.3, A.3, Algorithm 1, lines 8 to 17).

The same three networks serve one indicator after the other: their variables go back to the start instead of being built and compiled anew.
"""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from common import device
from common.backbones import batchnorm_is_folded, keep_batchnorm_frozen, load_weights
from common.data.pipeline import Batches
from common.errors import UsageError
from common.explanation.gradcam import compiled
from common.runs.checkpoints import Checkpoint
from common.runs.fitting import fit, merge_history
from common.runs.folder import Run
from melanoma import models
from melanoma.losses import PairedViewsLoss, SoftDiceLoss, WeightedBinaryCrossentropy, dice_losses
from melanoma.training.batches import at, full_batches, scalar
from melanoma.training.heatmaps import outputs_of, target_weights, twelve, twelve_maker
from melanoma.training.inputs import Inputs
from melanoma.training.optimiser import adam
from melanoma.training.pretraining import settle_batchnorm, simclr_batches

log = logging.getLogger(__name__)

CHECKPOINT_SHARE = 0.05  # of the time; a ResNet50's whole state is 0.7 GB, and a resumed run repeats the epochs since the last one exactly


@dataclass(frozen=True)
class Task:
    """One encoder's work: the indicators it draws, the outputs it predicts, their labels `(n, outputs)` float32."""

    name: str
    indicators: tuple[str, ...]
    outputs: tuple[str, ...]
    labels: np.ndarray


def make_task(inputs: Inputs, group: tuple[str, ...]) -> Task:
    """The task of a group of indicators; the empty group is the plain classifier f_Res.

    Raises:
        UsageError: nothing to draw in the training images, or a `target` that is no output; before anything is trained.
    """
    outputs = outputs_of(group, inputs.settings, inputs.varying(group))
    if group:
        drawing_rows(inputs, group)
        target_weights(outputs, group, inputs.settings.target)
    name = "classifier" if not group else group[0] if len(group) == 1 else "all"
    return Task(name, group, outputs, inputs.labels(outputs))


class Networks:
    """E1 with its classifier, its U-Net and (interleaved only) its SimCLR head, and the snapshot E3, for tasks of one shape."""

    def __init__(self, inputs: Inputs, task: Task, encoder_weights: Path | None) -> None:
        s = inputs.settings
        self.inputs, self.settings = inputs, s
        self.normalise = models.normalisation(s.normalise, s.backbone)
        start = None if encoder_weights is not None else s.weights
        self.encoder = models.build_encoder(s.backbone, s.image_size, start)
        if encoder_weights is not None:
            load_weights(self.encoder, encoder_weights, s.backbone)
            if batchnorm_is_folded(self.encoder):
                keep_batchnorm_frozen(self.encoder)
        self.classifier = models.build_classifier(self.encoder, self.normalise, len(task.outputs))
        self.classifier.compile(adam(s), cross_entropy(inputs, task.labels), jit_compile=device.jit_compile())
        trained = [self.classifier]
        self.segmenter = self.snapshot = self.simclr = None
        if s.segmentation:
            self.segmenter = models.build_segmenter(self.encoder, s.backbone, len(task.indicators))
            self.segmenter.compile(adam(s), SoftDiceLoss(), jit_compile=device.jit_compile())
            self.snapshot = models.build_classifier(models.build_encoder(s.backbone, s.image_size), self.normalise, len(task.outputs))
            trained.append(self.segmenter)
            self._draw = compiled(lambda maps: self.segmenter(maps, training=False), self.segmenter)
        self.step_size: int | None = None  # images of a segmentation step
        if s.order == "interleaved" and s.simclr:
            self.simclr = models.build_simclr(self.encoder, self.normalise, s.projection, s.seed)
            self.simclr.compile(adam(s), PairedViewsLoss(s.temperature), jit_compile=device.jit_compile())
            trained.append(self.simclr)
        self.trained = trained
        # One compiled program makes all maps: of the snapshot, or of the classifier's weights while they are lent to it.
        self.maker = twelve_maker(self.classifier if self.snapshot is None else self.snapshot, s.backbone)
        for model in trained:
            model.optimizer.build(model.trainable_variables)
        self._start = [ops.convert_to_numpy(v) for v in self.state()]

    def weights(self) -> list[keras.Variable]:
        """The variables of all networks that are trained, each once (they share the encoder)."""
        return unique(v for model in self.trained for v in model.variables)

    def best(self) -> list[keras.Variable]:
        """What an epoch is kept by: the weights, and the snapshot whose heatmaps its U-Net has drawn from."""
        return unique([*self.weights(), *(self.snapshot.variables if self.snapshot is not None else [])])

    def state(self) -> list[keras.Variable]:
        """Everything that training changes: weights, optimizers, seed generators, and the snapshot."""
        snapshot = self.snapshot.variables if self.snapshot is not None else []
        return unique([*self.weights(), *(v for model in self.trained for v in model.optimizer.variables), *snapshot])

    def forget_moments(self) -> None:
        """Every optimizer as it was before its first step, whoever took the last one: this process, or one that was killed."""
        where = {id(v): value for v, value in zip(self.state(), self._start, strict=True)}
        for model in self.trained:
            assign(model.optimizer.variables, [where[id(v)] for v in model.optimizer.variables])

    def reset(self, task: Task) -> None:
        """Back to where the first task began."""
        assign(self.state(), self._start)
        if self.settings.class_weights:
            self.classifier.compile(adam(self.settings), cross_entropy(self.inputs, task.labels), jit_compile=device.jit_compile())
            self.classifier.optimizer.build(self.classifier.trainable_variables)

    def draw(self, maps: Sequence[np.ndarray]) -> np.ndarray:
        """What the U-Net draws from each stage's heatmaps: `(n, size, size, indicators)` float32, in batches of one size."""
        size, parts = self.settings.segmentation_batch, []
        for start in range(0, len(maps[0]), size):
            batch = [stage[start : start + size].astype("float32") for stage in maps]
            count = len(batch[0])
            filled = [np.pad(stage, ((0, size - count), (0, 0), (0, 0), (0, 0))) for stage in batch]
            parts.append(ops.convert_to_numpy(self._draw(filled))[:count])
        return np.concatenate(parts)

    def take_snapshot(self) -> None:
        """E3: the classifier as it is now."""
        assert self.snapshot is not None
        assign(self.snapshot.variables, [ops.convert_to_numpy(v) for v in self.classifier.variables])

    def classifier_maps(self, images: np.ndarray, weights: np.ndarray, follow: bool) -> list[np.ndarray]:
        """The twelve maps `(n, h, w)` of the classifier as it is; the snapshot stays what it was."""
        if self.snapshot is None:
            return self.maker(images, weights, follow)
        kept = [ops.convert_to_numpy(v) for v in self.snapshot.variables]
        self.take_snapshot()
        try:
            return self.maker(images, weights, follow)
        finally:
            assign(self.snapshot.variables, kept)


def cross_entropy(inputs: Inputs, labels: np.ndarray) -> keras.losses.Loss:
    """L_BCE on logits; labels `(n, outputs)` of Dataset A. `class_weights` weighs positives by negatives / positives in training."""
    if not inputs.settings.class_weights:
        return keras.losses.BinaryCrossentropy(from_logits=True)
    share = np.clip(labels[inputs.rows("train")].mean(axis=0), 1e-3, 1 - 1e-3)
    return WeightedBinaryCrossentropy(tuple((1 - share) / share))


def unique(variables: Any) -> list[keras.Variable]:
    """Each variable once, in the order of first appearance."""
    return list({id(v): v for v in variables}.values())


def assign(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def train_task(run: Run, networks: Networks, task: Task, dataset_b: np.ndarray | None) -> None:
    """Train one encoder; afterwards `networks` holds its best state, also when it was trained by an earlier process."""
    inputs, s = networks.inputs, networks.settings
    done = Checkpoint(run.path / "checkpoints" / f"done-{task.name}", networks.state())
    if done.restore() is not None:
        log.info("%s: complete already", task.name)
        return
    networks.reset(task)
    batches = full_batches(inputs.images, task.labels, rows=inputs.rows("train"), batch_size=s.classifier_batch, seed=s.seed)
    validation = Batches(inputs.images, task.labels, rows=inputs.rows("validation", diagnosed=True), batch_size=s.classifier_batch)
    if s.order == "phases":
        history = fit(
            networks.classifier, batches, run=run, stage=f"classifier-{task.name}", epochs=s.classifier_epochs, validation=validation,
            select="best", patience=s.patience,
        )  # fmt: skip
        settle_batchnorm(networks.encoder, networks.normalise, batches, len(history) * len(batches))
        if s.segmentation:
            networks.take_snapshot()
    if s.segmentation or s.order == "interleaved" or not s.plain():
        Alternation(run, networks, task, batches, validation, dataset_b).train()
    done.save(0)


class Alternation:
    """One classifier step, `repeats` segmentation steps and, interleaved, one SimCLR step before them, over and over.

    An epoch is one pass of the classifier's batches. The epoch with the lowest validation loss is kept: soft Dice over validation images
    that have the indicator (`watch` "dice": the classifier comes here at its best epoch, so that the rise of its cross-entropy would select
    the first one, DEVIATIONS), or its sum with the cross-entropy. Without subnetwork 3 the cross-entropy is the only loss there is: the
    same extra epochs without Dice.
    Phase by phase the snapshot behind the heatmaps stays the finished classifier; interleaved it is the best epoch so far (Algorithm 1,
    line 14), so its maps are made again when there is a better one; an epoch is kept together with the snapshot it was validated with.
    """

    def __init__(
        self, run: Run, networks: Networks, task: Task, batches: Batches, validation: Batches, dataset_b: np.ndarray | None
    ) -> None:
        self.run, self.networks, self.task, self.batches, self.validation = run, networks, task, batches, validation
        self.settings, self.inputs = networks.settings, networks.inputs
        self.stage = f"{'segmentation' if self.settings.segmentation else 'alternation'}-{task.name}"
        self.pairs = None
        if networks.simclr is not None:
            assert dataset_b is not None
            self.pairs = simclr_batches(dataset_b, min(self.settings.pretrain_batch, len(dataset_b)), self.settings.seed)
        if self.settings.segmentation:
            train = drawing_rows(self.inputs, task.indicators)
            # An empty mask has a loss near 1 and no gradient whatever is drawn: it says nothing about the epoch.
            self.drawn = {"train": train, "validation": rows_with(self.inputs, task.indicators, "validation")}
            positions = np.arange(len(train))
            self.drawings = full_batches(positions, rows=positions, batch_size=self.settings.segmentation_batch, seed=self.settings.seed)
            if self.drawings.batch_size != networks.step_size and networks.segmenter is not None:
                # Keras would go over to one program for any size, which rounds otherwise; a run resumed here would not have it.
                networks.segmenter.train_function = None
            networks.step_size = self.drawings.batch_size
            self.weights, self.follow = target_weights(task.outputs, task.indicators, self.settings.target)

    def train(self) -> None:
        networks, s = self.networks, self.settings
        checkpoint = Checkpoint(self.run.path / "checkpoints" / self.stage, networks.state())
        facts = checkpoint.restore()
        first, rows, best, wait, improved = 0, [], math.inf, 0, True
        if facts is None:
            # The classifier's stage leaves its moments behind in one process and none in a process that takes over after it.
            networks.forget_moments()
        best_values = [ops.convert_to_numpy(v) for v in networks.best()]
        if facts is not None:
            first, extra = facts["epoch"], facts["extra"]
            rows, best, wait, improved = extra["rows"], extra["best"], extra["wait"], extra["improved"]
            best_values = [facts["arrays"][f"best_{index}"] for index in range(len(best_values))]
            log.info("%s: taken up after epoch %d of %d", self.stage, first, s.segmentation_epochs)
        made, saved, cost = False, time.monotonic(), 0.0
        for epoch in range(first, s.segmentation_epochs):
            if wait >= s.patience:
                break
            began = time.monotonic()
            if s.segmentation:
                if s.order == "interleaved" and improved:
                    self._snapshot(best_values)
                if not made or (s.order == "interleaved" and improved):
                    self._make_heatmaps()
                    made = True
            row = self._epoch(epoch) | self._validate()
            if not all(math.isfinite(value) for value in row.values()):
                raise UsageError(f"{self.stage}: a loss is not finite in epoch {epoch + 1}; try a smaller --learning-rate")
            improved = row["val_loss"] < best
            wait = 0 if improved else wait + 1
            if improved:
                best, best_values = row["val_loss"], [ops.convert_to_numpy(v) for v in networks.best()]
            seconds = time.monotonic() - began
            rows.append({"stage": self.stage, "epoch": epoch + 1, "seconds": round(seconds, 3), **row})
            merge_history(self.run, self.stage, rows)
            if epoch == first or cost <= CHECKPOINT_SHARE * (time.monotonic() - saved):
                start = time.monotonic()
                arrays = {f"best_{index}": value for index, value in enumerate(best_values)}
                checkpoint.save(epoch + 1, {"rows": rows, "best": best, "wait": wait, "improved": improved}, arrays)
                saved, cost = time.monotonic(), time.monotonic() - start
            shown = "  ".join(f"{key} {value:.4g}" for key, value in row.items())
            log.info("%s %d/%d  %s  %.1f s", self.stage, epoch + 1, s.segmentation_epochs, shown, seconds)
        assign(networks.best(), best_values)
        checkpoint.drop()

    def _snapshot(self, best_values: list[np.ndarray]) -> None:
        """E3 <- the best epoch's classifier (before the first epoch: the starting weights)."""
        networks = self.networks
        weights = networks.weights()
        present = [ops.convert_to_numpy(v) for v in weights]
        assign(weights, best_values[: len(weights)])
        networks.take_snapshot()
        assign(weights, present)

    def _make_heatmaps(self) -> None:
        self.heatmaps = {
            part: twelve(self.networks.maker, self.inputs, rows, self.weights, self.follow) for part, rows in self.drawn.items()
        }

    def masks(self, rows: np.ndarray) -> np.ndarray:
        """`(len(rows), size, size, indicators)` float32 in {0, 1}."""
        return np.stack([self.inputs.masks(name)[rows] for name in self.task.indicators], axis=-1).astype("float32")

    def _epoch(self, epoch: int) -> dict[str, float]:
        """One pass of the classifier's batches with their segmentation and SimCLR steps; mean losses, `loss` of the kind of `val_loss`."""
        networks, sums = self.networks, {"bce": 0.0}
        self.batches.epoch = epoch
        for index in range(len(self.batches)):
            step = epoch * len(self.batches) + index
            if networks.simclr is not None and self.pairs is not None:
                images, targets = at(self.pairs, step)
                sums["simclr"] = sums.get("simclr", 0.0) + scalar(networks.simclr.train_on_batch(images, targets))
            sums["bce"] += scalar(networks.classifier.train_on_batch(*self.batches[index]))
            if networks.segmenter is not None:
                for repeat in range(self.settings.repeats):
                    positions = at(self.drawings, step * self.settings.repeats + repeat)
                    maps = [stage[positions].astype("float32") for stage in self.heatmaps["train"]]
                    loss = networks.segmenter.train_on_batch(maps, self.masks(self.drawn["train"][positions]))
                    sums["dice_loss"] = sums.get("dice_loss", 0.0) + scalar(loss) / self.settings.repeats
        means = {name: value / len(self.batches) for name, value in sums.items()}
        return {"loss": self._watched(means["bce"], means.get("dice_loss")), **means}

    def _watched(self, bce: float, dice: float | None) -> float:
        """The loss that selects the epoch."""
        if dice is None:
            return bce
        return dice if self.settings.watch == "dice" else bce + dice

    def _validate(self) -> dict[str, float]:
        found = {"val_bce": scalar(self.networks.classifier.evaluate(self.validation, verbose=0))}
        if self.networks.segmenter is None:
            return {**found, "val_loss": self._watched(found["val_bce"], None)}
        rows, losses, filled = self.drawn["validation"], [], []
        for start in range(0, len(rows), 64):
            drawn = self.networks.draw([stage[start : start + 64] for stage in self.heatmaps["validation"]])
            masks = self.masks(rows[start : start + 64])
            losses.append(dice_losses(masks, drawn))
            filled.append(masks.any(axis=(1, 2)))
        each, counted = np.concatenate(losses), np.concatenate(filled)
        dice = float(each[counted].mean() if counted.any() else each.mean())
        return {**found, "val_dice_loss": dice, "val_loss": self._watched(found["val_bce"], dice)}


def rows_with(inputs: Inputs, indicators: Sequence[str], part: str) -> np.ndarray:
    """Rows of a part whose image has one of the indicators; all of them where none has."""
    rows = inputs.rows(part)
    having = rows[inputs.present[list(indicators)].to_numpy()[rows].any(axis=1)]
    return having if len(having) else rows


def drawing_rows(inputs: Inputs, indicators: Sequence[str]) -> np.ndarray:
    """The training images of subnetwork 3, by `segment_on`. UsageError where it wants images with the indicator and there are none."""
    rows = inputs.rows("train")
    if inputs.settings.segment_on == "all":
        return rows
    rows = rows[inputs.present[list(indicators)].to_numpy()[rows].any(axis=1)]
    if not len(rows):
        raise UsageError(f"{', '.join(indicators)}: no training image has it; leave it out with --indicators")
    return rows
