"""Score-CAM (Wang et al. 2020, "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks"), streamed.

Each channel A_k is enlarged to the image, scaled to 0..1 (eq. 5), and multiplied with the image; the class probability of that
masked image is the channel's weight, and the map is ReLU(sum_k weight_k A_k) (eq. 7). Channels that are constant over the image
are skipped.

Two forms. The default, `weights="probability"`, is that of the authors' code and of tf-keras-vis, with which the papers of this
suite drew their maps: the weights are the class probabilities themselves, each from the model's own softmax or sigmoid.
`weights="softmax"` is Algorithm 1 of the text: softmax over k of the increase of the class score, before softmax or sigmoid, over
that of the baseline image. One channel easily gets nearly all of that weight when the scores differ by more than a few units.

The baseline, what a mask leaves of a pixel where it is 0, is the raw value 0, black. The authors' code masks images that are
already normalised, where 0 is the mean colour; our models take raw pixels and normalise inside, as those of tf-keras-vis do.

Masks are enlarged with the corner samples on the image's corners (`scipy.ndimage.zoom`), as the papers' toolkit does; the authors'
code aligns pixel centres instead (`align="centres"`). The paper leaves it open.

Masks are made, applied and forgotten chunk by chunk inside one compiled function, so the memory is that of one small batch.
The Faster variant (tabayashi0117, "Faster Score-CAM"; the thesis' choice) keeps the channels with the largest standard deviation.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops
from scipy.special import softmax

from common.errors import UsageError
from common.explanation import gradcam as g
from common.explanation.folding import folded_forward
from common.explanation.graph import output_activation
from common.explanation.prepared import chunk_size, prepared
from common.explanation.resize import resize_matrix

Layer = str | None

_TINY = 1e-7


def _scorer(model: keras.Model):
    """Compiled `(image (H,W,3), channels (n,h,w), rows (H,h), columns (W,w)) -> logits (n, classes)` of the masked images."""
    logits = g.logits_model(model)
    forward = folded_forward(logits)

    def score(image, channels, rows, columns):
        masks = ops.matmul(ops.matmul(rows, channels), ops.transpose(columns))
        lowest = ops.min(masks, axis=(1, 2), keepdims=True)
        highest = ops.max(masks, axis=(1, 2), keepdims=True)
        masks = (masks - lowest) / (highest - lowest + _TINY)
        return ops.cast(forward(image[None] * masks[..., None]), "float32")

    return g.compiled(score, logits)


def channel_logits(model, image: np.ndarray, channels: np.ndarray, *, align: str = "corners", chunk: int | None = None) -> np.ndarray:
    """Logits (n, classes) of `image` (H, W, 3) masked with each of `channels` (n, h, w)."""
    score = prepared(model, "masked scores", lambda: _scorer(model))
    chunk = min(chunk or chunk_size(), len(channels))
    rows = resize_matrix(channels.shape[1], image.shape[0], align)
    columns = resize_matrix(channels.shape[2], image.shape[1], align)
    results = []
    for start in range(0, len(channels), chunk):
        part = channels[start : start + chunk]
        # The last chunk is filled up: another shape would be traced and compiled anew.
        filled = np.concatenate([part, np.zeros((chunk - len(part), *part.shape[1:]), part.dtype)]) if len(part) < chunk else part
        results.append(ops.convert_to_numpy(score(image, filled, rows, columns))[: len(part)])
    return np.concatenate(results)


def class_probabilities(model: keras.Model, logits: np.ndarray) -> np.ndarray:
    """Logits (n, classes) -> probabilities, by the activation at the model's end; softmax where it ends in plain scores.

    UsageError for one plain score: whether a sigmoid belongs to it, or it is no probability at all, cannot be told.
    """
    activation = output_activation(model)
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
    if logits.shape[-1] == 1:
        raise UsageError(f"Score-CAM weighs channels by class probabilities; the model has one output with the activation {activation!r}")
    return softmax(logits, axis=-1)


def score_map(
    model, image, activations, class_weights, *, max_channels=None, align="corners", weights="probability", chunk=None
) -> np.ndarray:
    """One map (h, w), undivided: `activations` (h, w, channels) of `image` (H, W, 3), `class_weights` (classes,).

    `weights`, `align`: see the module's docstring. UsageError as `class_probabilities`.
    """
    channels = np.ascontiguousarray(np.moveaxis(activations, -1, 0), dtype="float32")
    spread = channels.std(axis=(1, 2))
    if max_channels is not None and max_channels < len(channels):
        # Stable: equal spreads keep their order, so the choice is the same everywhere.
        channels = channels[np.argsort(-spread, kind="stable")[:max_channels]]
    channels = channels[channels.max(axis=(1, 2)) > channels.min(axis=(1, 2))]
    if not len(channels):
        return np.zeros(activations.shape[:2], "float32")
    logits = channel_logits(model, image, channels, align=align, chunk=chunk)
    # Algorithm 1 subtracts the baseline image's score, which is the same for every k, so softmax over k cancels it.
    share = class_probabilities(model, logits) @ class_weights if weights == "probability" else softmax(logits @ class_weights)
    return np.maximum(np.tensordot(share, channels, axes=1), 0)


def score_maps(
    model, images: np.ndarray, class_weights: np.ndarray, layers: Sequence[Layer], *, max_channels: int | None = None, **options
) -> list[np.ndarray]:
    """Maps [(batch, h, w) …] in 0..1 for each layer, divided by their maximum; constant maps are zeros."""

    def make():
        taps = g.tapped_model(model, layers)
        return g.compiled(lambda x: taps(x, training=False)[:-1], taps)

    activations = prepared(model, ("maps", tuple(layers)), make)(images)
    maps = []
    for layer_activations in activations:
        array = ops.convert_to_numpy(ops.cast(layer_activations, "float32"))
        raw = [
            score_map(model, image, a, w, max_channels=max_channels, **options)
            for image, a, w in zip(images, array, class_weights, strict=True)
        ]
        maps.append(ops.convert_to_numpy(g.normalise_map(np.stack(raw))))
    return maps
