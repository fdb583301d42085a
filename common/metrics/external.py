"""A classifier on two sets of images: the same metric on both with the interval of the drop, and whether the pictures differ at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from common.metrics.classification import class_indices, confusions_by_group
from common.metrics.statistics import group_counts, percentile_interval


def joined_probabilities(
    probabilities: np.ndarray, classes: Sequence[str], joined: Mapping[str, str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Probabilities `(n, J)` of joined classes, each the sum of its parts' `(n, K)`, and their sorted names; other classes stay."""
    names = tuple(sorted({joined.get(name, name) for name in classes}))
    sums = np.zeros((len(probabilities), len(names)))
    for column, name in enumerate(classes):
        sums[:, names.index(joined.get(name, name))] += probabilities[:, column]
    return sums, names


def metric_draws(
    labels: Sequence[str], probabilities: np.ndarray, classes: Sequence[str], groups: Sequence[str] | None, resamples: int, seed: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Accuracy, balanced accuracy (mean recall of the classes present) and their bootstrap draws `(resamples,)` over groups or images."""
    truth, called = class_indices(labels, tuple(classes)), probabilities.argmax(axis=1)
    units = np.arange(len(truth)) if groups is None else np.unique(np.asarray(groups).astype(str), return_inverse=True)[1]
    matrices = confusions_by_group(truth, called, units, len(classes))
    draws = group_counts(len(matrices), resamples, seed)
    drawn = (draws @ matrices.reshape(len(matrices), -1)).reshape(resamples, len(classes), len(classes))

    def scores(matrix: np.ndarray) -> dict[str, np.ndarray]:
        support = matrix.sum(axis=-1)
        recall = np.divide(np.diagonal(matrix, axis1=-2, axis2=-1), support, out=np.zeros_like(support), where=support > 0)
        there = np.maximum((support > 0).sum(axis=-1), 1)
        accuracy = np.trace(matrix, axis1=-2, axis2=-1) / np.maximum(support.sum(axis=-1), 1)
        return {"accuracy": accuracy, "balanced_accuracy": recall.sum(axis=-1) / there}

    return {name: float(value) for name, value in scores(matrices.sum(axis=0).astype(float)).items()}, scores(drawn)


def drop(own: np.ndarray, external: np.ndarray) -> tuple[float, float]:
    """95 % interval of external − own, from independent bootstrap draws of both (different images, so nothing is paired)."""
    return percentile_interval(external - own)


def two_sample_test(first: np.ndarray, second: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """(accuracy, p): can a classifier tell which set a picture is from? The classifier two-sample test (Lopez-Paz & Oquab 2017).

    first `(n, d)`, second `(m, d)`: features. As many rows of each, half for a logistic regression (scikit-learn) on standardised
    features, half to test it; p is binomial, one-sided, against guessing. 0.5 means that the two cannot be told apart.
    """
    from scipy.stats import binomtest
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng, size = np.random.default_rng(seed), min(len(first), len(second))
    if size < 4:
        raise ValueError(f"expected at least 4 rows of each set, got {len(first)} and {len(second)}")
    parts = [each[rng.permutation(len(each))[:size]] for each in (first, second)]
    half = size // 2
    train = np.concatenate([part[:half] for part in parts])
    test = np.concatenate([part[half:] for part in parts])
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)).fit(train, np.repeat([0, 1], half))
    hits = int((fitted.predict(test) == np.repeat([0, 1], size - half)).sum())
    return hits / len(test), float(binomtest(hits, len(test), 0.5, alternative="greater").pvalue)
