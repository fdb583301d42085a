"""How good frozen features are: k nearest neighbours and a linear probe."""

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from common.data.pipeline import Batches
from melanoma.training.inputs import Inputs
from melanoma.training.scores import accuracy_interval, auc_interval

NEIGHBOURS = 20


def features_of(both: keras.Model, inputs: Inputs, rows: np.ndarray) -> np.ndarray:
    """`(len(rows), d)` float32: v(x) of these images, from `models.with_features`."""
    return both.predict(Batches(inputs.images, rows=rows, batch_size=64), verbose=0)[0].astype("float32")


def knn_votes(train: np.ndarray, labels: np.ndarray, queries: np.ndarray, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """Share of the `neighbours` most similar (cosine) training rows with label 1, `(queries,)` float in 0..1."""
    voters = KNeighborsClassifier(min(neighbours, len(train)), metric="cosine").fit(train, labels > 0.5)
    return voters.predict_proba(queries)[:, 1]


def fit_logistic(features: np.ndarray, labels: np.ndarray, balanced: bool = False) -> tuple[np.ndarray, float]:
    """Logistic regression (L2, C = 0.01) on standardised features, folded back: weights `(d,)` and bias of the melanoma logit on raw ones.

    balanced: weigh each class by the inverse of its share.
    """
    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(max_iter=500, C=0.01, class_weight="balanced" if balanced else None).fit(
            (features - mean) / scale, labels
        )
    weights = model.coef_[0] / scale
    return weights, float(model.intercept_[0] - mean @ weights)


def embedding_quality(both: keras.Model, inputs: Inputs) -> dict[str, Any]:
    """Test accuracy and AUC for melanoma of k-NN and of a linear probe, both from the training images' features, with intervals and n.

    Keys: knn_accuracy, knn_auc, probe_accuracy, probe_auc, each also with `_interval`, and n, the number of test images.

    The probe's weights are left in the model's softmax, so that it is a classifier afterwards.
    """
    train, test = inputs.rows("train"), inputs.rows("test", diagnosed=True)
    known, unknown = (features_of(both, inputs, rows) for rows in (train, test))
    truth = inputs.melanoma[test]
    weights, bias = fit_logistic(known, inputs.melanoma[train])
    set_logistic(both, weights, bias)
    votes, logits = knn_votes(known, inputs.melanoma[train], unknown), unknown @ weights + bias
    quality: dict[str, Any] = {"n": len(test)}
    for name, scores, middle in (("knn", votes, 0.5), ("probe", logits, 0.0)):
        right = (scores > middle) == (truth > 0.5)
        quality[f"{name}_accuracy"], quality[f"{name}_accuracy_interval"] = accuracy_interval(right, inputs.settings.seed)
        quality[f"{name}_auc"], quality[f"{name}_auc_interval"] = auc_interval(truth > 0.5, scores, inputs.settings.seed)
    return quality


def set_logistic(model: keras.Model, weights: np.ndarray, bias: float) -> None:
    """Put a binary logit z `(d,)` into a two-way softmax as (z/2, -z/2), melanoma first: the same probabilities, and each class has a score
    of its own for Grad-CAM (with (z, 0) the second would have no gradient)."""
    halves = np.stack([weights, -weights], axis=1).astype("float32") / 2
    model.get_layer("predictions").set_weights([halves, np.array([bias, -bias], "float32") / 2])


def set_output(model: keras.Model, logits: keras.layers.Layer, index: int = 0) -> None:
    """Put output `index` of a layer of logits `(batch, outputs)` over the model's features into its softmax, as `set_logistic` does."""
    kernel, bias = (ops.convert_to_numpy(v) for v in logits.weights)
    set_logistic(model, kernel[:, index], float(bias[index]))
