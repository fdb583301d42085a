"""The four subnetworks: shapes, what is shared, what must not move, and that a saved classifier takes raw pixels."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from common.backbones import PixelScaling, batch_normalisations
from melanoma import models

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")
BACKBONE, SIZE = "mobilenetv2_035", 32


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3)).astype("uint8")


@pytest.fixture(scope="module")
def encoder(tiny: None) -> keras.Model:
    keras.utils.set_random_seed(0)
    return models.build_encoder(BACKBONE, SIZE)


@pytest.fixture(scope="module")
def normalise() -> keras.layers.Layer:
    return models.normalisation("image", BACKBONE)


def test_standardise_gives_zero_mean_and_unit_variance_an_image(images: np.ndarray, normalise: keras.layers.Layer) -> None:
    scaled = ops.convert_to_numpy(normalise(images))
    assert scaled.mean(axis=(1, 2, 3)) == pytest.approx(np.zeros(3), abs=1e-5)
    assert scaled.std(axis=(1, 2, 3)) == pytest.approx(np.full(3, models.input_spread(BACKBONE)), abs=1e-5)
    assert not ops.convert_to_numpy(normalise(np.full((1, 4, 4, 3), 200, "uint8"))).any()


def test_views_differ_repeat_with_the_seed_and_stay_in_range(images: np.ndarray) -> None:
    view = models.RandomView(seed=1)
    first, second = (ops.convert_to_numpy(view(images)) for _ in range(2))
    assert first.shape == images.shape
    assert first.min() >= 0
    assert first.max() <= 255
    assert np.abs(first - second).mean() > 1
    assert np.array_equal(ops.convert_to_numpy(models.RandomView(seed=1)(images)), first)
    again = models.RandomView.from_config(view.get_config())
    assert np.array_equal(ops.convert_to_numpy(again(images)), first)


def test_a_view_without_crop_or_colour_keeps_the_middle_of_a_ring() -> None:
    """Rotations and flips map circles around the centre to themselves; an error in the affine map would not."""
    y, x = np.mgrid[:33, :33] - 16.0
    rings = np.repeat(np.cos(np.hypot(x, y) / 3)[None, ..., None] * 100 + 120, 3, axis=-1).repeat(4, axis=0).astype("float32")
    view = ops.convert_to_numpy(models.RandomView(seed=3, scale=(1.0, 1.0), strength=0.0)(rings))
    inside = np.hypot(x, y) < 14
    assert np.abs(view - rings)[:, inside].max() < 6  # bilinear interpolation of a wave of 19 pixels


def colours_by_formula(image: np.ndarray, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """torchvision's adjust_brightness, adjust_contrast (about the mean grey), adjust_saturation, in that order, clipped at the end."""
    luma = np.array([0.299, 0.587, 0.114])
    bright = image * brightness
    contrasted = contrast * bright + (1 - contrast) * (bright @ luma).mean()
    return np.clip(saturation * contrasted + (1 - saturation) * (contrasted @ luma)[..., None], 0, 255)


