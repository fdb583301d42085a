"""The networks of Bio-U-Net (§4, figs. 2 and 6): encoder E1 with four stages, projection head, classifiers, U-Net, final classifier.

One encoder object is shared: the SimCLR model, the classifier and the U-Net of an indicator are built around the same layers, so an
update of one is an update of all (Algorithm 1). Nothing here downloads unless the weights asked for are "imagenet".
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
from keras import ops

from common.backbones import (
    BACKBONES,
    batch_normalisations,
    build_backbone,
    load_weights,
    preprocess_layer,
)
from melanoma.taps import STRIDES, feature_taps, half_resolution, tensor

IMAGENET_DEVIATION = 255 * (0.229 + 0.224 + 0.225) / 3  # torchvision's constants
IMAGENET_MEAN = (0.485 + 0.456 + 0.406) / 3
DECODER_CHANNELS = (256, 128, 64, 32, 16)  # strides 16, 8, 4, 2, 1; not stated, the original U-Net's halving


@keras.saving.register_keras_serializable(package="melanoma")
class Standardise(keras.layers.Layer):
    """Each image to zero mean over its pixels and channels (A.3): `(batch, h, w, 3)` RGB in any range, float out.

    The deviation becomes `spread`, the mean `centre`, and `bgr` turns the channels around: what loaded weights expect (`input_spread`). A
    constant image gives `centre`: its deviation is bounded below by 1e-3 of the 0..255 range.

    With `sources`, images `(batch, h, w, 3)` too, mean and deviation are theirs: a view scaled like the image it was made from keeps its
    brightness and contrast, which its own statistics would cancel.
    """

    per_image = True  # LIME hides parts of an image behind it (`common.explanation.lime`)

    def __init__(self, spread: float = 1.0, bgr: bool = False, centre: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spread, self.bgr, self.centre = spread, bgr, centre

    def call(self, images: Any, sources: Any = None) -> Any:
        images = ops.cast(images, "float32")  # sums over half a million pixels do not fit float16
        sources = images if sources is None else ops.cast(sources, "float32")
        mean = ops.mean(sources, axis=(1, 2, 3), keepdims=True)
        deviation = ops.std(sources, axis=(1, 2, 3), keepdims=True)
        scaled = (images - mean) * (self.spread / ops.maximum(deviation, 0.255)) + self.centre
        return ops.cast(ops.flip(scaled, axis=-1) if self.bgr else scaled, self.compute_dtype)

    def compute_output_shape(self, images_shape: tuple[int | None, ...], sources_shape: Any = None) -> tuple[int | None, ...]:
        return images_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "spread": self.spread, "bgr": self.bgr, "centre": self.centre}


@keras.saving.register_keras_serializable(package="melanoma")
class RandomView(keras.layers.Layer):
    """SimCLR's T1 and T2 (§4.2, A.3) on `(batch, h, w, 3)` 0..255: rotation, scaling, crop, flips, brightness, contrast, saturation.

    One affine map an image does the first four with a single interpolation, on the device; ranges are not stated. The colours are changed
    in pixels and clipped to 0..255; `build_simclr` then scales a view by its source's mean and deviation, which is the order of A.3
    (normalise, then augment). Random numbers come from a seed generator, which checkpoints keep.

    Args:
        scale: side of the crop, share of the image's; 0.5..1 keeps 25 to 100 % of its area.
        strength: half range of the factors for brightness, contrast and saturation.
    """

    def __init__(self, seed: int = 0, scale: tuple[float, float] = (0.5, 1.0), strength: float = 0.4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed, self.scale, self.strength = seed, tuple(scale), strength
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, images: Any) -> Any:
        images = ops.cast(images, "float32")
        batch, (height, width) = ops.shape(images)[0], images.shape[1:3]

        def draw(low: float, high: float) -> Any:
            return keras.random.uniform((batch,), low, high, seed=self.generator)

        angle, side = draw(-3.14159265, 3.14159265), draw(*self.scale)
        flip_x, flip_y = (ops.where(draw(0, 1) < 0.5, -1.0, 1.0) for _ in range(2))
        cosine, sine = ops.cos(angle) * side, ops.sin(angle) * side
        # Output pixel (x, y) reads input pixel A (x, y) + shift; the crop's middle moves as far as its side leaves room.
        a0, a1, b0, b1 = cosine * flip_x, -sine * flip_y, sine * flip_x, cosine * flip_y
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        shift_x = middle_x + draw(-1, 1) * (1 - side) * middle_x - a0 * middle_x - a1 * middle_y
        shift_y = middle_y + draw(-1, 1) * (1 - side) * middle_y - b0 * middle_x - b1 * middle_y
        zeros = ops.zeros_like(angle)
        transform = ops.stack([a0, a1, shift_x, b0, b1, shift_y, zeros, zeros], axis=1)
        views = ops.image.affine_transform(images, transform, interpolation="bilinear", fill_mode="reflect", data_format="channels_last")

        low, high = 1 - self.strength, 1 + self.strength
        brightness, contrast, saturation = (ops.reshape(draw(low, high), (-1, 1, 1, 1)) for _ in range(3))
        views = views * brightness
        views = _mix(ops.mean(_grey(views), axis=(1, 2), keepdims=True), views, contrast)
        return ops.clip(_mix(_grey(views), views, saturation), 0.0, 255.0)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed, "scale": self.scale, "strength": self.strength}


def _grey(images: Any) -> Any:
    return ops.sum(images * ops.convert_to_tensor([0.299, 0.587, 0.114], "float32"), axis=-1, keepdims=True)


def _mix(base: Any, images: Any, factor: Any) -> Any:
    return base + factor * (images - base)


@keras.saving.register_keras_serializable(package="melanoma")
class ImageStatistics(keras.layers.Layer):
    """Calls `inner` with its batch normalisation in inference mode, also in training; its weights are trained all the same.

    (A `training=False` written into a functional model is overruled by `fit`.)
    """

    def __init__(self, inner: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, x: Any) -> Any:
        return self.inner(x, training=False)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "inner": keras.saving.serialize_keras_object(self.inner)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ImageStatistics":
        return cls(**{**config, "inner": keras.saving.deserialize_keras_object(config["inner"])})


def input_spread(backbone: str) -> float:
    """Deviation of a typical photograph in the units of a backbone's weights: 58 ("caffe"), 1 ("torch"), 0.45 ("tf"), 0.23 ("unit").

    57.6 of 255 is the mean of ImageNet's three channel deviations (58.4, 57.1, 57.4); the preprocessing divides it by its scale.
    """
    scale = {"caffe": 1.0, "torch": IMAGENET_DEVIATION, "tf": 127.5, "tf128": 128.0, "unit": 255.0}[BACKBONES[backbone].preprocessing]
    return IMAGENET_DEVIATION / scale


def input_centre(backbone: str) -> float:
    """Mean of a typical photograph in those units: 0, but for networks that subtract it themselves ("unit", EfficientNet)."""
    return IMAGENET_MEAN if BACKBONES[backbone].preprocessing == "unit" else 0.0


def normalisation(kind: str, backbone: str) -> keras.layers.Layer:
    """Raw RGB 0..255 to the encoder's input: "image" (A.3) or "weights" (the fixed constants of the pre-trained weights).

    Unit variance is what PyTorch's ImageNet weights expect, which the paper used. Keras's were trained on other ranges, so "image" brings
    the standardised image to their spread and channel order (DEVIATIONS). From scratch neither matters: batch normalisation follows.
    """
    if kind == "weights":
        return preprocess_layer(backbone)
    bgr = BACKBONES[backbone].preprocessing == "caffe"
    return Standardise(input_spread(backbone), bgr=bgr, centre=input_centre(backbone), name="standardise")


def build_encoder(backbone: str, image_size: int, weights: str | None = None, pretrained: Path | None = None) -> keras.Model:
    """E1: normalised images or adapted heatmaps `(batch, size, size, 3)` -> the last feature map.

    Batch normalisation has PyTorch's momentum (0.9 as Keras counts; the paper used PyTorch), so that MobileNetV2's 0.999 does not leave the
    moving statistics at their initial values in short runs. Folded weights keep theirs frozen. `pretrained`: a file of subnetwork 1's
    weights, which take the place of `weights`.
    """
    encoder = build_backbone(backbone, image_size, None if pretrained is not None else weights)
    for layer in batch_normalisations(encoder):
        layer.momentum = 0.9
    if pretrained is not None:
        load_weights(encoder, pretrained, backbone)
    return encoder


def build_simclr(encoder: keras.Model, normalise: keras.layers.Layer, projection: int, seed: int) -> keras.Model:
    """Subnetwork 1, f_CLR = P1(E1(x)): raw images `(batch, size, size, 3)` -> embeddings of two views `(batch, 2, projection)`.

    Both views pass the encoder in one batch, so that its batch normalisation cannot tell them apart.
    """
    images = keras.Input(encoder.input_shape[1:], name="images")
    views = ops.concatenate([RandomView(seed=2 * seed + i, name=f"view_{i + 1}")(images) for i in range(2)], axis=0)
    sources = (ops.concatenate([images, images], axis=0),) if isinstance(normalise, Standardise) else ()
    scaled = normalise(views, *sources)
    features = keras.layers.GlobalAveragePooling2D(name="pool")(encoder(scaled))
    hidden = keras.layers.Dense(int(features.shape[-1]), activation="relu", name="projection_1")(features)
    embeddings = keras.layers.Dense(projection, name="projection_2", dtype="float32")(hidden)
    pairs = ops.transpose(ops.reshape(embeddings, (2, -1, projection)), (1, 0, 2))
    return keras.Model(images, pairs, name="simclr")


def build_classifier(encoder: keras.Model, normalise: keras.layers.Layer, outputs: int) -> keras.Model:
    """Subnetwork 2, f_Res = fc1(E1(x)): raw images -> one logit a task `(batch, outputs)`; sigmoid outside (DEVIATIONS row 11)."""
    images = keras.Input(encoder.input_shape[1:], name="images")
    features = keras.layers.GlobalAveragePooling2D(name="pool")(encoder(normalise(images)))
    return keras.Model(images, keras.layers.Dense(outputs, name="logits", dtype="float32")(features), name="classifier")


def heatmap_layers(encoder: keras.Model, backbone: str) -> tuple[str, ...]:
    """The twelve layers b_1 … b_12 of Algorithm 1: the last three blocks of each stage, early to late."""
    return tuple(layer for stage in feature_taps(backbone, encoder) for layer in stage)


def encoder_of(model: keras.Model) -> keras.Model:
    """E1 inside a classifier made of it, also one that was saved and loaded."""
    return next(layer for layer in model.layers if isinstance(layer, keras.Model) and len(layer.output_shape) == 4)


def skips(encoder: keras.Model, backbone: str) -> list[Any]:
    """Symbolic feature maps of the U-Net, fine to coarse: the last at half resolution (None where there is none), the end of each stage."""
    names = [half_resolution(backbone, encoder), *(stage[-1] for stage in feature_taps(backbone, encoder))]
    return [None if name is None else tensor(encoder, name) for name in names]


def _features(encoder: keras.Model, backbone: str) -> keras.Model:
    """The encoder's skips that are there, as one model."""
    return keras.Model(encoder.input, [each for each in skips(encoder, backbone) if each is not None], name="skips")


