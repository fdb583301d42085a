"""How good class and region are: one pass over images, then averages, intervals, the four cases, and what trivial maps would reach."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from common.explanation.gradcam import compiled, in_batches
from common.metrics.classification import auc
from common.metrics.overlap import jaccard_index
from common.metrics.statistics import bootstrap_interval, paired_bootstrap
from feedback.models import SelfExplaining, upsample
from feedback.paper import CASES, REGION_RIGHT

# An area under the curve sorts its images in every resample.
AREA_RESAMPLES = 500


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
        truth = np.eye(self.model.classifier.output_shape[-1], dtype="float32")
        chosen = truth[np.zeros(len(images), int) if classes is None else np.asarray(classes)]

        def outputs(batch, weights):
            found = [ops.cast(each, "float32") for each in self._both(np.asarray(batch, "float32"), weights)]
            return found if size is None else (found[0], *(upsample(each, (size, size)) for each in found[1:]))

        return tuple(in_batches(outputs, self.batch_size, images, chosen))


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


def class_scores(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """`balanced_accuracy` (average sensitivity) and macro `auc`, both over the classes that occur, and `share_<class>` of the predictions.

    Labels `(n,)` class numbers, probabilities `(n, K)`.
    """
    predicted = probabilities.argmax(axis=1)
    areas = [auc(labels == k, probabilities[:, k]) for k in np.unique(labels)]
    known = [area for area in areas if area is not None]
    return {
        "balanced_accuracy": balanced_accuracy(np.stack([labels, predicted], axis=1)),
        "auc": float(np.mean(known)) if known else float("nan"),
        **{f"share_{name}": float((predicted == k).mean()) for k, name in enumerate(classes)},
    }


def balanced_accuracy(rows: np.ndarray) -> float:
    """Mean sensitivity over the classes that occur in rows `(n, 2)` of true and predicted class numbers."""
    return float(np.mean([(rows[rows[:, 0] == k, 1] == k).mean() for k in np.unique(rows[:, 0])]))


def summary(found: Assessment, classes: Sequence[str], groups: Sequence[str] | None = None) -> dict[str, Any]:
    """What the thesis's tables show of a test set, with intervals (95 % bootstrap over `groups`, names of lesions, or over images).

    `accuracy` is over all outputs of the model; `accuracy_among_present` lets it choose only among the classes that occur (facts, section
    4.2, row 22). `average_sensitivity` (balanced accuracy) and `auc` are over the classes that occur. `jaccard` has mean, deviation over
    images, interval and n; images without a mask do not count and are numbered in `unmarked`. `cases` are those of figure 4.1.
    """
    present = sorted(set(found.labels.tolist()))
    predicted = found.probabilities.argmax(axis=1)
    pairs = np.stack([found.labels, predicted], axis=1)
    among = np.asarray(present)[found.probabilities[:, present].argmax(axis=1)]
    scores = class_scores(found.labels, found.probabilities, classes)
    return {
        "images": len(found.labels),
        "accuracy": float(found.right.mean()),
        "accuracy_interval": list(bootstrap_interval(found.right.astype(float), groups=groups)),
        "accuracy_among_present": float((among == found.labels).mean()),
        "sensitivity": {classes[k]: float((predicted[found.labels == k] == k).mean()) for k in present},
        "average_sensitivity": scores["balanced_accuracy"],
        "average_sensitivity_interval": list(bootstrap_interval(pairs, balanced_accuracy, groups=groups)),
        "auc": scores["auc"],
        "predicted": {name: int((predicted == k).sum()) for k, name in enumerate(classes)},
        "jaccard": spread(found.jaccard, groups),
        "jaccard_truth": spread(found.jaccard_truth, groups),
        "unmarked": int(np.isnan(found.jaccard).sum()),
        "cases": cases(found),
    }


def spread(values: np.ndarray, groups: Sequence[str] | None = None) -> dict[str, Any]:
    """Mean, standard deviation over images, bootstrap interval and number of the values that are not NaN."""
    known = ~np.isnan(values)
    groups = None if groups is None else np.asarray(groups)[known]
    values = values[known]
    if not len(values):
        return {"mean": None, "deviation": None, "interval": None, "n": 0}
    interval = list(bootstrap_interval(values, groups=groups))
    return {"mean": float(values.mean()), "deviation": float(values.std()), "interval": interval, "n": len(values)}


def cases(found: Assessment) -> dict[str, int]:
    """Images by the thesis's four cases; a region is right from a Jaccard index of `REGION_RIGHT` on, and an unmarked one is not wrong."""
    region = np.isnan(found.jaccard) | (np.nan_to_num(found.jaccard) >= REGION_RIGHT)
    wanted = ((True, True), (True, False), (False, True), (False, False))
    return {name: int(((found.right == a) & (region == b)).sum()) for name, (a, b) in zip(CASES, wanted, strict=True)}


