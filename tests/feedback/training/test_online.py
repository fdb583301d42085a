"""One correction, and the loss that is not finite."""

import keras
import numpy as np
import pytest
from keras import ops

from common.errors import UsageError
from feedback.experiments.simulate import SimulateSettings
from feedback.models import SelfExplaining
from feedback.training import online_step, self_explaining
from feedback.training.online import StopOnNaN, targets


def _model(classifier, **values):
    return self_explaining(classifier, SimulateSettings(**{"explanation_weight": 0.5, "layer": "conv2", **values}))


def test_corrections_are_learned(classifier, lesions):
    images, labels, masks = (part[:1] for part in lesions)
    model = _model(classifier, learning_rate=0.05)
    first = online_step(model, images, targets(labels, masks))
    for _ in range(15):
        last = online_step(model, images, targets(labels, masks))
    assert last["classification"] < first["classification"] and last["explanation"] < first["explanation"]
    assert set(first) >= {"loss", "classification", "explanation", "accuracy", "jaccard"}


def test_the_rate_grows_with_the_batch_and_the_norm_is_limited(classifier):
    model = _model(classifier, learning_rate=1e-3, batch_size=8, clip_norm=2.0)
    assert float(ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(8e-3)
    assert model.optimizer.global_clipnorm == 2.0
    assert _model(classifier, clip_norm=0.0).optimizer.global_clipnorm is None


def test_every_image_pulls_equally_in_a_batch_that_is_not_full(make_classifier, lesions):
    """The rate is of a full batch: the last, partial one of an epoch must not give its images more weight; the loss stays the mean."""

    def step(nominal, count):
        classifier = make_classifier()
        model = SelfExplaining(classifier, explanation_weight=0.5, nominal_batch=nominal)
        model.compile(keras.optimizers.SGD(0.5), jit_compile=False)
        start = classifier.get_weights()
        losses = model.train_on_batch(lesions[0][:count].astype("float32"), targets(*(part[:count] for part in lesions[1:])))
        return losses[0], [new - old for old, new in zip(start, classifier.get_weights(), strict=True)]

    (mean_loss, mean), (loss, partial) = step(None, 3), step(8, 3)
    assert loss == pytest.approx(mean_loss, rel=1e-6)
    for whole, part in zip(mean, partial, strict=True):
        np.testing.assert_allclose(part, 3 / 8 * whole, rtol=1e-3, atol=1e-6)
    for whole, part in zip(step(None, 8)[1], step(8, 8)[1], strict=True):
        np.testing.assert_array_equal(whole, part)
    assert _model(make_classifier(), batch_size=8).nominal_batch == 8


def test_a_correction_that_breaks_the_model_is_taken_back(classifier, lesions):
    images, labels, masks = (part[:1] for part in lesions)
    model = _model(classifier)
    kernel = classifier.get_layer("fc1").kernel
    kernel.assign(np.full(kernel.shape, 1e38, "float32"))
    before = classifier.get_weights()
    with pytest.raises(UsageError, match="the model is unchanged"):
        online_step(model, images, targets(labels, masks))
    for old, new in zip(before, classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_nan_stops_training_with_step_and_rate(classifier, lesions):
    images, labels, masks = lesions
    kernel = classifier.get_layer("predictions").kernel
    kernel.assign(np.full(kernel.shape, np.nan, "float32"))
    model = _model(classifier, learning_rate=2e-3)
    with pytest.raises(UsageError, match=r"loss is not finite: nan at step 1 of epoch 1, learning rate 0\.002; no epoch"):
        model.fit(images, {"label": labels, "mask": masks}, batch_size=8, verbose=0, callbacks=[StopOnNaN()])


def test_two_steps_with_one_seed_are_the_same(make_classifier, lesions):
    found = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        model = _model(make_classifier())
        for start in (0, 4):
            online_step(model, lesions[0][start : start + 4], targets(*(part[start : start + 4] for part in lesions[1:])))
        found.append(model.classifier.get_weights())
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)