def _convolve(x: Any, channels: int, name: str) -> Any:
    for index in (1, 2):
        x = keras.layers.Conv2D(channels, 3, padding="same", use_bias=False, name=f"{name}_conv{index}")(x)
        x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn{index}")(x)
        x = keras.layers.ReLU(name=f"{name}_relu{index}")(x)
    return x


def _decode(skips: Sequence[Any], channels: int, share: float = 1.0) -> Any:
    """D1: up-convolution, skip, two convolutions, five times (Ronneberger et al. 2015); `(batch, size, size, channels)` in 0..1.

    share: of the widths `DECODER_CHANNELS`.
    """
    # The decoder's levels, coarse to fine: the half-resolution skip may be missing, the full one always is.
    x, remaining = skips[-1], [*reversed(skips[:-1]), *[None] * (len(DECODER_CHANNELS) + 1 - len(skips))]
    for level, (full, skip) in enumerate(zip(DECODER_CHANNELS, remaining, strict=True), start=1):
        width = max(4, round(share * full))
        x = keras.layers.Conv2DTranspose(width, 2, strides=2, name=f"up{level}")(x)
        if skip is not None:
            x = keras.layers.Concatenate(name=f"join{level}")([x, skip])
        x = _convolve(x, width, f"decoder{level}")
    return keras.layers.Conv2D(channels, 1, activation="sigmoid", name="mask", dtype="float32")(x)


