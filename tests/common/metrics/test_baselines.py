import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common.metrics.baselines import logistic_probe, majority_class


def test_the_largest_class_is_that_of_the_training_images():
    assert majority_class(np.array([0, 2, 2, 1]), 3, 4).argmax(axis=1).tolist() == [2, 2, 2]
    assert majority_class(np.array([1, 0]), 1, 2).tolist() == [[1, 0]]


def test_the_probe_is_a_logistic_regression_on_standardised_features():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 2], 30)  # no training image of class 1
    features = rng.normal(size=(60, 5)) * [1, 10, 100, 1, 1] + labels[:, None]
    found = logistic_probe(features[::2], labels[::2], features[1::2], 3)
    peer = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features[::2], labels[::2])
    assert found[:, [0, 2]] == pytest.approx(peer.predict_proba(features[1::2])) and not found[:, 1].any()


def test_one_training_class_needs_no_probe():
    assert logistic_probe(np.zeros((2, 3)), np.array([1, 1]), np.zeros((2, 3)), 2).tolist() == [[0, 1], [0, 1]]
