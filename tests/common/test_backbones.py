"""Backbones: preprocessing as keras.applications does it, weights that fit or one clear line, frozen layers that do not move."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from common import backbones, device
from common.errors import UsageError
from common.settings import BACKBONE_NAMES

MODULES = {"vgg16": "vgg16", "resnet50": "resnet", "mobilenetv2": "mobilenet_v2", "densenet121": "densenet"}


@pytest.mark.parametrize(("name", "module"), MODULES.items())
def test_preprocessing_equals_keras_applications(name: str, module: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype("float32")
    expected = getattr(keras.applications, module).preprocess_input(images.copy())
    np.testing.assert_allclose(ops.convert_to_numpy(backbones.preprocess_layer(name)(images)), expected, atol=1e-5)


def test_efficientnet_scaling_is_that_of_its_own_layer() -> None:
    with_layer = keras.applications.EfficientNetV2S(include_top=False, weights=None, input_shape=(32, 32, 3))
    rescaling = next(layer for layer in with_layer.layers if isinstance(layer, keras.layers.Rescaling))
    images = np.random.default_rng(0).uniform(0, 255, (1, 4, 4, 3)).astype("float32")
    ours = ops.convert_to_numpy(backbones.preprocess_layer("efficientnetv2s")(images))
    np.testing.assert_allclose(ours, ops.convert_to_numpy(rescaling(images)), atol=1e-5)


def test_unit_and_raw_scaling_and_unknown_mode() -> None:
    images = np.full((1, 1, 1, 3), 255.0, "float32")
    assert float(backbones.preprocess_layer("unit")(images)[0, 0, 0, 0]) == 1.0
    assert float(backbones.preprocess_layer("raw")(images)[0, 0, 0, 0]) == 255.0
    with pytest.raises(ValueError, match="expected one of"):
        backbones.PixelScaling("loud")


def test_scaling_survives_saving(tmp_path: Path) -> None:
    inputs = keras.Input((4, 4, 3))
    keras.Model(inputs, backbones.preprocess_layer("caffe")(inputs)).save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    images = np.random.default_rng(1).uniform(0, 255, (1, 4, 4, 3)).astype("float32")
    np.testing.assert_allclose(again.predict(images, verbose=0), keras.applications.vgg16.preprocess_input(images.copy()), atol=1e-4)


@pytest.fixture(scope="module")
def small() -> keras.Model:
    return backbones.build_backbone("mobilenetv2_035", 32)


def test_weights_of_another_network_or_none_are_refused(small: keras.Model, tmp_path: Path) -> None:
    other = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    other.save_weights(tmp_path / "other.weights.h5")
    (tmp_path / "text.weights.h5").write_text("no weights")
    for name in ("other", "text"):
        with pytest.raises(UsageError, match=f"--weights .*{name}.*cannot be loaded into MobileNetV2 0.35"):
            backbones.load_weights(small, tmp_path / f"{name}.weights.h5", "MobileNetV2 0.35")
    with pytest.raises(UsageError, match="no such file"):
        backbones.load_weights(small, tmp_path / "absent.weights.h5", "x")


def test_failed_download_names_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise Exception("URL fetch failure on https://…: no network")

    monkeypatch.setattr(keras.applications, "MobileNetV2", fail)
    with pytest.raises(UsageError, match=r"--weights imagenet: the download for MobileNetV2 failed .*--weights PATH"):
        backbones.build_backbone("mobilenetv2", 32, "imagenet")


def test_too_small_images_and_unknown_names_are_refused() -> None:
    for weights in (None, "imagenet"):
        with pytest.raises(UsageError, match="--image-size 16: too small for VGG16"):
            backbones.build_backbone("vgg16", 16, weights)
    with pytest.raises(UsageError, match="--backbone alexnet"):
        backbones.build_backbone("alexnet", 64)


def test_real_weights_load_and_folded_batchnorm_is_recognised(shared_weights: Callable[[str], Path]) -> None:
    plain = backbones.build_backbone("mobilenetv2_035", 64, shared_weights("mobilenet_v2_0.35_224_no_top"))
    folded = backbones.build_backbone("mobilenetv2", 64, shared_weights("mobilenet_v2_1.0_224_bn_folded_no_top"))
    assert not backbones.batchnorm_is_folded(plain)
    assert backbones.batchnorm_is_folded(folded)


def test_folded_batchnorm_is_frozen_wherever_its_weights_are_loaded(tmp_path: Path) -> None:
    inputs = keras.Input((8, 8, 3))
    folded = keras.Model(inputs, keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(inputs)))
    folded.save_weights(tmp_path / "folded.weights.h5")  # moving means 0, variances equal
    backbones.load_weights(folded, tmp_path / "folded.weights.h5", "a network")
    assert not any(layer.trainable for layer in backbones.batch_normalisations(folded))
    plain = keras.models.clone_model(folded)
    for layer in backbones.batch_normalisations(plain):
        layer.trainable = True
        layer.moving_mean.assign([0.1, 0.2, 0.3, 0.4])
    plain.save_weights(tmp_path / "plain.weights.h5")
    backbones.load_weights(plain, tmp_path / "plain.weights.h5", "a network")
    assert all(layer.trainable for layer in backbones.batch_normalisations(plain))


def test_frozen_layers_and_frozen_batchnorm_do_not_move() -> None:
    device.configure(0)
    base = backbones.build_backbone("mobilenetv2_035", 32, pooling="avg")
    for layer in base.layers[:100]:
        layer.trainable = False
    model = keras.Sequential([keras.layers.Input((32, 32, 3)), base, keras.layers.Dense(2, activation="softmax")])
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", jit_compile=device.jit_compile())
    before = [[ops.convert_to_numpy(v).copy() for v in layer.weights] for layer in base.layers]
    rng = np.random.default_rng(0)
    model.fit(rng.normal(size=(8, 32, 32, 3)), rng.integers(0, 2, 8), batch_size=4, epochs=1, verbose=0)
    moved = set()
    for index, layer in enumerate(base.layers):
        for old, new in zip(before[index], layer.weights, strict=True):
            if not np.array_equal(old, ops.convert_to_numpy(new)):
                moved.add(index)
    assert moved and min(moved) >= 100
    assert any(isinstance(base.layers[index], keras.layers.BatchNormalization) for index in moved)


def test_recomputed_statistics_are_plain_averages_over_batches() -> None:
    norm = keras.layers.BatchNormalization(momentum=0.999)
    model = keras.Sequential([keras.layers.Input((2,)), norm])
    batches = [np.random.default_rng(seed).normal(5, 3, (16, 2)).astype("float32") for seed in range(4)]
    assert backbones.recompute_batchnorm(model, iter(batches), max_batches=3) == 3
    np.testing.assert_allclose(norm.moving_mean, np.mean([b.mean(0) for b in batches[:3]], 0), rtol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, np.mean([b.var(0) for b in batches[:3]], 0), rtol=1e-4)
    assert norm.momentum == 0.999


def test_recompute_leaves_frozen_statistics_alone() -> None:
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.layers.Input((2,)), norm])
    backbones.keep_batchnorm_frozen(model)
    assert backbones.recompute_batchnorm(model, [np.ones((4, 2), "float32")]) == 0
    np.testing.assert_array_equal(norm.moving_mean, 0)


def test_the_command_line_knows_every_network() -> None:
    assert set(BACKBONE_NAMES) == set(backbones.BACKBONES)
    made = {name for name in dir(keras.applications) if name[0].isupper()}
    assert {backbone.application for backbone in backbones.BACKBONES.values()} == made


@pytest.mark.parametrize("name", ["mobilenetv3small", "efficientnetv2b0", "efficientnetb0", "convnexttiny"])
def test_networks_that_scale_pixels_themselves_give_the_same_with_our_layer(name: str) -> None:
    """Keras's own network, its scaling inside, on the same weights."""
    ours = backbones.build_backbone(name, 32)
    theirs = getattr(keras.applications, backbones.BACKBONES[name].application)(include_top=False, weights=None, input_shape=(32, 32, 3))
    theirs.set_weights(ours.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    scaled = backbones.preprocess_layer(name)(images)
    np.testing.assert_allclose(ours.predict(scaled, verbose=0), theirs.predict(images, verbose=0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("resnet50v2", "resnet_v2"),
        ("mobilenet", "mobilenet"),
        ("resnet101", "resnet"),
        ("densenet201", "densenet"),
        ("xception", "xception"),
        ("nasnetmobile", "nasnet"),
        ("inceptionv3", "inception_v3"),
    ],
)
def test_other_networks_get_what_keras_applications_prepares(name: str, module: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype("float32")
    expected = getattr(keras.applications, module).preprocess_input(images.copy())
    np.testing.assert_allclose(ops.convert_to_numpy(backbones.preprocess_layer(name)(images)), expected, atol=1e-5)


def test_statistics_are_those_of_the_model_that_is_validated():
    """With momentum 1 the moving statistics never move by themselves; before a validation they are the training images' all the same."""
    images = np.random.default_rng(0).normal(3.0, 2.0, (64, 4)).astype("float32")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.BatchNormalization(momentum=1.0, name="bn")(inputs))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    seen = []

    class Look(keras.callbacks.Callback):
        def on_test_end(self, logs=None):
            seen.append(keras.ops.convert_to_numpy(model.get_layer("bn").moving_mean).copy())

    recompute = backbones.RecomputeBatchnorm(lambda: iter([images[:32], images[32:]]), lambda epoch: epoch > 0)
    model.fit(images, images, epochs=2, batch_size=32, validation_data=(images, images), callbacks=[recompute, Look()], verbose=0)
    assert seen[0].tolist() == [0, 0, 0, 0]
    assert seen[1] == pytest.approx(images.mean(axis=0), abs=1e-4)
    assert model.get_layer("bn").momentum == 1.0
