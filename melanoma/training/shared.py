"""The design of reading `corrected`: one encoder, heads for melanoma and the indicators, and a U-Net on its maps, trained together."""

import logging
import math
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy.special import expit

from common import device
from common.data.pipeline import Batches
from common.explanation.cams import cam
from common.explanation.gradcam import in_batches
from common.metrics.calibration import fit_platt
from common.runs.fitting import fit
from common.runs.folder import Run
from melanoma import models
from melanoma.experiments.base import LESION
from melanoma.losses import UncertaintyWeights, soft_dice
from melanoma.training.evaluation import Localisation, judged, tested, write_results, write_trivial
from melanoma.training.indicator import cross_entropy
from melanoma.training.inputs import Inputs, open_run
from melanoma.training.optimiser import adam
from melanoma.training.pipeline import NETWORKS, SHARED
from melanoma.training.pretraining import ENCODER, given
from melanoma.training.probes import set_output

log = logging.getLogger(__name__)
MOST_PIXELS = 2_000_000  # of a mask that its calibration is fitted to


class Shared(keras.Model):
    """`network` (`models.build_shared`) with its loss: each output's, weighed by `weights`. Targets are a dict as the outputs are."""

    def __init__(self, network: keras.Model, weights: UncertaintyWeights, losses: dict[str, Any]) -> None:
        super().__init__(name="shared_training")
        self.network, self.loss_weights, self.own_losses = network, weights, losses
        self.means = {name: keras.metrics.Mean(name=name) for name in losses}

    def build(self, input_shape: Any) -> None:
        self.built = True  # its parts are

    def call(self, images: Any, training: bool | None = None) -> Any:
        return self.network(images, training=training)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True) -> Any:
        found = {name: ops.mean(loss(y[name], y_pred[name])) for name, loss in self.own_losses.items()}
        for name, value in found.items():
            self.means[name].update_state(value)
        return self.loss_weights(found)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        return self.get_metrics_result()


def drawn_names(inputs: Inputs) -> tuple[str, ...]:
    """The masks to draw: an indicator's own, or the whole lesion's where indicators have none of their own."""
    own = tuple(name for name in inputs.indicators if not inputs.stands_in(name))
    return own or (LESION,)


def train_shared(inputs: Inputs, run_dir: Any = None) -> Run:
    """Train, test and keep one model of the design; a finished run is returned as it is. Report and figures come after."""
    settings = inputs.settings
    origin = given(inputs, settings.pretrained) if settings.pretrained is not None else {}
    run = open_run(inputs, "shared", run_dir, **origin)
    if run.finished:
        return run
    try:
        fill(run, inputs)
    except BaseException:
        run.release()  # in a notebook the process goes on
        raise
    return run


def fill(run: Run, inputs: Inputs) -> None:
    """Everything that `train_shared` leaves in an opened run folder."""
    s = inputs.settings
    device.configure(s.seed, s.precision, s.devices)
    run.write_csv("manifest.csv", inputs.manifest)
    indicators = tuple(inputs.varying(inputs.indicators)) if s.indicator_heads else ()
    masks = drawn_names(inputs) if s.segmentation else ()
    network, encoder = build(inputs, len(indicators), len(masks))
    write_trivial(run, inputs, encoder)
    model = trainer(inputs, network, indicators)
    targets = {"melanoma": inputs.melanoma[:, None]}
    if indicators:
        targets["indicators"] = inputs.labels(indicators)
    if masks:
        targets["masks"] = np.stack([inputs.masks(name) for name in masks], axis=-1)
    batches = Batches(
        inputs.images, targets, rows=inputs.rows("train"), batch_size=s.shared_batch, seed=s.seed, shuffle=True, augment=turned,
        drop_remainder=True,
    )  # fmt: skip
    validation = Batches(inputs.images, targets, rows=inputs.rows("validation", diagnosed=True), batch_size=s.shared_batch)
    model.build((None, *inputs.images.shape[1:]))

    def rate(epoch: int) -> float:
        return s.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / s.epochs))

    fit(model, batches, run=run, stage="shared", epochs=s.epochs, validation=validation, schedule=rate, select="last")
    lines = calibrate_drawing(inputs, network, masks) if s.calibrated_drawing else {}
    test(run, inputs, network, encoder, indicators, masks, lines)


def build(inputs: Inputs, indicators: int, masks: int) -> tuple[keras.Model, keras.Model]:
    """The untrained network and its encoder, which begins from `--pretrained` or `--weights`."""
    s = inputs.settings
    encoder = models.build_encoder(s.backbone, s.image_size, s.weights, s.pretrained and s.pretrained / ENCODER)
    normalise = models.normalisation(s.normalise, s.backbone)
    return models.build_shared(encoder, normalise, s.backbone, indicators, masks, s.decoder_width), encoder