def build_segmenter(encoder: keras.Model, backbone: str, channels: int = 1) -> keras.Model:
    """Subnetwork 3, f_Seg = D1(E1(adapter(H))): twelve heatmaps -> indicator masks `(batch, size, size, channels)` in 0..1.

    Inputs are four arrays `(batch, size/4, size/4, 3)` … `(batch, size/32, size/32, 3)` in 0..1, the maps of each stage at their own
    resolution; they are brought to `size` here, bilinearly. A 1x1 convolution makes three channels of twelve, batch normalisation gives
    them zero mean and unit variance, and a fixed factor the spread of the images E1 knows (DEVIATIONS row 4). E1's own batch normalisation
    uses its image statistics here and does not move: heatmaps would spoil them for images.
    """
    size = encoder.input_shape[1]
    inputs = [keras.Input((size // stride, size // stride, 3), name=f"heatmaps_{stride}") for stride in STRIDES]
    grown = [keras.layers.UpSampling2D(s, interpolation="bilinear", name=f"grow_{s}")(x) for s, x in zip(STRIDES, inputs, strict=True)]
    stacked = keras.layers.Concatenate(name="heatmaps")(grown)
    adapted = keras.layers.Conv2D(3, 1, name="adapter")(stacked)
    adapted = keras.layers.BatchNormalization(momentum=0.9, name="adapter_bn")(adapted)
    adapted = keras.layers.Rescaling(input_spread(backbone), offset=input_centre(backbone), name="adapter_spread")(adapted)
    skips = ImageStatistics(_features(encoder, backbone), name="encoder")(adapted)
    return keras.Model(inputs, _decode(skips, channels), name="segmenter")


def build_plain_unet(encoder: keras.Model, normalise: keras.layers.Layer, backbone: str) -> keras.Model:
    """§3's "naive idea", a baseline: raw images -> one indicator's mask `(batch, size, size, 1)` with the same encoder and decoder."""
    images = keras.Input(encoder.input_shape[1:], name="images")
    return keras.Model(images, _decode(_features(encoder, backbone)(normalise(images)), 1), name="plain_unet")


def build_shared(
    encoder: keras.Model, normalise: keras.layers.Layer, backbone: str, indicators: int, masks: int, decoder_width: float = 1.0
) -> keras.Model:
    """The design of reading `corrected`: raw images -> {"melanoma": logit `(batch, 1)`, "indicators": logits `(batch, indicators)`,
    "masks": drawings `(batch, size, size, masks)` in 0..1}, the last two only where there are any. One encoder; the U-Net reads its maps.
    """
    images = keras.Input(encoder.input_shape[1:], name="images")
    scaled = normalise(images)
    # Through the features model alone, so that the encoder runs once; its last output is the encoder's own.
    maps = _features(encoder, backbone)(scaled) if masks else [encoder(scaled)]
    features = keras.layers.GlobalAveragePooling2D(name="pool")(maps[-1])
    found = {"melanoma": keras.layers.Dense(1, name="melanoma", dtype="float32")(features)}
    if indicators:
        found["indicators"] = keras.layers.Dense(indicators, name="indicators", dtype="float32")(features)
    if masks:
        found["masks"] = _decode(maps, masks, decoder_width)
    return keras.Model(images, found, name="shared")


def build_final(encoders: Sequence[keras.Model], normalise: keras.layers.Layer, classes: int = 2) -> keras.Model:
    """Subnetwork 4, S(v(x)): raw images -> concatenated features of the encoders -> softmax `(batch, classes)`, layer "predictions".

    A softmax layer of two classes is the logistic regression of Algorithm 1 (DEVIATIONS row 10). The layer "indicators" holds v(x).
    """
    images = keras.Input(encoders[0].input_shape[1:], name="images")
    scaled = normalise(images)
    pooled = [keras.layers.GlobalAveragePooling2D(name=f"pool_{index}")(encoder(scaled)) for index, encoder in enumerate(encoders)]
    features = (
        keras.layers.Concatenate(name="indicators")(pooled) if len(pooled) > 1 else keras.layers.Identity(name="indicators")(pooled[0])
    )
    predictions = keras.layers.Dense(classes, activation="softmax", name="predictions", dtype="float32")(features)
    return keras.Model(images, predictions, name="bio_u_net")


def with_features(final: keras.Model) -> keras.Model:
    """The final classifier with both outputs, [v(x) `(batch, d)`, probabilities `(batch, classes)`]: one compiled pass serves both."""
    return keras.Model(final.input, [final.get_layer("indicators").output, final.output], name="features_and_predictions")
