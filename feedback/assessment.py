"""How good class and region are: one pass over images, then averages, intervals, the four cases, and what an ellipse would reach."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from keras import ops

from common.explanation.gradcam import compiled
from common.metrics.classification import bootstrap_interval, jaccard_index, paired_bootstrap
from feedback.config import CASES
from feedback.models import SelfExplaining, upsample


@dataclass(frozen=True)
class Assessment:
    """One row an image, in the order asked for. Jaccard indices are at the hard threshold and NaN for images without a mask.

    Attributes:
        labels: `(n,)` true class numbers.
        probabilities: `(n, classes)`.
        jaccard: `(n,)`, map of the predicted class: what a user would be shown.
        jaccard_truth: `(n,)`, map of the true class: what training looks at.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    jaccard: np.ndarray
    jaccard_truth: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """`(n,)` bool: the predicted class is the true one."""
        return self.probabilities.argmax(axis=1) == self.labels


class Explainer:
    """The compiled forward pass of a `SelfExplaining` model: `explainer(images, classes)` for any number of images."""

    def __init__(self, model: SelfExplaining, batch_size: int = 32) -> None:
        self.model, self.batch_size = model, batch_size

        def both(images, truth):
            outputs = model(ops.cast(images, "float32"), training=False)
            logits = outputs["logits"]
            shown = ops.one_hot(ops.argmax(logits, axis=-1), logits.shape[-1])
            maps = [model.saliency(ops.cast(images, "float32"), outputs["activations"], chosen)[0] for chosen in (shown, truth)]
            return outputs["probabilities"], *maps

        self._both = compiled(both, model)

    def __call__(self, images: np.ndarray, classes: np.ndarray | None = None, size: int | None = None) -> tuple[np.ndarray, ...]:
        """Probabilities `(n, K)`, maps of the predicted class and of `classes` `(n,)`, both `(n, h, w)` in 0..1, or upsampled to `size`.

        Images `(n, H, W, 3)` raw RGB 0..255.
        """
        count = self.model.classifier.output_shape[-1]
        chosen = np.zeros(len(images), int) if classes is None else np.asarray(classes)
        parts = []
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            truth = np.eye(count, dtype="float32")[chosen[start : start + self.batch_size]]
            # A last batch that is not full is filled up: another shape would be another compilation.
            short = self.batch_size - len(batch) if len(images) > self.batch_size else 0
            outputs = self._both(_filled(np.asarray(batch, "float32"), short), _filled(truth, short))
            outputs = [ops.convert_to_numpy(ops.cast(x, "float32")) for x in outputs]
            if size is not None:
                outputs[1:] = [ops.convert_to_numpy(upsample(ops.convert_to_tensor(x), (size, size))) for x in outputs[1:]]
            parts.append([x[: len(batch)] for x in outputs])
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _filled(array: np.ndarray, short: int) -> np.ndarray:
    return np.concatenate([array, np.repeat(array[-1:], short, axis=0)]) if short else array


def assess(explainer: Explainer, images: np.ndarray, labels: np.ndarray, masks: np.ndarray, rows: np.ndarray) -> Assessment:
    """Class and region of the images `rows`.

    Args:
        images: `(N, size, size, 3)` uint8; labels `(N,)` class numbers; masks `(N, size, size)` uint8 0..255; rows `(n,)` row numbers.
    """
    size, cut, step = masks.shape[1], explainer.model.cut, 8 * explainer.batch_size
    found = []
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        probabilities, shown, truth = explainer(images[part], labels[part], size)
        # Same comparison as in the loss: masks of graded feedback are inside from a half on.
        inside = masks[part] >= 128
        marked = masks[part].any(axis=(1, 2))
        scores = [np.where(marked, jaccard_index(inside, maps, cut), np.nan) for maps in (shown, truth)]
        found.append((probabilities, *scores))
    probabilities, jaccard, jaccard_truth = (np.concatenate(column) for column in zip(*found, strict=True))
    return Assessment(labels[rows], probabilities, jaccard, jaccard_truth)