def test_colours_follow_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images, draws put in by hand: no turn, the whole image, no flip, then the three factors."""
    images = np.random.default_rng(2).integers(0, 256, (2, 8, 8, 3)).astype("float32")
    factors = [(1.3, 0.7), (0.6, 1.4), (1.2, 0.8)]
    # Angle, side, two flips (below one half turns around), two shifts, then the colours.
    drawn = iter([(0, 0), (1, 1), (1, 1), (1, 1), (0, 0), (0, 0), *factors])
    monkeypatch.setattr(keras.random, "uniform", lambda shape, low, high, seed: ops.convert_to_tensor(next(drawn), "float32"))
    views = ops.convert_to_numpy(models.RandomView(seed=0)(images))
    for index, (image, view) in enumerate(zip(images, views, strict=True)):
        expected = colours_by_formula(image, *(pair[index] for pair in factors))
        np.testing.assert_allclose(view, expected, atol=0.05)


def test_crops_lie_inside_the_image() -> None:
    """A left-to-right ramp: with a crop of half the side every value must occur in the original, and the range is halved."""
    ramp = np.tile(np.arange(64, dtype="float32")[None, None, :, None], (8, 64, 1, 3))
    view = ops.convert_to_numpy(models.RandomView(seed=5, scale=(0.5, 0.5), strength=0.0)(ramp))
    spread = view.max(axis=(1, 2, 3)) - view.min(axis=(1, 2, 3))
    assert (spread < 64 * 0.5 * np.sqrt(2) + 1).all()
    assert (spread > 25).all()


def test_simclr_gives_two_embeddings_an_image(encoder: keras.Model, normalise: keras.layers.Layer, images: np.ndarray) -> None:
    simclr = models.build_simclr(encoder, normalise, 128, seed=0)
    pairs = ops.convert_to_numpy(simclr(images))
    assert pairs.shape == (3, 2, 128)
    assert np.abs(pairs[:, 0] - pairs[:, 1]).max() > 0


def test_pairs_belong_to_one_image(encoder: keras.Model, normalise: keras.layers.Layer, images: np.ndarray) -> None:
    """The projection head sees all first views, then all second ones; a wrong reshape would pair different images."""
    simclr = models.build_simclr(encoder, normalise, 8, seed=0)
    both = keras.Model(simclr.input, [simclr.get_layer("projection_2").output, simclr.output])
    features, pairs = (ops.convert_to_numpy(x) for x in both(images.astype("float32")))
    assert len({row.tobytes() for row in features}) == 6
    for image in range(3):
        assert np.array_equal(pairs[image, 0], features[image])
        assert np.array_equal(pairs[image, 1], features[image + 3])


def test_brightness_and_contrast_reach_the_network(encoder: keras.Model) -> None:
    """Scaled by its own mean and deviation a view that differs in nothing else would lose both."""
    simclr = models.build_simclr(encoder, models.normalisation("image", BACKBONE), 8, seed=0)
    views = [layer for layer in simclr.layers if isinstance(layer, models.RandomView)]
    for view in views:
        view.scale, view.strength = (1.0, 1.0), 0.4
    seen = keras.Model(simclr.input, simclr.get_layer("standardise").output)
    # Rings look the same however they are turned; grey ones have no saturation to change.
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    rings = np.repeat(np.cos(np.hypot(x, y) / 3)[None, ..., None] * 30 + 120, 3, axis=-1).repeat(4, axis=0).astype("float32")
    inside = np.hypot(x, y) < 13
    scaled = ops.convert_to_numpy(seen(rings))[:, inside]
    assert scaled.shape[0] == 8
    assert scaled.mean(axis=(1, 2)).std() > 0.2
    assert scaled.std(axis=(1, 2)).std() > 0.05 * models.input_spread(BACKBONE)


@pytest.mark.parametrize(("backbone", "mode"), [("resnet50", "caffe"), ("mobilenetv2_035", "tf"), ("densenet121", "torch")])
def test_a_standardised_photograph_has_the_range_and_the_channels_that_the_weights_expect(backbone: str, mode: str) -> None:
    """ImageNet's own mean and deviation are what both scalings agree on; torchvision's constants."""
    rng = np.random.default_rng(0)
    photograph = rng.normal((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), (1, 64, 64, 3)).astype("float32")
    ours = ops.convert_to_numpy(models.normalisation("image", backbone)(photograph))
    theirs = ops.convert_to_numpy(PixelScaling(mode)(photograph))
    assert ours.std() == pytest.approx(theirs.std(), rel=0.03)
    assert ours.mean() == pytest.approx(0, abs=1e-3)
    for channel in range(3):
        assert np.corrcoef(ours[..., channel].ravel(), theirs[..., channel].ravel())[0, 1] > 0.99


def test_a_network_that_subtracts_the_mean_itself_gets_images_with_one() -> None:
    """EfficientNet's weights hold ImageNet's mean and variance for images of 0..1; these are torchvision's constants."""
    photograph = np.random.default_rng(0).normal((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), (1, 64, 64, 3)).astype("float32")
    ours = ops.convert_to_numpy(models.normalisation("image", "efficientnetb0")(photograph))
    assert ours.mean() == pytest.approx((0.485 + 0.456 + 0.406) / 3, abs=1e-3)
    assert ours.std() == pytest.approx((0.229 + 0.224 + 0.225) / 3, rel=0.01)


