"""The VAT baseline of Table 2: Murabayashi & Iyatomi (2019), virtual adversarial training of a classifier of melanoma and its indicators.

Virtual adversarial training is Miyato et al. (2018): the prediction p at an image must not change where it would change fastest,

    d = g / rms(g),  g = ∇_r KL(p || q(x + r)) at r = ξ·noise;   L = L_BCE + w · mean KL(p || q(x + ε·d))

with one power iteration, on labelled (Dataset A) and unlabelled images (Dataset B) alike. p and q are Bernoulli, one an output.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from common import device
from common.data.pipeline import Batches
from common.explanation.gradcam import image_gradient
from common.runs.fitting import fit
from common.runs.folder import Run
from melanoma import models
from melanoma.experiments.baselines import BaselineSettings
from melanoma.training.batches import Beside, full_batches
from melanoma.training.indicator import cross_entropy
from melanoma.training.inputs import Inputs
from melanoma.training.optimiser import adam
from melanoma.training.pretraining import settled


def bernoulli_divergence(logits: Any, other: Any) -> Any:
    """KL(Bernoulli(σ(logits)) || Bernoulli(σ(other))), summed over outputs: `(batch, outputs)` twice -> `(batch,)`."""
    p = ops.sigmoid(logits)
    return ops.sum(p * (logits - other) + ops.softplus(other) - ops.softplus(logits), axis=-1)


def unit_rms(x: Any) -> Any:
    """Each image `(batch, h, w, c)` scaled to a root mean square of 1."""
    return x / ops.sqrt(ops.mean(ops.square(x), axis=(1, 2, 3), keepdims=True) + 1e-20)


def adversarial_direction(network: keras.Model, images: Any, logits: Any, noise: Any, xi: float) -> Any:
    """d of the module's docstring, `(batch, h, w, 3)` with root mean square 1; a constant for the outer gradient.

    network: normalised images -> logits. dKL/dq's logits is q - p, so one weighted image gradient gives g.
    """
    probe = images + xi * unit_rms(noise)
    weights = ops.sigmoid(network(probe, training=False)) - ops.sigmoid(logits)
    # The weights are of the order of ξ; brought to order one, or float32 would lose the gradient's small parts.
    weights = weights / (ops.max(ops.abs(weights), axis=-1, keepdims=True) + 1e-20)
    return ops.stop_gradient(unit_rms(image_gradient(network, probe, ops.stop_gradient(weights))))


class VirtualAdversarial(keras.Model):
    """A classifier trained with both losses; inputs (labelled images, unlabelled images), targets of the labelled ones.

    Batch normalisation: the labelled pass is an ordinary training pass. Both passes of the divergence, and the one that finds the
    direction, use the moving statistics and leave them alone, as Miyato et al. do: p and q would otherwise differ by their batches.

    Args:
        classifier: raw images -> logits.
        network: normalised images -> the same logits, on the same layers.
        normalise: raw to normalised images.
        bce: loss of the labelled images on logits.
    """

    def __init__(
        self,
        classifier: keras.Model,
        network: keras.Model,
        normalise: keras.layers.Layer,
        settings: BaselineSettings,
        bce: keras.losses.Loss,
    ) -> None:
        super().__init__(name="vat")
        self.classifier, self.network, self.normalise, self.settings = classifier, network, normalise, settings
        self.generator = keras.random.SeedGenerator(settings.seed)
        self.bce = bce

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.classifier(inputs[0], training=training)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True) -> Any:
        s = self.settings
        images = self.normalise(ops.concatenate([ops.cast(part, "float32") for part in x], axis=0))
        # The pass that decides p must not move the moving statistics a second time, nor mix the two batches' statistics.
        logits = ops.stop_gradient(self.network(images, training=False))
        noise = keras.random.normal(ops.shape(images), seed=self.generator)
        spread = models.input_spread(s.backbone)  # ε and ξ count in deviations of the network's input
        direction = adversarial_direction(self.network, images, logits, noise, s.vat_xi * spread)
        moved = self.network(images + s.vat_epsilon * spread * direction, training=False)
        return self.bce(y, y_pred) + s.vat_weight * ops.mean(bernoulli_divergence(logits, moved))


class Paired(Beside):
    """Labelled batches, each with the next unlabelled one: ((labelled, unlabelled), targets)."""

    def __getitem__(self, index: int) -> Any:
        (images, targets), others = super().__getitem__(index)
        return (images, others["unlabelled"][0]), targets


def train_vat(run: Run, inputs: Inputs, settings: BaselineSettings, labels: np.ndarray, images_b: np.ndarray) -> keras.Model:
    """The trained classifier, raw images -> logits `(batch, outputs)`. labels `(n, outputs)`, aligned with Dataset A."""
    s = inputs.settings
    normalise = models.normalisation(s.normalise, s.backbone)
    encoder = models.build_encoder(s.backbone, s.image_size, s.weights)
    classifier = models.build_classifier(encoder, normalise, labels.shape[1])
    pixels = keras.Input(encoder.input_shape[1:])
    pooled = keras.layers.GlobalAveragePooling2D()(encoder(pixels))
    network = keras.Model(pixels, classifier.get_layer("logits")(pooled))
    model = VirtualAdversarial(classifier, network, normalise, settings, cross_entropy(inputs, labels))
    model.compile(adam(s), jit_compile=device.jit_compile())
    labelled = full_batches(inputs.images, labels, rows=inputs.rows("train"), batch_size=s.classifier_batch, seed=s.seed)
    unlabelled = full_batches(images_b, rows=np.arange(len(images_b)), batch_size=s.classifier_batch, seed=s.seed)
    batches = Paired(labelled, unlabelled=(unlabelled, 1))
    model.build([(None, *inputs.images.shape[1:])] * 2)
    held = Batches(inputs.images, labels, rows=inputs.rows("validation", diagnosed=True), batch_size=s.classifier_batch)
    # Validation has no unlabelled part: its own images stand in for it.
    validation = Paired(held, unlabelled=(Batches(inputs.images, rows=held.rows, batch_size=held.batch_size), 1))
    fit(
        model, batches, run=run, stage="vat", epochs=s.classifier_epochs, validation=validation, select="best", patience=s.patience,
        extra_callbacks=[settled(encoder, normalise, labelled)],
    )  # fmt: skip
    return classifier
