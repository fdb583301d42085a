"""Subnetwork 4's head: trained on standardised features, saved for raw ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.data.pipeline import Batches
from common.runs import Run
from melanoma.config import DESCRIBED
from melanoma.training import pipeline

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")


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
    settings = replace(DESCRIBED, head_epochs=3, learning_rate=0.05)
    run = Run.open("melanoma", "head", settings.as_dict(), run_dir=tmp_path / "run")
    kernel, bias = pipeline.train_head(run, settings, features, targets)
    assert (kernel[3] == 0).all()
    scores = features["validation"] @ kernel + bias
    own = trained["before"].predict(trained["scaled"], verbose=0)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), own, atol=1e-4)
    assert np.mean(scores.argmax(axis=1) == targets["validation"]) > 0.8
