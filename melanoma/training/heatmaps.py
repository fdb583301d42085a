"""Subnetwork 2's Grad-CAM maps: the twelve that subnetwork 3 reads, and the last one, which is scored (§4.3, A.3)."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from common.errors import UsageError
from common.explanation.gradcam import compiled, in_batches, layer_gradients, map_from_gradients, tapped_model
from melanoma.experiments.train import BioUNetSettings
from melanoma.models import STRIDES, encoder_of, heatmap_layers
from melanoma.training.inputs import Inputs

BATCH = 32


def outputs_of(group: Sequence[str], settings: BioUNetSettings, present: Sequence[str]) -> tuple[str, ...]:
    """What a group's encoder predicts (Table 5): its indicators, melanoma, or both.

    An indicator that every image has teaches nothing (lesion masks do), so only those of `present`, which vary, are outputs; then
    melanoma is always one.
    """
    indicators = tuple(name for name in group if name in present)
    return indicators if indicators and settings.tasks in ("one", "five") else (*indicators, "melanoma")


def groups_of(settings: BioUNetSettings, indicators: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Indicators that share an encoder: one each, or all together in the multi-task rows; none for the plain classifier f_Res."""
    if settings.plain():
        return [()]
    return [indicators] if settings.tasks in ("five", "six") else [(name,) for name in indicators]


def target_weights(outputs: Sequence[str], indicators: Sequence[str], target: str) -> tuple[np.ndarray, bool]:
    """Weights `(outputs,)` of the score behind a map, and whether its sign follows the prediction.

    "indicator": the mean of the indicators' logits; "melanoma": its logit; "predicted": the logit of the predicted diagnosis, which is the
    negative of melanoma's where that is below zero; "auto": the indicators where they are outputs, else "predicted".
    """
    wanted = [name for name in indicators if name in outputs]
    if target == "indicator" or (target == "auto" and wanted):
        if not wanted:
            raise UsageError(
                f"--target {target}: {', '.join(indicators) or 'no indicator'} is no output of the encoder ({', '.join(outputs)})"
            )
        return np.array([(name in wanted) / len(wanted) for name in outputs], "float32"), False
    if "melanoma" not in outputs:
        raise UsageError(f"--target {target}: melanoma is no output of the encoder ({', '.join(outputs)})")
    return np.array([name == "melanoma" for name in outputs], "float32"), target != "melanoma"


class HeatmapMaker:
    """Grad-CAM maps of a classifier, all layers in one pass, compiled once; the classifier's weights are read at every call.

    Args:
        classifier: raw images -> logits `(batch, outputs)`.
        layers: names of the layers to map.
    """

    def __init__(self, classifier: keras.Model, layers: Sequence[str]) -> None:
        taps = tapped_model(classifier, list(layers))
        taps = taps[0] if isinstance(taps, tuple) else taps

        def maps(images, weights, follow):
            activations, gradients, logits = layer_gradients(taps, images, weights)
            score = ops.sum(ops.cast(logits, "float32") * weights, axis=-1)
            # The gradient is linear in the score, so the predicted side costs no second pass.
            sign = ops.cast(ops.where(ops.logical_and(follow > 0, score < 0), -1.0, 1.0), "float32")
            sign = ops.reshape(sign, (-1, 1, 1, 1))
            return [map_from_gradients(a, g * sign) for a, g in zip(activations, gradients, strict=True)]

        self._maps = compiled(maps, taps)

    def __call__(self, images: np.ndarray, weights: np.ndarray, follow: bool = False) -> list[np.ndarray]:
        """Maps [(n, h, w) float32 in 0..1 …], one a layer. images `(n, size, size, 3)` 0..255, weights `(outputs,)`."""
        size, sign = min(BATCH, len(images)), ops.convert_to_tensor(float(follow), "float32")
        repeated = ops.convert_to_tensor(np.repeat(weights[None], size, axis=0))
        return in_batches(lambda batch: self._maps(ops.convert_to_tensor(np.asarray(batch, "float32")), repeated, sign), size, images)


def twelve(maker: HeatmapMaker, inputs: Inputs, rows: np.ndarray, weights: np.ndarray, follow: bool) -> list[np.ndarray]:
    """H = (h_1 … h_12) of the images `rows`, as `by_stage`.

    They stay at each stage's own resolution (26 kB an image at 224 px, twelve full-size maps would be 2.4 MB).
    """
    chunks = [rows[start : start + 8 * BATCH] for start in range(0, len(rows), 8 * BATCH)]
    blocks = [by_stage(maker(inputs.images[chunk], weights, follow)) for chunk in chunks]
    return [np.concatenate(stage) for stage in zip(*blocks, strict=True)]


def by_stage(maps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Twelve maps [(n, h, w)] as the U-Net reads them: four arrays `(n, size/stride, size/stride, 3)` float16 in 0..1."""
    return [np.stack(maps[3 * stage : 3 * stage + 3], axis=-1).astype("float16") for stage in range(len(STRIDES))]


def twelve_maker(classifier: keras.Model, backbone: str) -> HeatmapMaker:
    return HeatmapMaker(classifier, heatmap_layers(encoder_of(classifier), backbone))