def test_segmenter_draws_at_full_size_and_leaves_the_image_statistics_alone(encoder: keras.Model) -> None:
    segmenter = models.build_segmenter(encoder, BACKBONE, channels=2)
    segmenter.compile("adam", "mse", jit_compile=False)
    rng = np.random.default_rng(0)
    maps = [rng.random((2, SIZE // stride, SIZE // stride, 3)).astype("float32") for stride in models.STRIDES]
    statistics = [ops.convert_to_numpy(layer.moving_mean) for layer in batch_normalisations(encoder)]
    kernel = ops.convert_to_numpy(encoder.get_layer("s0b0_conv").kernel)
    segmenter.train_on_batch(maps, np.ones((2, SIZE, SIZE, 2), "float32"))
    masks = ops.convert_to_numpy(segmenter(maps))
    assert masks.shape == (2, SIZE, SIZE, 2)
    assert masks.min() >= 0
    assert masks.max() <= 1
    for before, layer in zip(statistics, batch_normalisations(encoder), strict=True):
        assert np.array_equal(before, ops.convert_to_numpy(layer.moving_mean))
    assert not np.array_equal(kernel, ops.convert_to_numpy(encoder.get_layer("s0b0_conv").kernel))  # E1 does learn from the masks


def test_plain_unet_draws_from_the_image(encoder: keras.Model, normalise: keras.layers.Layer, images: np.ndarray) -> None:
    assert models.build_plain_unet(encoder, normalise, BACKBONE)(images).shape == (3, SIZE, SIZE, 1)


def test_final_classifier_survives_saving_and_takes_raw_pixels(
    tiny: None, normalise: keras.layers.Layer, images: np.ndarray, tmp_path: Path
) -> None:
    encoders = [models.build_encoder(BACKBONE, SIZE) for _ in range(2)]
    for index, encoder in enumerate(encoders):
        encoder.name = f"encoder_{index}"
    final = models.build_final(encoders, normalise)
    probabilities = ops.convert_to_numpy(final(images))
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert final.layers[-1].name == "predictions"
    final.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert ops.convert_to_numpy(loaded(images)) == pytest.approx(probabilities, abs=1e-5)
    features, _ = models.with_features(final)(images)
    assert features.shape == (3, 2 * 8)


def test_batch_normalisation_has_pytorchs_momentum(encoder: keras.Model) -> None:
    assert {layer.momentum for layer in batch_normalisations(encoder)} == {0.9}


def test_lime_hides_a_part_without_touching_the_rest() -> None:
    """Issue 20, fault 5: hidden before the scaling by an image's own statistics, the visible half moved by most of a deviation."""
    from common.explanation import lime

    images = keras.Input((8, 8, 3))
    left = keras.layers.Cropping2D(((0, 0), (0, 4)))(models.Standardise()(images))
    probability = keras.layers.Dense(2, activation="softmax", name="two")(keras.layers.GlobalAveragePooling2D()(left))
    model = keras.Model(images, probability)
    model.get_layer("two").set_weights([np.array([[1.0, -1.0]] * 3, "float32"), np.zeros(2, "float32")])
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype("float32")
    network, visible, hidden = lime._scaled(model, image)
    half = np.where(np.arange(8)[None, :, None] < 4, visible, hidden)  # the right half, which the model does not read, is hidden
    found, whole = (ops.convert_to_numpy(each) for each in (network(half[None]), model(image[None])))
    np.testing.assert_allclose(found, whole, atol=1e-6)
    before = ops.convert_to_numpy(model(np.where(np.arange(8)[None, :, None] < 4, image, 0)[None]))
    assert abs(before - whole).max() > 0.05


def test_a_saved_u_net_draws_the_same(tiny: None, tmp_path: Path) -> None:
    """`predict` draws with it."""
    unet = models.build_segmenter(models.build_encoder("mobilenetv2_035", 64), "mobilenetv2_035", 2)
    rng = np.random.default_rng(0)
    unet.set_weights([rng.normal(0.2, 0.1, each.shape) ** 2 for each in unet.get_weights()])  # variances are positive
    maps = [rng.random((2, 64 // stride, 64 // stride, 3)).astype("float32") for stride in models.STRIDES]
    unet.save(tmp_path / "unet.keras")
    again = keras.saving.load_model(tmp_path / "unet.keras", compile=False, safe_mode=True)
    np.testing.assert_allclose(again.predict(maps, verbose=0), unet.predict(maps, verbose=0), atol=1e-5)
