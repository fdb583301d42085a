"""Subnetwork 4's head: trained on standardised features, saved for raw ones."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from common.data.pipeline import Batches
from common.explanation.graph import flatten
from common.runs.folder import Run
from common.settings import recipe
from melanoma import models
from melanoma.experiments.train import DESCRIBED
from melanoma.training import pipeline

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")


def test_layers_of_several_encoders_have_names_of_their_own(tiny: None) -> None:
    """`explain` lays them out in one graph; one encoder keeps its names, by which the heatmaps' layers are found."""
    settings = replace(DESCRIBED, backbone="mobilenetv2_035", image_size=64)
    values = [ops.convert_to_numpy(v) for v in models.build_encoder(settings.backbone, 64).variables]
    final = models.build_final(pipeline.frozen_encoders(settings, [values, values]), models.normalisation("image", settings.backbone))
    flat, _ = flatten(final)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")
    np.testing.assert_allclose(ops.convert_to_numpy(flat(images)), ops.convert_to_numpy(final(images)), atol=1e-5)
    (alone,) = pipeline.frozen_encoders(settings, [values])
    assert alone.get_layer(models.heatmap_layers(alone, settings.backbone)[-1]).name == "s3b2"


def test_the_folded_head_decides_on_raw_features_as_the_trained_one_on_standardised(tmp_path: Path, monkeypatch, tiny: None) -> None:
    rng = np.random.default_rng(0)
    features = {part: rng.normal([5, -300, 0.01], [2, 50, 0.02], (40, 3)).astype("float32") for part in ("train", "validation")}
    features = {part: np.concatenate([values, np.full((40, 1), 7.0, "float32")], axis=1) for part, values in features.items()}
    features["validation"][:, 3] = 8.0  # constant in training: divided by its deviation it would decide everything
    targets = {part: (values[:, 0] > 5).astype("int32") for part, values in features.items()}
    trained = {}

    def keep(head, batches: Batches, **options: object):
        trained["scaled"], trained["before"] = options["validation"].images, head
        return fit(head, batches, **options)

    fit = pipeline.fit
    monkeypatch.setattr(pipeline, "fit", keep)
    keras.utils.set_random_seed(0)
    settings = replace(DESCRIBED, head_epochs=20, learning_rate=0.05)
    run = Run.open("melanoma", "head", recipe(settings), run_dir=tmp_path / "run")
    kernel, bias = pipeline.train_head(run, settings, features, targets)
    assert (kernel[3] == 0).all()
    scores = features["validation"] @ kernel + bias
    own = trained["before"].predict(trained["scaled"], verbose=0)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), own, atol=1e-4)
    assert np.mean(scores.argmax(axis=1) == targets["validation"]) > 0.8
