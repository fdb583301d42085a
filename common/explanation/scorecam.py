"""Score-CAM (Wang et al. 2020, "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks"), streamed.

Each channel A_k is enlarged to the image, scaled to 0..1 (eq. 5), and multiplied with the image; the class probability of that
masked image is the channel's weight, and the map is ReLU(sum_k weight_k A_k) (eq. 7). As in the authors' code the weights are the
probabilities themselves, and channels that are constant over the image are skipped. `weights="softmax"` follows Algorithm 1 of
the text instead: softmax over k of the increase of the logit over a black image.

Masks are enlarged with the corner samples on the image's corners (`scipy.ndimage.zoom`), as the papers' toolkit does; the authors'
code aligns pixel centres instead (`align="centres"`). The paper leaves it open.

Masks are made, applied and forgotten chunk by chunk inside one compiled function, so the memory is that of one small batch.
The Faster variant (tabayashi0117, "Faster Score-CAM"; the thesis' choice) keeps the channels with the largest standard deviation.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from common.explanation import gradcam as g
from common.explanation.cams import Layer, resize_matrix
from common.explanation.folding import folded_forward
from common.explanation.prepared import chunk_size, prepared

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


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def score_map(
    model, image, activations, class_weights, *, max_channels=None, align="corners", weights="probability", chunk=None
) -> np.ndarray:
    """One map (h, w), undivided: `activations` (h, w, channels) of `image` (H, W, 3), `class_weights` (classes,)."""
    channels = np.ascontiguousarray(np.moveaxis(activations, -1, 0), dtype="float32")
    spread = channels.std(axis=(1, 2))
    if max_channels is not None and max_channels < len(channels):
        # Stable: equal spreads keep their order, so the choice is the same everywhere.
        channels = channels[np.argsort(-spread, kind="stable")[:max_channels]]
    channels = channels[channels.max(axis=(1, 2)) > channels.min(axis=(1, 2))]
    if not len(channels):
        return np.zeros(activations.shape[:2], "float32")
    logits = channel_logits(model, image, channels, align=align, chunk=chunk)
    # Algorithm 1 subtracts the black image's logit, which is the same for every k, so softmax over k cancels it.
    share = _softmax(logits) @ class_weights if weights == "probability" else _softmax((logits @ class_weights)[None])[0]
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
