"""A classifier on two sets of images: their classes joined, and whether the pictures differ at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def joined_probabilities(
    probabilities: np.ndarray, classes: Sequence[str], joined: Mapping[str, str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Probabilities `(n, J)` of joined classes, each the sum of its parts' `(n, K)`, and their sorted names; other classes stay."""
    names = tuple(sorted({joined.get(name, name) for name in classes}))
    sums = np.zeros((len(probabilities), len(names)))
    for column, name in enumerate(classes):
        sums[:, names.index(joined.get(name, name))] += probabilities[:, column]
    return sums, names


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
