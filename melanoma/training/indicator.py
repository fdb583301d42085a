"""One indicator's encoder: classifier, heatmaps of a frozen snapshot, segmentation (§4.3, A.3, Algorithm 1, lines 8 to 17).

The same three networks serve one indicator after the other: their variables go back to the start instead of being built and compiled anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
from keras import ops

from common import device
from common.data.pipeline import Batches
from common.errors import UsageError
from common.explanation.gradcam import compiled, in_batches
from common.runs.fitting import fit
from common.runs.folder import Run
from melanoma import models
from melanoma.losses import PairedViewsLoss, SoftDiceLoss, WeightedBinaryCrossentropy, soft_dice
from melanoma.training.batches import Beside, full_batches, scalar
from melanoma.training.heatmaps import outputs_of, target_weights, twelve, twelve_maker
from melanoma.training.inputs import Inputs
from melanoma.training.optimiser import adam
from melanoma.training.pretraining import settled, simclr_batches


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
        self.encoder = models.build_encoder(s.backbone, s.image_size, s.weights, encoder_weights)
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
        return in_batches(lambda *batch: self._draw([each.astype("float32") for each in batch]), self.settings.segmentation_batch, *maps)[0]

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
    networks.reset(task)
    batches = full_batches(inputs.images, task.labels, rows=inputs.rows("train"), batch_size=s.classifier_batch, seed=s.seed)
    validation = Batches(inputs.images, task.labels, rows=inputs.rows("validation", diagnosed=True), batch_size=s.classifier_batch)
    if s.order == "phases":
        fit(
            networks.classifier, batches, run=run, stage=f"classifier-{task.name}", epochs=s.classifier_epochs, validation=validation,
            select="best", patience=s.patience, extra_callbacks=[settled(networks.encoder, networks.normalise, batches)],
        )  # fmt: skip
        # The stage leaves its moments behind in one process and none in a process that takes over after it.
        networks.forget_moments()
        if s.plain():
            return
    alternation = Alternation(networks, task, validation)
    stage = f"{'segmentation' if s.segmentation else 'alternation'}-{task.name}"
    rounds = alternation.rounds(batches, dataset_b)
    fit(alternation, rounds, run=run, stage=stage, epochs=s.segmentation_epochs, select="best", patience=s.patience)  # type: ignore[arg-type]


class Alternation:
    """One classifier step, `repeats` segmentation steps and, interleaved, one SimCLR step before them, over and over: what
    `common.runs.fit` needs of a model, over several that share an encoder.

    An epoch is one pass of the classifier's batches. The epoch with the lowest validation loss is kept: soft Dice over validation images
    that have the indicator (`watch` "dice": the classifier comes here at its best epoch, so that the rise of its cross-entropy would select
    the first one, DEVIATIONS), or its sum with the cross-entropy. Without subnetwork 3 the cross-entropy is the only loss there is: the
    same extra epochs without Dice.
    Phase by phase the snapshot behind the heatmaps stays the finished classifier; interleaved it is the best epoch so far (Algorithm 1,
    line 14), so its maps are made again when there is a better one; an epoch is kept together with the snapshot it was validated with.
    """

    def __init__(self, networks: Networks, task: Task, validation: Batches) -> None:
        self.networks, self.task, self.validation = networks, task, validation
        self.settings, self.inputs = networks.settings, networks.inputs
        self.stop_training = False
        names = [*(["simclr"] if networks.simclr is not None else []), "bce", *(["dice_loss"] if networks.segmenter is not None else [])]
        self.means = {name: keras.metrics.Mean(name=name) for name in names}
        self.metrics_variables = [variable for mean in self.means.values() for variable in mean.variables]
        # Kept in checkpoints as numbers of the training: the best validation loss, and whether the snapshot is to be taken anew.
        self.best, self.stale = (keras.Variable(value, trainable=False, dtype="float32") for value in (np.inf, 1.0))
        self.variables = networks.best()
        moments = [v for model in networks.trained for v in model.optimizer.variables]
        rate = networks.classifier.optimizer.learning_rate
        self.optimizer = SimpleNamespace(variables=[*unique(moments), self.best, self.stale], learning_rate=rate, build=lambda _: None)
        self.trainable_variables: list[keras.Variable] = []  # each network's optimizer is built already
        if networks.segmenter is not None:
            train = drawing_rows(self.inputs, task.indicators)
            # An empty mask has a loss near 1 and no gradient whatever is drawn: it says nothing about the epoch.
            self.drawn = {"train": train, "validation": rows_with(self.inputs, task.indicators, "validation")}
            self.heatmaps: dict[str, list[np.ndarray]] = {}
            self.weights, self.follow = target_weights(task.outputs, task.indicators, self.settings.target)

    def rounds(self, batches: Batches, dataset_b: np.ndarray | None) -> Beside:
        """The classifier's batches, and beside each the next ones of Dataset B and the places, in `drawn`, of images to draw."""
        networks, s, others = self.networks, self.settings, {}  # type: Networks, Any, dict[str, tuple[Batches, int]]
        if networks.simclr is not None:
            assert dataset_b is not None
            others["simclr"] = (simclr_batches(dataset_b, min(s.pretrain_batch, len(dataset_b)), s.seed), 1)
        if networks.segmenter is not None:
            places = np.arange(len(self.drawn["train"]))
            drawings = full_batches(places, rows=places, batch_size=s.segmentation_batch, seed=s.seed)
            others["drawings"] = (drawings, s.repeats)
            if drawings.batch_size != networks.step_size:
                # Keras would go over to one program for any size, which rounds otherwise; a run resumed here would not have it.
                networks.segmenter.train_function = None
            networks.step_size = drawings.batch_size
        return Beside(batches, **others)

    def fit(self, data: Any, *, epochs: int, initial_epoch: int, callbacks: Sequence[Any], **_: Any) -> None:
        """Algorithm 1, lines 8 to 17, from epoch `initial_epoch` on; `callbacks` keep, choose and stop."""
        told = keras.callbacks.CallbackList(list(callbacks), model=self)
        told.on_train_begin()
        for epoch in range(initial_epoch, epochs):
            told.on_epoch_begin(epoch)
            for mean in self.means.values():
                mean.reset_state()
            self._snapshot()
            for index in range(len(data)):
                self._round(*data[index])
                told.on_train_batch_end(index)
            told.on_epoch_end(epoch, self._losses() | self._validate())
            if self.stop_training:
                break
        told.on_train_end()

    def _snapshot(self) -> None:
        """E3 <- the classifier, where that is due, and the heatmaps of a new snapshot."""
        if self.networks.segmenter is None:
            return
        if ops.convert_to_numpy(self.stale):
            self.networks.take_snapshot()
            self.stale.assign(0.0)
            self.heatmaps = {}
        if not self.heatmaps:
            self.heatmaps = {
                part: twelve(self.networks.maker, self.inputs, rows, self.weights, self.follow) for part, rows in self.drawn.items()
            }

    def _round(self, batch: Any, others: dict[str, list[Any]]) -> None:
        """A SimCLR step where there is one, a classifier step, and the segmentation steps."""
        networks: Any = self.networks
        for images, targets in others.get("simclr", ()):
            self.means["simclr"].update_state(scalar(networks.simclr.train_on_batch(images, targets)))
        self.means["bce"].update_state(scalar(networks.classifier.train_on_batch(*batch)))
        for places in others.get("drawings", ()):
            maps = [stage[places].astype("float32") for stage in self.heatmaps["train"]]
            loss = networks.segmenter.train_on_batch(maps, self.masks(self.drawn["train"][places]))
            self.means["dice_loss"].update_state(scalar(loss))

    def masks(self, rows: np.ndarray) -> np.ndarray:
        """`(len(rows), size, size, indicators)` float32 in {0, 1}."""
        return np.stack([self.inputs.masks(name)[rows] for name in self.task.indicators], axis=-1).astype("float32")

    def _losses(self) -> dict[str, float]:
        """Mean losses of an epoch; `loss` is of the kind of `val_loss`."""
        means = {name: float(mean.result()) for name, mean in self.means.items()}
        return {"loss": self._watched(means["bce"], means.get("dice_loss")), **means}

    def _watched(self, bce: float, dice: float | None) -> float:
        """The loss that selects the epoch."""
        if dice is None:
            return bce
        return dice if self.settings.watch == "dice" else bce + dice

    def _validate(self) -> dict[str, float]:
        bce, dice = scalar(self.networks.classifier.evaluate(self.validation, verbose=0)), self._validation_dice()
        loss = self._watched(bce, dice)
        if loss < ops.convert_to_numpy(self.best):
            self.best.assign(loss)
            self.stale.assign(float(self.settings.order == "interleaved"))
        return {"val_bce": bce, **({} if dice is None else {"val_dice_loss": dice}), "val_loss": loss}

    def _validation_dice(self) -> float | None:
        if self.networks.segmenter is None:
            return None
        rows, losses, filled = self.drawn["validation"], [], []
        for start in range(0, len(rows), 64):
            drawn = self.networks.draw([stage[start : start + 64] for stage in self.heatmaps["validation"]])
            masks = self.masks(rows[start : start + 64])
            losses.append(ops.convert_to_numpy(soft_dice(masks, drawn)))
            filled.append(masks.any(axis=(1, 2)))
        each, counted = np.concatenate(losses), np.concatenate(filled)
        return float(each[counted].mean() if counted.any() else each.mean())


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
