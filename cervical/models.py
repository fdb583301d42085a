"""Networks of the cervical study. All take raw RGB 0..255 `(batch, size, size, 3)`; classifiers end in softmax `predictions` `(batch, K)`.

Layer numbers, taps and parameter counts are those of the authors' code (facts 1.4 and 1.6, verified there to the unit).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
from keras import layers

from common.backbones import BACKBONES, build_backbone, preprocess_layer
from common.errors import UsageError

if TYPE_CHECKING:
    from cervical.experiments.contrastive import ContrastiveSettings
    from cervical.experiments.finetune import FinetuneSettings

# Where the code takes the features: VGG and ResNet50 from within the network (the layers behind are dropped), the others at its end.
TAPS = {"vgg16": "block4_conv3", "vgg19": "block5_conv2", "resnet50": "conv4_block1_0_conv"}
HIDDEN, CLASSIFIER_HIDDEN = 1024, 512


def build_classifier(backbone: str, config: FinetuneSettings, classes: int = 5, weights: str | Path | None = None) -> keras.Model:
    """The fine-tuned network (paper III-C.1, thesis 5.3 a).

    VGG and ResNet50: global max pooling, then BN, dropout, Dense 1024, BN, dropout, softmax; `config.body` says whether their last layers
    are cut off, as the code does. DenseNet169 and MobileNetV2: global average pooling, Dense 1024, softmax, with dropout between where
    `config.dropout_everywhere` says so. The first `config.frozen_layers(backbone)` layers of the whole backbone are frozen, the input
    layer counted.

    Args:
        backbone: key of `common.backbones.BACKBONES`.
        config: image size, body, pixels, freeze, dropout.
        classes: K.
        weights: None or "none" (random), "imagenet" (downloads) or a path. Folded batch normalisation stays in inference mode.

    Raises:
        UsageError: more layers to freeze than the body has.
    """
    whole = build_backbone(backbone, config.image_size, weights)
    base = cut_body(whole, backbone, config.body)
    freeze_body(whole, base, backbone, config.frozen_layers(backbone))
    inner = backbone in TAPS
    mode = "raw" if config.pixels == "raw" else backbone
    inputs = keras.Input((config.image_size, config.image_size, 3), name="image")
    x = base(preprocess_layer(mode)(inputs))
    if inner:
        x = layers.GlobalMaxPooling2D(name="pool")(x)
        x = layers.BatchNormalization(name="head_bn_1")(x)
        x = layers.Dropout(config.dropout, name="head_dropout_1")(x)
        x = layers.Dense(HIDDEN, activation="relu", name="head_dense")(x)
        x = layers.BatchNormalization(name="head_bn_2")(x)
        x = layers.Dropout(config.dropout, name="head_dropout_2")(x)
    else:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dense(HIDDEN, activation="relu", name="head_dense")(x)
        if config.dropout_everywhere:
            x = layers.Dropout(config.dropout, name="head_dropout")(x)
    outputs = layers.Dense(classes, activation="softmax", name="predictions", dtype="float32")(x)
    return keras.Model(inputs, outputs, name=f"{backbone}_finetuned")


def cut_body(whole: keras.Model, backbone: str, body: str) -> keras.Model:
    """The network without its top: whole, or with `body` "truncated" up to the layer where the code takes the features (VGG, ResNet50)."""
    if body != "truncated" or backbone not in TAPS:
        return whole
    return keras.Model(whole.input, whole.get_layer(TAPS[backbone]).output, name=whole.name)


def freeze_body(whole: keras.Model, body: keras.Model, backbone: str, layers_frozen: int) -> None:
    """Freeze those of the body's layers that are among the first `layers_frozen` of the whole network, where the paper counts them.

    Layers that are frozen already stay so.

    Raises:
        UsageError: a layer to be frozen lies behind the body's last one, so that a smaller number would do the same.
    """
    names = [layer.name for layer in whole.layers]
    last = max(names.index(layer.name) for layer in body.layers) + 1
    if layers_frozen > last:
        raise UsageError(f"--freeze {layers_frozen}: this {BACKBONES[backbone].title} has only {last} layers")
    kept = set(names[:layers_frozen])
    for layer in body.layers:
        layer.trainable = layer.trainable and layer.name not in kept


def depth_steps(backbone: str, image_size: int, body: str) -> list[int]:
    """Numbers of frozen layers that differ in a layer with weights, from 0 to all of the body.

    Freezing up to a layer without weights, or to one that was cut off, is the same as freezing up to the weights before it.
    """
    whole = build_backbone(backbone, image_size)
    names = [layer.name for layer in whole.layers]
    return [0, *sorted(names.index(layer.name) + 1 for layer in cut_body(whole, backbone, body).layers if layer.weights)]


def default_depths(backbone: str, image_size: int, body: str) -> tuple[int, ...]:
    """None, about a quarter, half, three quarters and all of the body's layers, and the paper's number."""
    from cervical.experiments.finetune import FREEZE

    steps = depth_steps(backbone, image_size, body)
    paper = FREEZE.get(backbone, 0)
    found = {at_most(steps, steps[-1] * quarter // 4) for quarter in range(5)} - {at_most(steps, paper)}
    return tuple(sorted(found | {paper}))


def at_most(steps: list[int], number: int) -> int:
    """The largest of the steps up to `number`: the depth that freezing `number` layers comes to."""
    return max(step for step in steps if step <= number)


def build_encoder(
    backbone: str,
    config: ContrastiveSettings,
    weights: str | Path | None = None,
    statistics: tuple[Any, Any] | None = None,
) -> keras.Model:
    """The encoder: images to average-pooled features `(batch, d)`, d 512 to 2048 by backbone; every layer trainable.

    Args:
        statistics: mean and variance of the training images' channels, `(3,)` each in 0..255, for `pixels="adapted"`
            (7 non-trainable values, as in the code); None leaves the input as it is until `set_statistics`.
    """
    base = build_backbone(backbone, config.image_size, weights, pooling="avg")
    inputs = keras.Input((config.image_size, config.image_size, 3), name="image")
    scale = layers.Normalization(name="preprocess") if config.pixels == "adapted" else preprocess_layer(backbone)
    encoder = keras.Model(inputs, base(scale(inputs)), name=f"{backbone}_encoder")
    if statistics is not None and config.pixels == "adapted":
        set_statistics(encoder, *statistics)
    return encoder


def set_statistics(encoder: keras.Model, mean: Any, variance: Any) -> None:
    """Give the encoder's Normalization layer the channel statistics `(3,)` of the training images."""
    layer = encoder.get_layer("preprocess")
    layer.adapt_mean.assign(mean)
    layer.adapt_variance.assign(variance)
    layer.finalize_state()