def summary(found: Assessment, classes: Sequence[str], region_threshold: float = 0.5, seed: int = 0) -> dict:
    """What the thesis's tables show of a test set, with intervals (95 % bootstrap over images).

    `accuracy` is over all outputs of the model; `accuracy_among_present` lets it choose only among the classes that occur (facts, section
    4.2, row 22). `average_sensitivity` is over the classes that occur. `jaccard` has mean, deviation over images, interval and n; images
    without a mask do not count and are numbered in `unmarked`. `cases` are the four of the issue the thesis sets out from.
    """
    present = sorted(set(found.labels.tolist()))
    predicted = found.probabilities.argmax(axis=1)
    among = np.asarray(present)[found.probabilities[:, present].argmax(axis=1)]
    sensitivity = {classes[k]: float((predicted[found.labels == k] == k).mean()) for k in present}
    return {
        "images": len(found.labels),
        "accuracy": float(found.right.mean()),
        "accuracy_interval": list(bootstrap_interval(found.right.astype(float), seed=seed)),
        "accuracy_among_present": float((among == found.labels).mean()),
        "sensitivity": sensitivity,
        "average_sensitivity": float(np.mean(list(sensitivity.values()))),
        "jaccard": spread(found.jaccard, seed),
        "jaccard_truth": spread(found.jaccard_truth, seed),
        "unmarked": int(np.isnan(found.jaccard).sum()),
        "cases": cases(found, region_threshold),
    }


def spread(values: np.ndarray, seed: int = 0) -> dict:
    """Mean, standard deviation over images, bootstrap interval and number of the values that are not NaN."""
    values = values[~np.isnan(values)]
    if not len(values):
        return {"mean": None, "deviation": None, "interval": None, "n": 0}
    return {
        "mean": float(values.mean()), "deviation": float(values.std()),
        "interval": list(bootstrap_interval(values, seed=seed)), "n": len(values),
    }  # fmt: skip


def cases(found: Assessment, region_threshold: float = 0.5) -> dict[str, int]:
    """Images by the thesis's four cases; a region is right from `region_threshold` on, and an unmarked one is not wrong."""
    region = np.isnan(found.jaccard) | (np.nan_to_num(found.jaccard) >= region_threshold)
    wanted = ((True, True), (True, False), (False, True), (False, False))
    return {name: int(((found.right == a) & (region == b)).sum()) for name, (a, b) in zip(CASES, wanted, strict=True)}


def difference(before: Assessment, after: Assessment, seed: int = 0) -> dict:
    """After minus before on the same images, with paired bootstrap intervals: accuracy, and Jaccard index of the marked images."""
    marked = ~np.isnan(before.jaccard)
    pairs = {"accuracy": (before.right.astype(float), after.right.astype(float))}
    if marked.any():
        pairs["jaccard"] = (before.jaccard[marked], after.jaccard[marked])
    result = {}
    for name, (first, second) in pairs.items():
        found = paired_bootstrap(first, second, seed=seed)
        result[name] = {"value": found.value, "interval": [found.low, found.high]}
    return result


def ellipse_baseline(masks: np.ndarray, seed: int = 0) -> dict:
    """Jaccard index of a centred ellipse with each mask's own area (a circle in the square image): what no network is needed for.

    Args:
        masks: `(n, size, size)` uint8 0..255.
    """
    size = masks.shape[1]
    offsets = np.arange(size) - (size - 1) / 2
    distance = offsets[:, None] ** 2 + offsets[None, :] ** 2
    scores = []
    for mask in masks >= 128:
        if not mask.any():
            continue
        # The pixels nearest to the centre, as many as are marked: the discrete circle of just that area.
        nearest = np.zeros(size * size, bool)
        nearest[np.argsort(distance, axis=None, kind="stable")[: int(mask.sum())]] = True
        scores.append(float(jaccard_index(mask, nearest.reshape(size, size))))
    return spread(np.asarray(scores), seed)


def whole_image_baseline(masks: np.ndarray, seed: int = 0) -> dict:
    """Jaccard index of a map that covers the whole image: the mask's share of it."""
    inside = masks >= 128
    return spread(inside[inside.any(axis=(1, 2))].mean(axis=(1, 2)), seed)


def uncertainty_order(probabilities: np.ndarray) -> np.ndarray:
    """Row numbers, the image with the highest entropy of its probabilities first; equal ones in the order given."""
    clipped = np.clip(probabilities, 1e-12, 1.0)
    return np.argsort((clipped * np.log(clipped)).sum(axis=1), kind="stable")