def trainer(inputs: Inputs, network: keras.Model, indicators: tuple[str, ...]) -> Shared:
    """The network with its losses and optimiser."""
    s = inputs.settings
    losses: dict[str, Any] = {"melanoma": cross_entropy(inputs, inputs.labels(("melanoma",)))}
    if indicators:
        losses["indicators"] = cross_entropy(inputs, inputs.labels(indicators))
    if "masks" in network.output:
        losses["masks"] = soft_dice
    alone = len(losses) == 1
    weights = UncertaintyWeights({name: 0.5 if name == "masks" else 1.0 for name in losses}, fixed=alone or s.weighting == "sum")
    model = Shared(network, weights, losses)
    model.compile(adam(s), jit_compile=device.jit_compile())
    return model


def turned(images: np.ndarray, targets: dict[str, np.ndarray], rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """One of the eight symmetries of the square for each image `(h, w, c)` and its masks: a lesion has no upside."""
    images, targets = images.copy(), dict(targets)
    if "masks" in targets:
        targets["masks"] = targets["masks"].copy()
    for index, (quarter, mirrored) in enumerate(zip(rng.integers(0, 4, len(images)), rng.random(len(images)) < 0.5, strict=True)):
        for stack in (images, *([targets["masks"]] if "masks" in targets else [])):
            each = np.rot90(stack[index], quarter)
            stack[index] = each[:, ::-1] if mirrored else each
    return images, targets


def calibrate_drawing(inputs: Inputs, network: keras.Model, masks: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Put each of the `masks`' logits z on the line a z + b that minimises the cross-entropy of the validation images' pixels (Platt
    1999); returns {mask: (a, b)} of those that could be fitted. The network's last layer is changed.

    Eq. 2 squares the drawing in its denominator, so that a grey background costs little and the last layer's weights stay small; where
    the rectified maps are 0 all over the background, its bias alone decides how grey it is.
    """
    found: dict[str, tuple[float, float]] = {}
    rows = inputs.rows("validation")
    if not masks or not len(rows):
        return found
    drawn = network.predict(Batches(inputs.images, rows=rows, batch_size=32), verbose=0)["masks"]
    kernel, bias = network.get_layer("mask").get_weights()
    # A regular share of the pixels is as good as all of them where there are many.
    step = max(1, drawn[..., 0].size // MOST_PIXELS)
    for index, name in enumerate(masks):
        inside = inputs.masks(name)[rows].ravel()[::step] >= 0.5
        line = fit_platt(drawn[..., index].ravel()[::step], inside)
        if line is None:
            log.warning("the drawing of %s stays as it is: nothing in the validation masks to fit it to", name)
            continue
        slope, offset = found[name] = line
        kernel[..., index] *= slope
        bias[index] = slope * bias[index] + offset
    network.get_layer("mask").set_weights([kernel, bias])
    return found


def test(
    run: Run,
    inputs: Inputs,
    network: keras.Model,
    encoder: keras.Model,
    indicators: tuple[str, ...],
    masks: tuple[str, ...],
    lines: dict[str, tuple[float, float]],
) -> None:
    """Predictions, indicators, localisation and the models of a trained network.

    One of these is the diagnosis alone, a classifier like every other run's: raw images -> softmax of the two classes.
    """
    s, said = inputs.settings, network.predict(tested(inputs), verbose=0)
    melanoma = expit(said["melanoma"][:, 0].astype("float64"))
    final = models.build_final([encoder], models.normalisation(s.normalise, s.backbone))
    set_output(final, network.get_layer("melanoma"))
    run.save_model(final)
    if masks:
        run.save_model(network, f"{NETWORKS}/{SHARED}.keras")
    tables = [judged(inputs, indicators, said["indicators"])] if indicators else []
    outputs, drawn = {SHARED: ["melanoma", *indicators]}, {SHARED: list(masks)}
    found = localise(inputs, network, final, masks)
    write_results(
        run,
        inputs,
        np.stack([melanoma, 1 - melanoma], axis=1),
        found,
        tables,
        outputs=outputs,
        drawn=drawn,
        drawing_calibration=lines,
    )


def localise(inputs: Inputs, network: keras.Model, final: keras.Model, masks: tuple[str, ...]) -> Localisation:
    """The test images' drawings, and Grad-CAM of the predicted diagnosis, against each kind of mask."""
    found = Localisation(inputs)
    batches = Batches(inputs.images, rows=found.rows, batch_size=32)
    called = final.predict(batches, verbose=0).argmax(axis=1)
    (maps,) = in_batches(lambda rows, classes: cam("gradcam", final, inputs.images[rows], classes), 64, found.rows, called)
    drawn = network.predict(batches, verbose=0)["masks"].astype("float32") if masks else None
    for index, name in enumerate(drawn_names(inputs)):
        found.add("gradcam", name, maps)
        if drawn is not None:
            found.add("unet_mask", name, drawn[..., index])
    return found
