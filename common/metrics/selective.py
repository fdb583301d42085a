"""When to stay silent: the error among the images that a classifier is surest of, for every share of images that it answers.

El-Yaniv & Wiener 2010 (risk-coverage trade-off); Geifman, Uziel & El-Yaniv 2019, section 2 (AURC, its excess over the best ordering).
"""

from __future__ import annotations

import numpy as np


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage 1/n … 1 `(n,)` and risk `(n,)`, the error rate among that share of most confident images.

    confidence: `(n,)`, higher is surer; correct: `(n,)` bool. Of equally confident images none comes first: each place among them has
    their mean error, so the order of the file does not matter.
    """
    confidence, wrong = np.asarray(confidence, np.float64), 1.0 - np.asarray(correct, np.float64)
    if confidence.shape != wrong.shape or confidence.ndim != 1 or not len(confidence):
        raise ValueError(f"expected two (n,) arrays with at least one image, got {confidence.shape} and {wrong.shape}")
    _, place = np.unique(-confidence, return_inverse=True)
    error = (np.bincount(place, wrong) / np.bincount(place))[np.sort(place)]
    number = np.arange(1, len(error) + 1)
    return number / len(error), np.cumsum(error) / number


def aurc(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Area under the risk-coverage curve, the mean of its risks: 0 is perfect, the error rate is what a random order has on average."""
    return float(risk_coverage(confidence, correct)[1].mean())


def excess_aurc(confidence: np.ndarray, correct: np.ndarray) -> float:
    """`aurc` minus that of the best possible order, all errors last: 0 when the confidence sorts errors perfectly."""
    return aurc(confidence, correct) - aurc(np.asarray(correct, np.float64), correct)
