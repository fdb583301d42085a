"""What a mistake costs: `--costs balanced|printed|FILE` to class costs `(K,)` or a full matrix `(K, K)`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cervical.paper import printed_costs
from common.errors import UsageError
from common.report.decision import read_costs as class_costs


def balanced_costs(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """`(K,)` n / (K n_c) from the training images a class; 1 for classes of equal size (scikit-learn's "balanced")."""
    counts = np.asarray(counts, dtype="float64")
    return counts.sum() / (len(counts) * counts)


def read_costs(choice: str, classes: Sequence[str], counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Costs in the order of `classes`: `(K,)`, or `(K, K)` with the truth in rows, the prediction in columns and a zero diagonal.

    Args:
        choice: "balanced" (from `counts`, the training images a class), "printed" (paper III-C.2), or a file: JSON `{class: cost}` or
            `{class: {class: cost}}`; CSV with rows `class,cost`, or a matrix with the predicted classes in its first line.

    Raises:
        UsageError: classes that the paper prints no cost for; a file that is no such table, lacks a class or holds a negative number.
    """
    if choice == "balanced":
        return balanced_costs(counts)
    if choice == "printed":
        printed = printed_costs()
        if set(classes) != set(printed):
            raise UsageError(
                "--costs printed: the paper prints costs for SIPaKMeD's five classes only; expected --costs balanced or a FILE"
            )
        return np.array([printed[name] for name in classes])
    return class_costs(Path(choice), classes)
