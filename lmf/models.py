"""The classifiers of the LMF paper ("Models"): a pre-trained network whose last layer is replaced, nothing frozen."""

from pathlib import Path
from typing import Literal

import keras
import numpy as np
from keras import ops

from common.backbones import batch_normalisations, build_backbone, preprocess_layer
from common.errors import UsageError
from common.runs.models import read_model


def build_classifier(
    backbone: str,
    classes: int,
    image_size: int,
    weights: str | None = None,
    preprocessing: str | None = None,
    dropout: float = 0.0,
    batchnorm_momentum: float | None = 0.9,
    network: Path | None = None,
    head: Literal["linear", "cosine"] = "linear",
    head_scale: float = 30.0,
) -> keras.Model:
    """Raw RGB 0..255 `(batch, image_size, image_size, 3)` -> softmax probabilities `(batch, classes)`, layer "predictions" after "logits".

    `preprocessing` is a mode or backbone name of `common.backbones.preprocess_layer` (default: what the backbone's weights expect).
    `batchnorm_momentum` replaces every batch normalisation's (None leaves Keras's). Weights whose normalisation is folded into the
    convolutions keep it in inference mode. `network`, a saved model, takes the backbone's place. `head`: the last layer, the
    document's dense one or a `CosineDense` of `head_scale`. UsageError for weights that do not fit.
    """
    if classes < 2:
        raise UsageError(f"a classifier needs at least 2 classes, got {classes}")
    body = load_network(network, image_size) if network else build_backbone(backbone, image_size, weights)
    if batchnorm_momentum is not None:
        for layer in batch_normalisations(body):
            layer.momentum = batchnorm_momentum
    inputs = keras.Input((image_size, image_size, 3), name="image")
    x = body(preprocess_layer("raw" if network else preprocessing or backbone)(inputs))
    if len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    # float32 also under mixed precision: the losses compare logits, and scale 30 is too much for float16.
    last = (
        CosineDense(classes, head_scale, name="logits") if head == "cosine" else keras.layers.Dense(classes, dtype="float32", name="logits")
    )
    logits = last(x)
    outputs = keras.layers.Softmax(dtype="float32", name="predictions")(logits)
    return keras.Model(inputs, outputs, name=f"lmf_{Path(str(network)).stem if network else backbone}")


def with_logits(model: keras.Model) -> keras.Model:
    """The same network up to its layer "logits" `(batch, classes)`: what is trained, since the losses take logits. Weights are shared."""
    return keras.Model(model.input, model.get_layer("logits").output, name=f"{model.name}_logits")


def load_network(path: Path, image_size: int) -> keras.Model:
    """A saved Keras model as a backbone; UsageError unless it turns one RGB image into a feature map or a vector."""
    try:
        body = read_model(path)
    except UsageError as error:
        raise UsageError(f"--network {error}") from None
    for kind, tensors in (("input", getattr(body, "inputs", None)), ("output", getattr(body, "outputs", None))):
        if tensors is not None and len(tensors) != 1:
            raise UsageError(
                f"--network {path}: has {len(tensors)} {kind}s; expected one RGB image in, and one feature map (batch, h, w, channels) or "
                "vector out"
            )
    takes = tuple(body.inputs[0].shape) if getattr(body, "inputs", None) else (None,) * 4
    if len(takes) != 4 or takes[-1] not in (3, None):
        raise UsageError(f"--network {path}: takes {takes}; expected RGB images (batch, h, w, 3) and a feature map or vector of them")
    try:
        shape = tuple(body.compute_output_shape((None, image_size, image_size, 3)))
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise UsageError(f"--network {path}: does not take images of {image_size} x {image_size} x 3 ({reason})") from None
    if len(shape) not in (2, 4) or shape[-1] is None:
        raise UsageError(f"--network {path}: expected a feature map (batch, h, w, channels) or a vector (batch, features), got {shape}")
    return body


@keras.saving.register_keras_serializable("lmf")
class CosineDense(keras.layers.Layer):
    """Normalised head of the LDAM paper (Cao et al. 2019, 4): `scale` times the cosine between features and class weights, float32.

    Features `(batch, d)` -> logits `(batch, units)` in [-scale, scale]. The bias stays 0 in training; only `shift_logits` sets it.
    """

    def __init__(self, units: int, scale: float = 30.0, **kwargs):
        super().__init__(dtype="float32", **{name: value for name, value in kwargs.items() if name != "dtype"})
        self.units, self.scale = units, scale

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", trainable=False, name="bias")

    def call(self, inputs):
        return self.scale * ops.matmul(ops.normalize(inputs, axis=-1), ops.normalize(self.kernel, axis=0)) + self.bias

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units, "scale": self.scale}


def shift_logits(model: keras.Model, shift: np.ndarray) -> None:
    """Add `shift` `(classes,)` to the model's logits for good, in the bias of its last layer: logit adjustment after training."""
    bias = model.get_layer("logits").bias
    bias.assign(ops.convert_to_numpy(bias) + np.asarray(shift, dtype="float32"))
