"""The model under correction: looks at an image, learns one correction, goes back."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import ops

from common.backbones import all_layers
from common.explanation.gradcam import compiled
from common.runs import atomic
from feedback.assessment import Explainer
from feedback.experiments.simulate import SimulateSettings
from feedback.training.online import online_step, self_explaining

_BATCH = 16


@dataclass(frozen=True)
class Look:
    """What the model makes of one image.

    Attributes:
        probabilities: `(classes,)` float32.
        map: `(size, size)` float32 in 0..1, Grad-CAM of the predicted class at the network's input size.
    """

    probabilities: np.ndarray
    map: np.ndarray

    @property
    def predicted(self) -> int:
        return int(self.probabilities.argmax())


class TunedModel:
    """A classifier with its Grad-CAM and its online step (thesis, Algorithm 2). Not safe for threads: the session locks.

    Args:
        classifier: from a run folder; raw RGB 0..255 to probabilities.
        settings: of the tuning; batch size 1.
        steps: online steps on one correction.
    """

    def __init__(self, classifier: keras.Model, settings: SimulateSettings, steps: int = 1) -> None:
        self.settings, self.steps = settings, steps
        self.model = self_explaining(classifier, settings)
        self._look = Explainer(self.model, batch_size=1)
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
        parts = []
        for start in range(0, len(images), _BATCH):
            batch = np.asarray(images[start : start + _BATCH], "float32")
            filled = np.concatenate([batch, np.zeros((_BATCH - len(batch), *batch.shape[1:]), "float32")])
            parts.append(ops.convert_to_numpy(self._predict(filled))[: len(batch)])
        return np.concatenate(parts) if parts else np.zeros((0, self.classifier.output_shape[-1]), "float32")

    def learn(
        self, image: np.ndarray, label: int, mask: np.ndarray, seed: int, progress: Callable[[float], None] | None = None
    ) -> list[float]:
        """The online steps on one correction; the same weights, image, correction and seed give the same weights again.

        Args:
            image: `(size, size, 3)` uint8.
            label: class number.
            mask: `(size, size)` bool; no pixel: the class alone is learned.
            seed: of dropout in these steps.
            progress: called with 0..1 after each step.

        Returns:
            Loss before each step.

        Raises:
            UsageError: the loss is not finite. After this and any other error all weights are what they were before the first step.
        """
        before = self.weights()
        target = np.where(mask, 255, 0).astype("uint8")[None]
        losses = []
        try:
            for step in range(self.steps):
                self._seed(seed, step)
                losses.append(online_step(self.model, image[None], np.array([label]), target)["loss"])
                if progress is not None:
                    progress((step + 1) / self.steps)
        except BaseException:
            self.set_weights(before)
            raise
        return losses

    def warm_up(self) -> None:
        """Compile looking and learning now, so that the first click does not wait for it; the weights stay what they are."""
        before, image = self.weights(), np.zeros((self.size, self.size, 3), "uint8")
        mask = np.zeros((self.size, self.size), bool)
        mask[0, 0] = True
        self.look(image)
        self.probabilities(image[None])
        online_step(self.model, image[None], np.array([0]), np.where(mask, 255, 0).astype("uint8")[None])
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
    except (OSError, ValueError, KeyError, EOFError):
        return None
    except Exception as error:
        # zipfile has exceptions of its own for a torn file (BadZipFile).
        if type(error).__name__ == "BadZipFile":
            return None
        raise
