"""The classifiers: what goes in and comes out, batch normalisation, foreign networks."""

import keras
import numpy as np
import pytest

from common.backbones import batch_normalisations
from common.errors import UsageError
from lmf.losses import adjusted_probabilities, log_priors
from lmf.models import CosineDense, build_classifier, shift_logits, with_logits


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return build_classifier("mobilenetv2_035", 3, 32)


def test_raw_pixels_in_probabilities_out(model):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    probabilities = model.predict(images, verbose=0)
    assert probabilities.shape == (2, 3) and probabilities.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert model.layers[-1].name == "predictions" and model.get_layer("logits").units == 3
    logits = with_logits(model).predict(images, verbose=0)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert probabilities == pytest.approx(exponentials / exponentials.sum(axis=1, keepdims=True), rel=1e-4, abs=1e-6)


def test_weights_are_shared_with_the_logits_model(model):
    trained = with_logits(model)
    assert {id(v) for v in trained.variables} == {id(v) for v in model.variables}


def test_batch_normalisation_has_pytorchs_momentum_and_stays_trainable(model):
    layers = batch_normalisations(model)
    assert layers and all(layer.momentum == 0.9 and layer.trainable for layer in layers)


def test_folded_weights_keep_batch_normalisation_frozen(shared_weights):
    model = build_classifier("mobilenetv2", 2, 32, str(shared_weights("mobilenet_v2_1.0_224_bn_folded_no_top")))
    assert not any(layer.trainable for layer in batch_normalisations(model))


def test_real_weights_are_loaded(shared_weights):
    model = build_classifier("mobilenetv2_035", 2, 32, str(shared_weights("mobilenet_v2_0.35_224_no_top")))
    assert all(layer.trainable for layer in batch_normalisations(model))
    assert max(float(keras.ops.max(layer.moving_variance)) for layer in batch_normalisations(model)) != 1.0


def test_any_keras_model_can_be_the_backbone(tmp_path):
    body = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3), keras.layers.ReLU()])
    body.save(tmp_path / "own.keras")
    model = build_classifier("own.keras", 3, 16, network=tmp_path / "own.keras")
    assert model.predict(np.zeros((1, 16, 16, 3), "float32"), verbose=0).shape == (1, 3)
    assert model.name == "lmf_own"
    with pytest.raises(UsageError, match="does not take images of 20 x 20 x 3"):
        build_classifier("own.keras", 3, 20, network=tmp_path / "own.keras")


def test_an_untrained_network_of_ones_own_learns_its_normalisation(tmp_path):
    layers = [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()]
    keras.Sequential([keras.Input((16, 16, 3)), *layers]).save(tmp_path / "own.keras")
    model = build_classifier("vgg16", 3, 16, "imagenet", network=tmp_path / "own.keras")  # "imagenet": the backbone's, which is not used
    assert all(layer.trainable for layer in batch_normalisations(model))


def test_what_is_no_network_is_named(tmp_path):
    (tmp_path / "broken.keras").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="--network .*broken.keras is damaged or cut off"):
        build_classifier("broken.keras", 3, 16, network=tmp_path / "broken.keras")
    with pytest.raises(UsageError, match="at least 2 classes"):
        build_classifier("mobilenetv2_035", 1, 32)


def test_a_cosine_head_is_the_cosine():
    layer, features = CosineDense(3, 30.0), np.random.default_rng(0).normal(size=(5, 8)).astype("float32")
    found = np.asarray(layer(features))
    kernel = np.asarray(layer.kernel)
    expected = [[30 * f @ w / np.linalg.norm(f) / np.linalg.norm(w) for w in kernel.T] for f in features]
    assert found == pytest.approx(np.array(expected), rel=1e-4)
    assert np.asarray(layer(7 * features)) == pytest.approx(found, rel=1e-4)
    assert np.isfinite(np.asarray(layer(np.zeros((1, 8), "float32")))).all()


def test_a_model_with_a_cosine_head_is_saved_and_loaded(tmp_path):
    model = build_classifier("mobilenetv2_035", 3, 32, head="cosine", head_scale=16.0)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    assert abs(with_logits(model).predict(images, verbose=0)).max() <= 16
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.predict(images, verbose=0) == pytest.approx(model.predict(images, verbose=0), abs=1e-6)


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_logit_adjustment_after_training_is_in_the_model(head):
    model, counts = build_classifier("mobilenetv2_035", 3, 32, head=head), [60, 30, 6]
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    before = model.predict(images, verbose=0)
    shift_logits(model, -0.7 * log_priors(counts))
    assert model.predict(images, verbose=0) == pytest.approx(adjusted_probabilities(before, counts, 0.7), rel=1e-4)


def test_networks_with_two_outputs_or_of_grey_images_are_named(tmp_path):
    """keras-team/keras#19480: the shape of a list, and a channel count that only the first step noticed."""
    inputs = keras.Input((None, None, 3))
    features = keras.layers.Conv2D(4, 3)(inputs)
    keras.Model(inputs, [features, keras.layers.GlobalAveragePooling2D()(features)]).save(tmp_path / "two.keras")
    grey, other = keras.Input((32, 32, 1)), keras.Input((32, 32, 3))
    keras.Model(grey, keras.layers.Conv2D(4, 3)(grey)).save(tmp_path / "grey.keras")
    keras.Model([other, grey], keras.layers.Concatenate()([other, grey])).save(tmp_path / "pair.keras")
    for name, words in (("two", "has 2 outputs"), ("grey", "takes .*1\\).*expected RGB images"), ("pair", "has 2 inputs")):
        with pytest.raises(UsageError, match=f"--network .*{name}.keras: {words}.*feature map"):
            build_classifier("mobilenetv2", 3, 32, network=tmp_path / f"{name}.keras")