def add_projection(encoder: keras.Model, units: int = 128) -> keras.Model:
    """Encoder and projection head, a single Dense with ReLU as in the code (paper: "fully connected layers"). float32 embeddings."""
    projected = layers.Dense(units, activation="relu", name="projection", dtype="float32")(encoder.output)
    return keras.Model(encoder.input, projected, name=f"{encoder.name}_projected")


def build_contrastive_classifier(
    backbone: str, config: ContrastiveSettings, classes: int = 5, encoder: keras.Model | None = None, weights: str | Path | None = None
) -> keras.Model:
    """Dropout, Dense 512 ReLU, dropout, softmax on an encoder's output.

    Args:
        encoder: the trained encoder (or encoder with projection, for the papers' figure 2), frozen or not by the caller; None builds one,
            all trainable: that is the control, the same network trained with cross-entropy alone.
    """
    encoder = build_encoder(backbone, config, weights) if encoder is None else encoder
    head = build_head(encoder.output.shape[-1], config, classes)
    return attach(encoder, head, f"{backbone}_contrastive_classifier")


def build_head(features: int, config: ContrastiveSettings, classes: int) -> keras.Model:
    """The classifier's layers alone: `(batch, features)` to softmax `(batch, classes)`; trained on features that are computed once."""
    inputs = keras.Input((features,), name="features")
    x = layers.Dropout(config.dropout, name="head_dropout_1")(inputs)
    x = layers.Dense(CLASSIFIER_HIDDEN, activation="relu", name="head_dense")(x)
    x = layers.Dropout(config.dropout, name="head_dropout_2")(x)
    outputs = layers.Dense(classes, activation="softmax", name="predictions", dtype="float32")(x)
    return keras.Model(inputs, outputs, name="head")


def attach(encoder: keras.Model, head: keras.Model, name: str) -> keras.Model:
    """Encoder and head as one model. The head's layers are applied one by one, so that only the backbone is nested."""
    x = encoder.output
    for layer in head.layers[1:]:
        x = layer(x)
    return keras.Model(encoder.input, x, name=name)


def count_parameters(model: keras.Model) -> tuple[int, int]:
    """(all, trainable) parameters of a model, counted as `model.summary()` does."""
    every, trained = (sum(math.prod(weight.shape) for weight in weights) for weights in (model.weights, model.trainable_weights))
    return every, trained
