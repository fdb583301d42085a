"""Frequent and rare classes apart: F1 of head, middle and tail, thirds of the classes by their number of training images.

A claim about minority classes needs the minority classes' own score: macro F1 mixes all, accuracy is the majority's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from common.metrics.classification import class_indices, class_scores, confusion
from common.metrics.metric import Metric

Part = Literal["head", "middle", "tail"]


def thirds(class_counts: Sequence[int]) -> dict[Part, list[int]]:
    """Class numbers of each part: the K // 3 classes (at least one) with most training images, those with fewest, and the ones between.

    Of equal counts the earlier class is the more frequent one. ValueError below two classes.
    """
    count = len(class_counts)
    if count < 2:
        raise ValueError(f"expected the counts of at least two classes, got {count}")
    order = sorted(range(count), key=lambda index: -class_counts[index])
    size = max(1, count // 3)
    return {"head": order[:size], "middle": order[size : count - size], "tail": order[count - size :]}


def part_metric(part: Part, class_counts: Sequence[int]) -> Metric:
    """Mean F1 of the part's classes that occur in truth or predictions of the images at hand; 0 where none does. Named "tail_f1"."""
    members = thirds(class_counts)[part]

    def mean_f1(matrix: np.ndarray) -> np.ndarray:
        f1 = class_scores(matrix)["f1"][..., members]
        there = (matrix.sum(axis=-1) + matrix.sum(axis=-2) > 0)[..., members]
        return (f1 * there).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)

    return Metric(f"{part}_f1", of_confusion=mean_f1)


def part_scores(labels: Sequence, predicted: Sequence, classes: Sequence[str], class_counts: Sequence[int]) -> dict[str, float]:
    """{"head_f1": …, "middle_f1": …, "tail_f1": …} of `(n,)` names or numbers; a part without classes is left out."""
    matrix = confusion(class_indices(labels, classes), class_indices(predicted, classes), len(classes))
    found = {}
    for part, members in thirds(class_counts).items():
        metric = part_metric(part, class_counts)
        if members and metric.of_confusion is not None:
            found[metric.name] = float(metric.of_confusion(matrix))
    return found
