"""The two classifiers that every trained one must beat: the largest training class, and a logistic probe on the untrained network."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import pandas as pd

from common.data.pipeline import Batches
from common.explanation.graph import functional, nodes
from common.metrics.baselines import logistic_probe, majority_class
from common.runs.folder import Run
from common.runs.outcome import BASELINES, predictions_table

PREDICT_BATCH = 128


def write_baselines(
    run: Run,
    network: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    manifest: pd.DataFrame,
    classes: Sequence[str],
    seed: int,
) -> None:
    """Write baselines.csv: predictions of both on the test images; `write_metrics` and the report take them from there.

    Call it when the network has its initial weights, before it is trained: one pass over training and test images. Does nothing where
    the file is there already (a resumed run).

    Args:
        network: with its initial weights; the probe sees its pooled features (`feature_model`).
        images: `(n, h, w, c)`, a row per row of the manifest; labels: `(n,)` class numbers.
        manifest: with `image`, `label`, `split`, perhaps `group`.
    """
    if (run.path / BASELINES).is_file():
        return
    train, test = (np.flatnonzero(manifest["split"] == part) for part in ("train", "test"))
    features = feature_model(network)
    found = [features.predict(Batches(images, rows=rows, batch_size=min(PREDICT_BATCH, len(rows))), verbose=0) for rows in (train, test)]
    chosen = {
        "majority class": majority_class(labels[train], len(test), len(classes)),
        "logistic probe": logistic_probe(found[0], labels[train], found[1], len(classes), seed),
    }
    tables = [predictions_table(manifest.iloc[test], values, classes).assign(baseline=name) for name, values in chosen.items()]
    run.write_csv(BASELINES, pd.concat(tables, ignore_index=True))


def feature_model(network: keras.Model) -> keras.Model:
    """`network` up to its first vector `(n, channels)`; where that unrolls a feature map, up to the map's mean over places."""
    if isinstance(network.layers[-1], keras.Model) and len(network.output.shape) == 2:
        return network  # a pooled backbone, whose own output tensor is not of this graph
    for node in nodes(functional(network)):  # not `layer.output`: a layer may stand in other graphs too, and gives the first one's
        output, before = node.outputs[0], node.input_tensors[0]
        if len(output.shape) == 2:
            if isinstance(node.operation, keras.layers.Flatten | keras.layers.Reshape) and len(before.shape) == 4:
                output = keras.layers.GlobalAveragePooling2D(dtype="float32")(before)
            return keras.Model(network.inputs, output)
    raise ValueError(f"{network.name}: expected a layer with a vector as output")