def difference(before: Assessment, after: Assessment, classes: Sequence[str], groups: Sequence[str] | None = None) -> dict[str, Any]:
    """After minus before on the same images, with paired bootstrap intervals: accuracy, average sensitivity, AUC, and the Jaccard index
    of the marked images."""
    names = np.asarray(groups) if groups is not None else None
    marked = ~np.isnan(before.jaccard)

    def area(rows: np.ndarray) -> float:
        found = class_scores(rows[:, 0].astype(int), rows[:, 1:], classes)["auc"]
        return found if np.isfinite(found) else 0.5  # a resample of one class orders nothing

    sides = (before, after)
    right = [one.right.astype(float) for one in sides]
    pairs = [np.stack([one.labels, one.probabilities.argmax(axis=1)], axis=1) for one in sides]
    scores = [np.column_stack([one.labels, one.probabilities]) for one in sides]
    found = {
        "accuracy": paired_bootstrap(*right, groups=names),
        "average_sensitivity": paired_bootstrap(*pairs, balanced_accuracy, groups=names),
        "auc": paired_bootstrap(*scores, area, groups=names, resamples=AREA_RESAMPLES),
    }
    if marked.any():
        kept = None if names is None else names[marked]
        found["jaccard"] = paired_bootstrap(before.jaccard[marked], after.jaccard[marked], groups=kept)
    return {name: {"value": one.value, "interval": [one.low, one.high]} for name, one in found.items()}


def trivial_maps(masks: np.ndarray, training: np.ndarray, threshold: float = 0.5) -> dict[str, dict[str, Any]]:
    """Jaccard index that maps reach which look at no image; every localisation stands beside them.

    Args:
        masks: `(n, size, size)` uint8 0..255, of the test images. training: `(m, size, size)`, of the training images.
        threshold: from which the mean training mask is cut, as a share of its maximum.

    Returns:
        `whole_image`; `centred_blob`, a centred circle of the average area of the training masks; `mean_mask`, the mean training mask;
        `ellipse`, a centred circle of each mask's OWN area, which knows of the test image how large its lesion is.
    """
    inside, size = masks >= 128, masks.shape[1]
    inside = inside[inside.any(axis=(1, 2))]
    known = training[training.any(axis=(1, 2))] >= 128
    mean = known.mean(axis=0) if len(known) else np.zeros((size, size))
    blob = centred_circle(size, round(float(mean.sum())))
    whole = np.ones((size, size))
    return {
        "whole_image": spread(np.array([jaccard_index(mask, whole) for mask in inside])),
        "centred_blob": spread(np.array([jaccard_index(mask, blob) for mask in inside])),
        "mean_mask": spread(np.array([jaccard_index(mask, mean / max(mean.max(), 1e-9), threshold) for mask in inside])),
        "ellipse": spread(np.array([jaccard_index(mask, centred_circle(size, int(mask.sum()))) for mask in inside])),
    }


def centred_circle(size: int, pixels: int) -> np.ndarray:
    """`(size, size)` bool: the `pixels` pixels nearest to the centre."""
    offsets = np.arange(size) - (size - 1) / 2
    order = np.argsort(offsets[:, None] ** 2 + offsets[None, :] ** 2, axis=None, kind="stable")
    circle = np.zeros(size * size, bool)
    circle[order[:pixels]] = True
    return circle.reshape(size, size)


def uncertainty_order(probabilities: np.ndarray) -> np.ndarray:
    """Row numbers, the image with the highest entropy of its probabilities first; equal ones in the order given."""
    clipped = np.clip(probabilities, 1e-12, 1.0)
    return np.argsort((clipped * np.log(clipped)).sum(axis=1), kind="stable")
