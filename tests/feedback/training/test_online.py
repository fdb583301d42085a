"""One correction, and the loss that is not finite."""

import keras
import numpy as np
import pytest
from keras import ops

from common.errors import UsageError
from feedback.config import Simulation
from feedback.training import online_step, self_explaining
from feedback.training.online import StopOnNaN


def _model(classifier, **values):
    return self_explaining(classifier, Simulation(**{"explanation_weight": 0.5, "layer": "conv2", **values}))


def test_corrections_are_learned(classifier, lesions):
    images, labels, masks = (part[:1] for part in lesions)
    model = _model(classifier, learning_rate=0.05)
    first = online_step(model, images, labels, masks)
    for _ in range(15):
        last = online_step(model, images, labels, masks)
    assert last["classification"] < first["classification"] and last["explanation"] < first["explanation"]
    assert set(first) >= {"loss", "classification", "explanation", "accuracy", "jaccard"}


def test_the_rate_grows_with_the_batch_and_the_norm_is_limited(classifier):
    model = _model(classifier, learning_rate=1e-3, batch_size=8, clip_norm=2.0)
    assert float(ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(8e-3)
    assert model.optimizer.global_clipnorm == 2.0
    assert _model(classifier, clip_norm=0.0).optimizer.global_clipnorm is None


def test_a_correction_that_breaks_the_model_is_taken_back(classifier, lesions):
    images, labels, masks = (part[:1] for part in lesions)
    model = _model(classifier)
    kernel = classifier.get_layer("fc1").kernel
    kernel.assign(np.full(kernel.shape, 1e38, "float32"))
    before = classifier.get_weights()
    with pytest.raises(UsageError, match="the model is unchanged"):
        online_step(model, images, labels, masks)
    for old, new in zip(before, classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_nan_stops_training_with_step_and_rate(classifier, lesions):
    images, labels, masks = lesions
    kernel = classifier.get_layer("predictions").kernel
    kernel.assign(np.full(kernel.shape, np.nan, "float32"))
    model = _model(classifier, learning_rate=2e-3)
    with pytest.raises(UsageError, match=r"loss is nan at step 1 of the epoch, learning rate 0\.002"):
        model.fit(images, {"label": labels, "mask": masks}, batch_size=8, verbose=0, callbacks=[StopOnNaN()])


def test_two_steps_with_one_seed_are_the_same(make_classifier, lesions):
    found = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        model = _model(make_classifier())
        for start in (0, 4):
            online_step(model, *(part[start : start + 4] for part in lesions))
        found.append(model.classifier.get_weights())
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)
