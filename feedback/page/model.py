"""The model under correction: looks at an image, learns one correction, goes back."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
from keras import ops

from common.backbones import all_layers
from common.errors import UsageError
from common.explanation.gradcam import compiled, in_batches
from common.runs.checkpoints import DAMAGE
from common.runs.files import atomic
from feedback.assessment import Explainer
from feedback.experiments.simulate import SimulateSettings
from feedback.training.online import online_step, self_explaining

_BATCH = 16
REPLAYED = 15  # images of the replay set beside the correction in each step
CAREFUL = 0.2  # of the learning rate where there is nothing to replay
# What each case of figure 4.1 corrects: a class through the cross-entropy, a region through the explanation, both through both.
TEACHES = {"both_right": (), "region_wrong": ("region",), "class_wrong": ("class",), "both_wrong": ("class", "region")}


@dataclass(frozen=True)
class Learning:
    """How a correction is learned.

    Attributes:
        steps: optimiser steps on one correction; learning_rate: plain gradient descent, gradient clipped at norm 1.
        region_weight: norm of the explanation's gradient (the classification's, with anchor and replay, is clipped at 1).
        anchor_weight: of KL(model before this correction || model) on the replayed images, and on the corrected one where its class was
            right.
        class_share: weight of a corrected class beside the mean over the replayed images.
    """

    steps: int = 10
    learning_rate: float = 0.005
    region_weight: float = 0.5
    anchor_weight: float = 1.0
    class_share: float = 0.5


@dataclass(frozen=True)
class ReplaySet:
    """Training images of the run, which every step sees again: images `(n, size, size, 3)` uint8, class numbers `(n,)`."""

    images: np.ndarray
    labels: np.ndarray

    def draw(self, seed: int, step: int) -> np.ndarray:
        """`REPLAYED` row numbers, the classes in turn, from (seed, step)."""
        generator = np.random.default_rng([seed % 2**32, step])
        members = [generator.permutation(np.flatnonzero(self.labels == label)) for label in generator.permutation(np.unique(self.labels))]
        return np.array([members[k % len(members)][(k // len(members)) % len(members[k % len(members)])] for k in range(REPLAYED)])

    def save(self, path: Path) -> None:
        with atomic(path) as temporary:
            np.savez_compressed(temporary, images=self.images, labels=self.labels)

    @classmethod
    def load(cls, path: Path) -> "ReplaySet | None":
        """None when there is none. UsageError when the file is damaged."""
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(stored["images"], stored["labels"])
        except DAMAGE:
            raise UsageError(f"{path}: is damaged; restore it, or choose another --log") from None


@dataclass(frozen=True)
class Look:
    """What the model makes of one image: `probabilities` `(classes,)` float32 and `map` `(size, size)` float32 in 0..1, Grad-CAM of the
    predicted class at the network's input size."""

    probabilities: np.ndarray
    map: np.ndarray

    @property
    def predicted(self) -> int:
        return int(self.probabilities.argmax())


