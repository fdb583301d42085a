"""How good frozen features are: k nearest neighbours and a linear probe."""

import warnings

import keras
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from common.data.pipeline import Batches
from common.evaluation.metrics import auc
from melanoma import models
from melanoma.training.inputs import Inputs

NEIGHBOURS = 20


def pooled_features(encoder: keras.Model, normalise: keras.layers.Layer, inputs: Inputs, rows: np.ndarray) -> np.ndarray:
    """`(len(rows), d)` float32: the encoder's last map, averaged over the image."""
    images = keras.Input(encoder.input_shape[1:])
    pooled = keras.layers.GlobalAveragePooling2D()(encoder(normalise(images)))
    return keras.Model(images, pooled).predict(Batches(inputs.images, rows=rows, batch_size=64), verbose=0).astype("float32")


def knn_votes(train: np.ndarray, labels: np.ndarray, queries: np.ndarray, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """Share of the `neighbours` most similar (cosine) training rows with label 1, `(queries,)` float in 0..1."""

    def unit(rows: np.ndarray) -> np.ndarray:
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    similarity = unit(queries) @ unit(train).T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, : min(neighbours, len(train))]
    return labels[nearest].mean(axis=1)


def fit_logistic(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Logistic regression on standardised features, folded back: weights `(d,)` and bias of the melanoma logit on raw features."""
    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(max_iter=500, C=0.01).fit((features - mean) / scale, labels)
    weights = model.coef_[0] / scale
    return weights, float(model.intercept_[0] - mean @ weights)


def embedding_quality(encoder: keras.Model, normalise: keras.layers.Layer, inputs: Inputs) -> dict[str, float]:
    """Test accuracy and AUC for melanoma of k-NN and of a linear probe, both from the training images' features."""
    train, test = inputs.rows("train"), inputs.rows("test", diagnosed=True)
    known, unknown = (pooled_features(encoder, normalise, inputs, rows) for rows in (train, test))
    truth = inputs.melanoma[test]
    weights, bias = fit_logistic(known, inputs.melanoma[train])
    votes, logits = knn_votes(known, inputs.melanoma[train], unknown), unknown @ weights + bias
    return {
        "knn_accuracy": float(np.mean((votes > 0.5) == truth)),
        "knn_auc": auc(truth, votes) or 0.5,
        "probe_accuracy": float(np.mean((logits > 0) == truth)),
        "probe_auc": auc(truth, logits) or 0.5,
    }


def linear_probe(encoder: keras.Model, normalise: keras.layers.Layer, inputs: Inputs) -> keras.Model:
    """The frozen encoder under a logistic regression, as a classifier from raw images to two probabilities."""
    train = inputs.rows("train")
    weights, bias = fit_logistic(pooled_features(encoder, normalise, inputs, train), inputs.melanoma[train])
    model = models.build_final([encoder], normalise)
    set_logistic(model, weights, bias)
    return model


def set_logistic(model: keras.Model, weights: np.ndarray, bias: float) -> None:
    """Put a binary logit into a two-way softmax: melanoma first, the other class's score 0."""
    model.get_layer("predictions").set_weights(
        [np.stack([weights, np.zeros_like(weights)], axis=1).astype("float32"), np.array([bias, 0], "float32")]
    )
