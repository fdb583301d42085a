"""The networks of `keras.applications` without their tops: weights, the input each was trained on, freezing, batch normalisation.

Every network here takes what `preprocess_layer` makes of raw RGB values 0..255, so a whole model can take pixels as they are decoded.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from common.errors import UsageError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backbone:
    """One network.

    Attributes:
        title: name as papers print it.
        application: class of `keras.applications`.
        preprocessing: mode of `PixelScaling` its ImageNet weights expect.
        features: channels of the last feature map.
        arguments: further arguments of the constructor.
    """

    title: str
    application: str
    preprocessing: str
    features: int
    arguments: tuple[tuple[str, Any], ...] = ()


BACKBONES: dict[str, Backbone] = {
    "vgg16": Backbone("VGG16", "VGG16", "caffe", 512),
    "vgg19": Backbone("VGG19", "VGG19", "caffe", 512),
    "resnet50": Backbone("ResNet50", "ResNet50", "caffe", 2048),
    "mobilenetv2": Backbone("MobileNetV2", "MobileNetV2", "tf", 1280),
    "mobilenetv2_035": Backbone("MobileNetV2 0.35", "MobileNetV2", "tf", 1280, (("alpha", 0.35),)),
    "densenet121": Backbone("DenseNet121", "DenseNet121", "torch", 1024),
    "densenet169": Backbone("DenseNet169", "DenseNet169", "torch", 1664),
    # Its own Rescaling(1/128, -1) layer is left out, so that preprocessing stands in one place for all networks.
    "efficientnetv2s": Backbone("EfficientNetV2-S", "EfficientNetV2S", "tf128", 1280, (("include_preprocessing", False),)),
}
# The other networks of `keras.applications`, by family: (what their ImageNet weights expect, classes with the channels of the last map).
_OWN_SCALING = (("include_preprocessing", False),)  # likewise left out, so that preprocessing stands in one place
_OTHERS: tuple[tuple[str, dict[str, int], tuple[tuple[str, Any], ...]], ...] = (
    ("caffe", {"ResNet101": 2048, "ResNet152": 2048}, ()),
    ("tf", {"ResNet50V2": 2048, "ResNet101V2": 2048, "ResNet152V2": 2048, "MobileNet": 1024}, ()),
    ("tf", {"InceptionV3": 2048, "InceptionResNetV2": 1536, "Xception": 2048, "NASNetMobile": 1056, "NASNetLarge": 4032}, ()),
    ("tf", {"MobileNetV3Small": 576, "MobileNetV3Large": 960}, _OWN_SCALING),
    ("torch", {"DenseNet201": 1920}, ()),
    ("torch", {"ConvNeXtTiny": 768, "ConvNeXtSmall": 768, "ConvNeXtBase": 1024}, _OWN_SCALING),
    ("torch", {"ConvNeXtLarge": 1536, "ConvNeXtXLarge": 2048}, _OWN_SCALING),
    ("torch", {"EfficientNetV2B0": 1280, "EfficientNetV2B1": 1280, "EfficientNetV2B2": 1408, "EfficientNetV2B3": 1536}, _OWN_SCALING),
    ("tf128", {"EfficientNetV2M": 1280, "EfficientNetV2L": 1280}, _OWN_SCALING),
    # These normalise themselves, by their weights' constants; only their division by 255 is taken out (`build_backbone`).
    ("unit", {f"EfficientNetB{size}": features for size, features in enumerate((1280, 1280, 1408, 1536, 1792, 2048, 2304, 2560))}, ()),
)  # fmt: skip
BACKBONES |= {
    application.lower(): Backbone(application, application, mode, features, arguments)
    for mode, applications, arguments in _OTHERS
    for application, features in applications.items()
}

# Mean and scale in the order of the channels after a possible RGB -> BGR swap: output = (input - mean) / scale.
_SCALING: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "raw": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "tf": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "tf128": ((128.0, 128.0, 128.0), (128.0, 128.0, 128.0)),
    "torch": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "caffe": ((103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
}


@keras.saving.register_keras_serializable(package="common")
class PixelScaling(keras.layers.Layer):
    """Raw RGB 0..255 `(batch, height, width, 3)` to what a network expects.

    Args:
        mode: "raw" (unchanged), "unit" (0..1), "tf" (-1..1), "tf128" (x/128 - 1, EfficientNetV2), "torch" (ImageNet mean and
            deviation), "caffe" (BGR, mean subtracted). Constants are those of `keras.applications.*.preprocess_input`.

    Raises:
        ValueError: unknown mode.
    """

    def __init__(self, mode: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if mode not in _SCALING:
            raise ValueError(f"mode {mode!r}: expected one of {', '.join(_SCALING)}")
        self.mode = mode

    def call(self, images: Any) -> Any:
        images = ops.cast(images, self.compute_dtype)
        if self.mode == "raw":
            return images
        mean, scale = _SCALING[self.mode]
        if self.mode == "caffe":
            images = ops.flip(images, axis=-1)
        return (images - ops.convert_to_tensor(mean, images.dtype)) / ops.convert_to_tensor(scale, images.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mode": self.mode}


def preprocess_layer(name_or_mode: str, name: str = "preprocess") -> PixelScaling:
    """Layer from raw RGB 0..255 to the input of a backbone (by its name) or of a mode of `PixelScaling`."""
    mode = BACKBONES[name_or_mode].preprocessing if name_or_mode in BACKBONES else name_or_mode
    return PixelScaling(mode, name=name)


def build_backbone(
    name: str, image_size: int | tuple[int | None, int | None], weights: str | Path | None = None, pooling: str | None = None
) -> keras.Model:
    """A network without top.

    Args:
        name: key of `BACKBONES`.
        image_size: side in pixels, or (height, width); None leaves a side open.
        weights: None or "none" (random), "imagenet" (downloaded by Keras), or the path of a weights file.
        pooling: None (feature map), "avg" or "max" (vector).

    Returns:
        `keras.Model` from preprocessed images `(batch, height, width, 3)` to features.

    Raises:
        UsageError: unknown name; a weights file that is missing, is none, or does not fit; a download that fails.
    """
    if name not in BACKBONES:
        raise UsageError(f"--backbone {name}: unknown; expected one of {', '.join(BACKBONES)}")
    backbone = BACKBONES[name]
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    source = None if weights in (None, "none") else weights
    with warnings.catch_warnings():
        # MobileNetV2 says that weights trained at 224 pixels are used at another size; the papers do just that.
        warnings.filterwarnings("ignore", message=".*`input_shape` is undefined or non-square.*")
        constructor = getattr(keras.applications, backbone.application)
        try:
            model = constructor(
                include_top=False,
                weights="imagenet" if source == "imagenet" else None,
                input_shape=(height, width, 3),
                pooling=pooling,
                **dict(backbone.arguments),
            )
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            # First: Keras checks the size before it downloads anything.
            if "at least" in reason:
                raise UsageError(f"--image-size {image_size}: too small for {backbone.title} ({reason[:120]})") from None
            if source == "imagenet":
                raise UsageError(
                    f"--weights imagenet: the download for {backbone.title} failed ({reason[:160]}); give --weights PATH or --weights none"
                ) from None
            raise
    if backbone.preprocessing == "unit":
        next(layer for layer in model.layers if isinstance(layer, keras.layers.Rescaling)).scale = 1.0
    if source not in (None, "imagenet"):
        load_weights(model, Path(str(source)), backbone.title)
    return model


def load_weights(model: keras.Model, path: Path, title: str) -> None:
    """Load a weights file into `model`, or say in one line why it cannot be done. Folded batch normalisation is frozen.

    Raises:
        UsageError: no such file, not a weights file, or weights of another network.
    """
    if not path.is_file():
        raise UsageError(f"--weights {path}: no such file; expected a Keras .weights.h5 file, 'imagenet' or 'none'")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of every layer that does not fit before it raises
            model.load_weights(path)
    except Exception as error:  # h5py and Keras raise many kinds here; all of them mean the same to a user
        reason = " ".join(str(error).split())[:160]
        raise UsageError(f"--weights {path}: cannot be loaded into {title} without its top ({reason})") from None
    if batchnorm_is_folded(model):
        keep_batchnorm_frozen(model)


def all_layers(model: keras.Layer) -> Iterator[keras.Layer]:
    """Every layer of `model`, nested ones included, outermost first, each once."""
    seen: set[int] = set()
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if id(layer) not in seen:
            seen.add(id(layer))
            yield layer


def batch_normalisations(model: keras.Layer) -> list[keras.layers.BatchNormalization]:
    """All batch-normalisation layers of `model`, nested ones included."""
    return [layer for layer in all_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]


def batchnorm_is_folded(model: keras.Layer) -> bool:
    """Whether LOADED weights have their batch normalisation folded into the convolutions: all moving means 0, all variances equal.

    Such layers no longer normalise, so training them would destroy the network; keep them in inference mode. Freshly initialised
    networks look the same: ask only after weights were loaded.
    """
    layers = batch_normalisations(model)
    if not layers:
        return False
    means = [ops.convert_to_numpy(layer.moving_mean) for layer in layers]
    variances = [ops.convert_to_numpy(layer.moving_variance) for layer in layers]
    first = variances[0].flat[0]
    return all((m == 0).all() for m in means) and all((v == first).all() for v in variances)


def keep_batchnorm_frozen(model: keras.Layer) -> int:
    """Put every batch normalisation into inference mode (Keras: a frozen one neither uses the batch's statistics nor moves).

    Returns:
        How many there are.
    """
    layers = batch_normalisations(model)
    for layer in layers:
        layer.trainable = False
    return len(layers)


def training_pass(model: keras.Model) -> Callable[[Any], Any]:
    """`model(images, training=True)`, on TensorFlow compiled: op by op a pass through MobileNetV2 takes five times as long."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(lambda images: model(images, training=True), autograph=False)
    return lambda images: model(images, training=True)


def recompute_batchnorm(
    model: keras.Model, batches: Iterable[Any], max_batches: int = 50, forward: Callable[[Any], Any] | None = None
) -> int:
    """Replace the moving statistics by plain averages over training batches, without any training.

    Keras's MobileNetV2 has momentum 0.999, so after a few hundred steps from scratch the moving statistics are still mostly the initial
    ones and evaluation is nonsense. Frozen layers keep theirs.

    Args:
        model: any model; called with `training=True` so that augmentation layers act as they did in training.
        batches: batches of images, or of tuples that begin with the images.
        max_batches: how many of them to use.
        forward: the model's `training_pass` where it is recomputed repeatedly; None: a new one.

    Returns:
        Number of batches used; 0 where the model has no trainable batch normalisation.
    """
    layers = [layer for layer in batch_normalisations(model) if layer.trainable]
    if not layers:
        return 0
    forward = forward or training_pass(model)
    statistics = [each for layer in layers for each in (layer.moving_mean, layer.moving_variance)]
    sums = [np.zeros(each.shape) for each in statistics]
    momenta = [layer.momentum for layer in layers]
    used = 0
    try:
        for layer in layers:
            layer.momentum = 0.0  # after a pass the moving statistics are that batch's
        for batch in islice(batches, max_batches):
            images = batch[0] if isinstance(batch, tuple | list) else batch
            forward(ops.convert_to_tensor(images, dtype="float32"))
            for total, each in zip(sums, statistics, strict=True):
                total += ops.convert_to_numpy(each)
            used += 1
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    if used:
        for total, each in zip(sums, statistics, strict=True):
            each.assign(total / used)
    log.debug("batch-normalisation statistics recomputed on %d training batches", used)
    return used


class RecomputeBatchnorm(keras.callbacks.Callback):
    """Recompute the statistics before each validation, so that the epoch is chosen by the very model that is kept.

    Args:
        batches: called each time, gives the training batches to use (the same ones, for a resumed run to equal an unbroken one).
        when: whether to do so in an epoch (0-based).
        max_batches: as in `recompute_batchnorm`.
        network: whose statistics; default the model that is trained.
    """

    def __init__(
        self,
        batches: Callable[[], Iterable[Any]],
        when: Callable[[int], bool],
        max_batches: int = 50,
        network: keras.Model | None = None,
    ) -> None:
        super().__init__()
        self.batches, self.when, self.max_batches, self.network, self.epoch = batches, when, max_batches, network, 0
        self.forward: Callable[[Any], Any] | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_test_begin(self, logs: Any = None) -> None:
        if self.when(self.epoch):
            network = self.model if self.network is None else self.network
            self.forward = self.forward or training_pass(network)
            recompute_batchnorm(network, self.batches(), self.max_batches, self.forward)