class TunedModel:
    """A classifier with its Grad-CAM and its online step (thesis, Algorithm 2). Not safe for threads: the session locks.

    Args:
        classifier: from a run folder; raw RGB 0..255 to probabilities.
        settings: of the map (layer, threshold, channel weights).
        learning: of a correction.
        replay: images that every step sees again; None: each correction is learned alone, at a fifth of the rate.
    """

    def __init__(
        self,
        classifier: keras.Model,
        settings: SimulateSettings,
        learning: Learning = Learning(),
        replay: ReplaySet | None = None,  # noqa: B008
    ) -> None:
        self.settings, self.learning, self.replay = settings, learning, replay
        rate = learning.learning_rate * (1.0 if replay is not None else CAREFUL)
        chosen = replace(
            settings, objective="combined", gradient_scaling="normalised", explanation_weight=learning.region_weight,
            anchor_weight=learning.anchor_weight, channel_weights="differentiated", feedback="all", schedule="constant",
            batch_size=1, learning_rate=rate, clip_norm=0.0,
        )  # fmt: skip
        self.model = self_explaining(classifier, chosen)
        self.model.nominal_batch = None
        self._look = Explainer(self.model, batch_size=1)
        self._maps = Explainer(self.model, batch_size=_BATCH)
        self._predict = compiled(lambda images: classifier(images, training=False), classifier)
        self._seeds = [layer.seed_generator for layer in all_layers(classifier) if getattr(layer, "seed_generator", None) is not None]

    @property
    def classifier(self) -> keras.Model:
        return self.model.classifier

    @property
    def size(self) -> int:
        """Side of the network's input, pixels."""
        return int(self.classifier.input_shape[1])

    def look(self, image: np.ndarray) -> Look:
        """Class and region of one image `(size, size, 3)` uint8."""
        probabilities, shown, _ = self._look(image[None], size=self.size)
        return Look(probabilities[0], shown[0])

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """`(n, classes)` of images `(n, size, size, 3)`, in full batches: another shape would be another compilation."""
        return in_batches(lambda batch: self._predict(np.asarray(batch, "float32")), _BATCH, images)[0]

    def maps(self, images: np.ndarray) -> np.ndarray:
        """Maps `(n, size, size)` of the predicted classes of images `(n, size, size, 3)`."""
        return self._maps(images, size=self.size)[1]

    def learn(
        self, image: np.ndarray, label: int, mask: np.ndarray, seed: int, case: str = "both_wrong",
        progress: Callable[[float], None] | None = None,
    ) -> list[float]:  # fmt: skip
        """The online steps on one correction; the same weights, image, correction and seed give the same weights again.

        Each step sees the correction beside a class-balanced draw of the replay set, and is held near the predictions of before this
        correction.

        Args:
            image: `(size, size, 3)` uint8.
            label: class number.
            mask: `(size, size)` bool.
            seed: of dropout and of what is replayed in these steps.
            case: of figure 4.1: what is taught (`TEACHES`).
            progress: called with 0..1 after each step.

        Returns:
            Loss before each step.

        Raises:
            UsageError: the loss is not finite. After this and any other error all weights are what they were before the first step.
        """
        before, teaches, losses = self.weights(), TEACHES[case], []
        own = self.probabilities(image[None])
        anchors = None if self.replay is None else self.probabilities(self.replay.images)
        target = np.where(mask, 255, 0).astype("uint8")[None]
        try:
            for step in range(self.learning.steps):
                self._seed(seed, step)
                batch = self._batch(image, label, target, teaches, own, anchors, seed, step)
                losses.append(online_step(self.model, *batch)["loss"])
                if progress is not None:
                    progress((step + 1) / self.learning.steps)
        except BaseException:
            self.set_weights(before)
            raise
        return losses

    def _batch(
        self, image: np.ndarray, label: int, target: np.ndarray, teaches: tuple[str, ...], own: np.ndarray, anchors: np.ndarray | None,
        seed: int, step: int,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:  # fmt: skip
        """Images and targets of one step, the correction first."""
        rows = self.replay.draw(seed, step) if self.replay is not None else np.zeros(0, int)
        count = 1 + len(rows)
        images, labels, known = image[None], np.array([label], "int32"), own
        masks = np.zeros((count, *target.shape[1:]), "uint8")
        masks[:1] = target
        if self.replay is not None and anchors is not None:
            images = np.concatenate([images, self.replay.images[rows]])
            labels, known = np.concatenate([labels, self.replay.labels[rows].astype("int32")]), np.concatenate([known, anchors[rows]])
        # Means are over the batch: the correction's class counts `class_share` beside the others' mean.
        class_weight, region_weight, anchor_weight = np.ones(count, "float32"), np.zeros(count, "float32"), np.ones(count, "float32")
        class_weight[0] = self.learning.class_share * count if "class" in teaches else 0.0
        region_weight[0] = count if "region" in teaches else 0.0
        anchor_weight[0] = 0.0 if "class" in teaches else 1.0
        return images, {
            "label": labels, "mask": masks, "anchor": known.astype("float32"),
            "class_weight": class_weight, "region_weight": region_weight, "anchor_weight": anchor_weight,
        }  # fmt: skip

    def warm_up(self) -> None:
        """Compile looking and learning now, so that the first click does not wait for it; the weights stay what they are."""
        before, learning, image = self.weights(), self.learning, np.zeros((self.size, self.size, 3), "uint8")
        self.look(image)
        self.learning = replace(learning, steps=1)
        self.learn(image, 0, np.eye(self.size, dtype=bool), 0)
        self.learning = learning
        self.set_weights(before)

    def weights(self) -> list[np.ndarray]:
        """A copy of all weights, the statistics of batch normalisation included, the seeds of dropout not."""
        return [np.array(ops.convert_to_numpy(variable)) for variable in self.classifier.weights]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Put weights back that `weights` gave."""
        for variable, value in zip(self.classifier.weights, weights, strict=True):
            variable.assign(value)

    def digest(self) -> str:
        """Name of the model's state: 16 hexadecimal digits of SHA-256 over all weights."""
        return digest(self.weights())

    def _seed(self, seed: int, step: int) -> None:
        """Dropout as a function of (seed, step) alone: a replay that starts anywhere draws the same."""
        for number, generator in enumerate(self._seeds):
            generator.state.assign(np.array([seed % 2**32, step * 1000 + number], dtype=generator.state.dtype))


def digest(weights: Sequence[np.ndarray]) -> str:
    """16 hexadecimal digits of SHA-256 over the arrays' bytes, in order."""
    total = hashlib.sha256()
    for value in weights:
        total.update(np.ascontiguousarray(value).tobytes())
    return total.hexdigest()[:16]


def save_weights(path: Path, weights: Sequence[np.ndarray]) -> None:
    """Weights to an .npz file that is whole or absent."""
    with atomic(path) as temporary:
        np.savez(temporary, *weights)


def load_weights(path: Path) -> list[np.ndarray] | None:
    """What `save_weights` wrote; None when the file is missing or damaged (the log can compute it again)."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return [stored[f"arr_{number}"] for number in range(len(stored.files))]
    except DAMAGE:
        return None
