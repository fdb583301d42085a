"""k-NN, the folded logistic regression, and the two-way softmax that a binary logit becomes."""

import keras
import numpy as np
import pytest
from keras import ops
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from melanoma import models
from melanoma.training import probes

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")


@pytest.fixture(scope="module")
def features() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.repeat([0.0, 1.0], 60).astype("float32")
    return (rng.normal(0, 3, (120, 6)) + labels[:, None] * [4, 0, 0, 0, 0, 0] + 100).astype("float32"), labels


def test_votes_equal_scikit_learns(features: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = features
    peer = KNeighborsClassifier(7, metric="cosine").fit(x[::2], y[::2])
    assert probes.knn_votes(x[::2], y[::2], x[1::2], 7) == pytest.approx(peer.predict_proba(x[1::2])[:, 1], abs=1e-6)


def test_folded_weights_work_on_raw_features(features: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = features
    weights, bias = probes.fit_logistic(x, y)
    assert np.mean((x @ weights + bias > 0) == y) > 0.7
    assert np.mean(x @ weights + bias) == pytest.approx(0, abs=0.5)  # balanced classes, far from the origin


def test_folded_weights_give_scikit_learns_decision(features: tuple[np.ndarray, np.ndarray]) -> None:
    """The same regression in a pipeline that standardises: its decision function on raw features, value by value."""
    x, y = features
    weights, bias = probes.fit_logistic(x, y)
    peer = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, C=0.01)).fit(x, y)
    assert x @ weights + bias == pytest.approx(peer.decision_function(x), abs=1e-3)


def test_a_binary_logit_as_softmax_has_the_same_probability_and_a_score_a_class(tiny: None) -> None:
    encoder = models.build_encoder("mobilenetv2_035", 32)
    final = models.build_final([encoder], models.normalisation("image", "mobilenetv2_035"))
    weights, bias = np.random.default_rng(0).normal(size=8), 0.3
    probes.set_logistic(final, weights, bias)
    images = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3)).astype("float32")
    features, probabilities = (ops.convert_to_numpy(x) for x in models.with_features(final)(images))
    expected = 1 / (1 + np.exp(-(features @ weights + bias)))
    assert probabilities[:, 0] == pytest.approx(expected, abs=1e-5)
    kernel, _ = final.get_layer("predictions").get_weights()
    assert (kernel[:, 0] == -kernel[:, 1]).all()
    assert isinstance(final, keras.Model)
