"""What a classifier is worth beside: the largest class, and a linear classifier on features that nobody trained for the task."""

import numpy as np


def majority_class(train_labels: np.ndarray, count: int, classes: int) -> np.ndarray:
    """`(count, classes)` float64: probability 1 for the most frequent training class, the first of equals. Labels: `(n,)` class numbers."""
    found = np.zeros((count, classes))
    found[:, np.bincount(train_labels, minlength=classes).argmax()] = 1.0
    return found


def logistic_probe(
    train_features: np.ndarray, train_labels: np.ndarray, test_features: np.ndarray, classes: int, seed: int = 0
) -> np.ndarray:
    """`(m, classes)` probabilities of a multinomial logistic regression (L2 penalty, C = 1) on standardised features.

    train_features `(n, d)`, test_features `(m, d)`; train_labels `(n,)` class numbers. The penalty is scikit-learn's default and is not
    tuned. Classes without a training image have probability 0.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    found = np.zeros((len(test_features), classes))
    present = np.unique(train_labels)
    if len(present) == 1:
        found[:, present[0]] = 1.0
        return found
    scaler = StandardScaler().fit(np.asarray(train_features, np.float64))
    probe = LogisticRegression(max_iter=1000, random_state=seed)
    probe.fit(scaler.transform(np.asarray(train_features, np.float64)), train_labels)
    found[:, present] = probe.predict_proba(scaler.transform(np.asarray(test_features, np.float64)))
    return found
