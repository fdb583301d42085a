"""Parameter counts, freeze points and input ranges as in the authors' code; frozen parts do not move."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from cervical import models
from cervical.experiments import contrastive
from cervical.experiments.finetune import CODED, DESCRIBED, FREEZE
from common.backbones import batch_normalisations, build_backbone, keep_batchnorm_frozen
from common.errors import UsageError

TINY = replace(CODED, image_size=32, weights="none")
ENCODED = replace(contrastive.CODED, image_size=32)

# facts 1.4: total and trainable parameters printed by the notebooks' summaries, or verified in Keras 3.
FINETUNED = {
    "vgg16": (8_171_845, 2_893_317),
    "vgg19": (15_841_349, 5_253_125),
    "resnet50": (3_048_325, 1_584_133),
    "densenet169": (14_352_965, 11_176_453),
    "mobilenetv2": (3_574_853, 3_178_309),
}
# facts 1.6: encoder (total, trainable), with projection, and the control classifier (ResNet50's are not printed).
CONTRASTIVE = {
    "vgg16": ((14_714_695, 14_714_688), 14_780_359, 14_979_916),
    "vgg19": ((20_024_391, 20_024_384), 20_090_055, 20_289_612),
    "densenet169": ((12_642_887, 12_484_480), 12_856_007, 13_497_932),
    "mobilenetv2": ((2_257_991, 2_223_872), 2_421_959, 2_916_428),
    "resnet50": ((23_587_719, 23_534_592), None, None),
}

# The first trainable layer under the paper's freeze number, by name, so that a change in Keras's layer order cannot pass unnoticed.
FIRST_TRAINABLE = {
    "vgg16": "block4_conv3",
    "vgg19": "block5_conv1",
    "resnet50": "conv4_block1_2_relu",
    "densenet169": "conv4_block16_1_bn",
    "mobilenetv2": "block_11_expand_relu",
    "mobilenetv2_035": "block_11_expand_relu",
}


@pytest.mark.parametrize("backbone", FINETUNED)
def test_parameters_are_the_papers_to_the_unit(backbone):
    classifier = models.build_classifier(backbone, replace(CODED, image_size=110))
    assert models.count_parameters(classifier) == FINETUNED[backbone]
    assert classifier.count_params() == FINETUNED[backbone][0]
    layers = classifier.get_layer(index=2).layers
    names = [layer.name for layer in layers]
    if FIRST_TRAINABLE[backbone] in names:  # ResNet50's freeze point lies on a branch that its tap does not use
        first = names.index(FIRST_TRAINABLE[backbone])
        assert first == FREEZE[backbone]
        assert not any(layer.trainable for layer in layers[:first]) and all(layer.trainable for layer in layers[first:])
    else:
        assert backbone == "resnet50"
        assert [layer.name for layer in layers if layer.trainable and layer.weights] == ["conv4_block1_0_conv"]
    encoder = models.build_encoder(backbone, contrastive.CODED)
    totals, projected, control = CONTRASTIVE[backbone]
    assert models.count_parameters(encoder) == totals
    if projected is not None:
        assert models.add_projection(encoder).count_params() == projected
        assert models.build_contrastive_classifier(backbone, contrastive.CODED, encoder=encoder).count_params() == control


def test_the_bodies_are_the_networks_or_cut_as_in_the_code():
    """The text names the networks; the code drops what lies behind an inner layer (facts 1.4)."""
    for backbone, last, layers in (("vgg16", "block5_pool", 19), ("vgg19", "block5_pool", 22), ("resnet50", "conv5_block3_out", 175)):
        body = models.build_classifier(backbone, replace(DESCRIBED, image_size=64, weights="none")).get_layer(index=2)
        assert body.layers[-1].name == last and len(body.layers) == layers
        cut = models.build_classifier(backbone, replace(DESCRIBED, image_size=64, weights="none", body="truncated"))
        assert cut.get_layer(index=2).layers[-1].name == models.TAPS[backbone]


def test_depths_differ_in_a_layer_with_weights():
    vgg = models.depth_steps("vgg16", 64, "truncated")
    assert vgg[-1] == 14 and len(vgg) == 11  # ten convolutions up to block4_conv3, and none; 15 to 19 would freeze the same
    assert models.at_most(models.depth_steps("resnet50", 64, "truncated"), 87) == models.at_most(
        models.depth_steps("resnet50", 64, "truncated"), 86
    )
    assert models.default_depths("vgg16", 64, "truncated")[-2:] == (13, 14)
    found = models.default_depths("mobilenetv2_035", 32, "whole")
    assert found[0] == 0 and 100 in found and len(found) == 6


@pytest.mark.parametrize(("backbone", "freeze"), [("vgg16", 15), ("resnet50", 100)])
def test_freezing_behind_the_tap_is_refused(backbone, freeze):
    settings = replace(DESCRIBED, image_size=64, weights="none", body="truncated", freeze=freeze)
    with pytest.raises(UsageError, match=f"--freeze {freeze}: this .* has only"):
        models.build_classifier(backbone, settings)


def test_resnet_freezes_up_to_the_layer_the_paper_counts():
    layers = build_backbone("resnet50", 110).layers
    assert layers[FREEZE["resnet50"]].name == FIRST_TRAINABLE["resnet50"]


@pytest.fixture(scope="module")
def classifier() -> keras.Model:
    return models.build_classifier("mobilenetv2_035", replace(TINY, freeze=100))


def test_outputs_are_probabilities_of_raw_pixels(classifier):
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype("uint8")
    found = keras.ops.convert_to_numpy(classifier(images))
    assert found.shape == (3, 5) and found.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert classifier.layers[-1].name == "predictions"


def test_a_training_step_leaves_frozen_layers_and_their_statistics_alone(classifier):
    base = classifier.get_layer(index=2)
    before = {layer.name: [np.array(weight) for weight in layer.get_weights()] for layer in base.layers}
    classifier.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    generator = np.random.default_rng(0)
    classifier.train_on_batch(generator.uniform(0, 255, (8, 32, 32, 3)).astype("float32"), generator.integers(0, 5, 8))
    moved = {
        layer.name
        for layer in base.layers
        if any((old != new).any() for old, new in zip(before[layer.name], layer.get_weights(), strict=True))
    }
    frozen = {layer.name for layer in base.layers[:100]}
    assert not moved & frozen
    assert {"block_11_depthwise", "block_11_depthwise_BN", "Conv_1", "Conv_1_bn"} <= moved  # trainable ones do, statistics too


def test_a_network_in_inference_mode_keeps_all_its_statistics():
    model = models.build_contrastive_classifier("mobilenetv2_035", ENCODED)
    keep_batchnorm_frozen(model)
    before = [keras.ops.convert_to_numpy(layer.moving_mean) for layer in batch_normalisations(model)]
    model.compile("adam", "sparse_categorical_crossentropy")
    model.train_on_batch(np.full((4, 32, 32, 3), 200.0, "float32"), np.array([0, 1, 2, 3]))
    assert all(
        (old == keras.ops.convert_to_numpy(layer.moving_mean)).all() for old, layer in zip(before, batch_normalisations(model), strict=True)
    )


def test_statistics_of_the_training_images_normalise_the_input():
    mean, variance = np.array([100.0, 150.0, 200.0]), np.array([400.0, 900.0, 100.0])
    encoder = models.build_encoder("mobilenetv2_035", ENCODED, statistics=(mean, variance))
    pixels = np.broadcast_to(mean + np.sqrt(variance), (1, 32, 32, 3)).astype("float32")
    assert np.asarray(encoder.get_layer("preprocess")(pixels)) == pytest.approx(np.ones((1, 32, 32, 3)), abs=1e-4)


def test_head_trained_apart_is_the_head_of_the_whole():
    encoder = models.build_encoder("mobilenetv2_035", ENCODED, statistics=([120.0] * 3, [900.0] * 3))
    head = models.build_head(1280, ENCODED, 5)
    whole = models.attach(encoder, head, "whole")
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    apart = keras.ops.convert_to_numpy(head(encoder(images)))
    assert keras.ops.convert_to_numpy(whole(images)) == pytest.approx(apart, abs=1e-6)


def test_saved_models_give_the_same_answers(classifier, tmp_path):
    encoder = models.build_encoder("mobilenetv2_035", ENCODED, statistics=([120.0] * 3, [900.0] * 3))
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    for model in (classifier, models.build_contrastive_classifier("mobilenetv2_035", ENCODED, encoder=encoder)):
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras", compile=False)
        assert keras.ops.convert_to_numpy(again(images)) == pytest.approx(keras.ops.convert_to_numpy(model(images)), abs=1e-6)


def test_dropout_is_added_by_the_described_reading_only():
    def dropouts(config):
        model = models.build_classifier("mobilenetv2_035", replace(config, image_size=32, freeze=0))
        return [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]

    assert (dropouts(CODED), dropouts(DESCRIBED)) == ([], [0.5])


def test_too_many_frozen_layers_is_one_clear_line():
    with pytest.raises(UsageError, match="--freeze 999"):
        models.build_classifier("mobilenetv2_035", replace(TINY, freeze=999))


def test_real_folded_weights_keep_batch_normalisation_in_inference_mode(shared_weights):
    path = shared_weights("mobilenet_v2_1.0_224_bn_folded_no_top")
    for model in (
        models.build_classifier("mobilenetv2", replace(DESCRIBED, image_size=64, freeze=0), weights=path),
        models.build_encoder("mobilenetv2", replace(contrastive.DESCRIBED, image_size=64, pixels="weights"), weights=path),
    ):
        assert not any(layer.trainable for layer in batch_normalisations(model))
        assert model.get_layer(index=2).get_layer("Conv_1").trainable
