"""The design of reading `corrected`: its losses against numbers by hand, and turns that keep masks on their images."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from common.backbones import batch_normalisations
from melanoma import models
from melanoma.experiments.shared import DESCRIBED
from melanoma.losses import UncertaintyWeights
from melanoma.training.shared import build, calibrate_drawing, turned

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")


def test_uncertainty_weights_by_hand() -> None:
    layer = UncertaintyWeights({"melanoma": 1.0, "masks": 0.5})
    losses = {"melanoma": ops.convert_to_tensor(0.7), "masks": ops.convert_to_tensor(0.4)}
    assert float(ops.convert_to_numpy(layer(losses))) == pytest.approx(0.7 + 0.5 * 0.4)
    layer.log_variances["melanoma"].assign(math.log(4.0))  # σ² = 4: L / 4 + log σ
    layer.log_variances["masks"].assign(math.log(0.25))
    expected = 0.7 / 4 + math.log(2) + 0.5 * 0.4 / 0.25 + math.log(0.5)
    assert float(ops.convert_to_numpy(layer(losses))) == pytest.approx(expected, rel=1e-5)
    fixed = UncertaintyWeights({"melanoma": 1.0, "masks": 0.5}, fixed=True)
    assert float(ops.convert_to_numpy(fixed(losses))) == pytest.approx(1.1)
    assert not fixed.trainable_variables


def test_masks_turn_with_their_images() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 6, 6, 3)).astype("uint8")
    masks = images[..., :1].copy()
    before = images.copy()
    found, targets = turned(images, {"masks": masks, "melanoma": np.ones((16, 1))}, np.random.default_rng(1))
    assert np.array_equal(found[..., :1], targets["masks"])
    assert np.array_equal(images, before)  # the memory map is not written to
    assert len({found[i].tobytes() == images[i].tobytes() for i in range(16)}) == 2
    for i in range(16):
        assert np.array_equal(np.sort(found[i].ravel()), np.sort(images[i].ravel()))


def test_only_what_is_asked_for_is_built(tiny: None) -> None:
    normalise = models.normalisation("weights", "mobilenetv2_035")
    whole = models.build_shared(models.build_encoder("mobilenetv2_035", 64), normalise, "mobilenetv2_035", 5, 2, 0.25)
    assert {name: tuple(each.shape[1:]) for name, each in whole.output.items()} == {
        "melanoma": (1,), "indicators": (5,), "masks": (64, 64, 2),
    }  # fmt: skip
    alone = models.build_shared(models.build_encoder("mobilenetv2_035", 64), normalise, "mobilenetv2_035", 0, 0)
    assert list(alone.output) == ["melanoma"]
    assert alone.count_params() < whole.count_params()
    assert isinstance(whole, keras.Model)


@pytest.fixture
def drawing(tiny: None):
    """An untrained network with one drawing, ten images, its logits, and how inputs with given masks look."""
    keras.utils.set_random_seed(0)
    normalise = models.normalisation("weights", "mobilenetv2_035")
    network = models.build_shared(models.build_encoder("mobilenetv2_035", 64), normalise, "mobilenetv2_035", 0, 1, 0.25)
    kernel, bias = network.get_layer("mask").get_weights()
    network.get_layer("mask").set_weights([50 * kernel, bias])  # untrained it is grey everywhere
    images = np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3)).astype("uint8")

    def logits() -> np.ndarray:
        drawn = network.predict(images.astype("float32"), verbose=0)["masks"][..., 0].astype("float64")
        return np.log(drawn) - np.log1p(-drawn)

    def inputs(masks: np.ndarray) -> SimpleNamespace:
        return SimpleNamespace(images=images, rows=lambda part: {"validation": np.arange(4, 10)}[part], masks=lambda name: masks)

    return network, logits, inputs


def test_the_drawing_is_calibrated_on_validation_pixels(drawing) -> None:
    """Validation masks are drawn with the odds 4 z - 1: slope and offset are found again, and the network's logits lie on that line."""
    network, logits, inputs = drawing
    rng, before = np.random.default_rng(1), logits()
    masks = (rng.random(before.shape) < 1 / (1 + np.exp(-4 * before + 1))).astype("float32")
    masks[:4] = rng.random((4, 64, 64)) < 0.5  # training and test images say something else
    found = calibrate_drawing(inputs(masks), network, ("lesion",))
    slope, offset = found["lesion"]
    assert (slope, offset) == (pytest.approx(4, rel=0.1), pytest.approx(-1, abs=0.1))
    assert logits() == pytest.approx(slope * before + offset, abs=1e-3)


@pytest.mark.parametrize("masks", [np.zeros((10, 64, 64), "float32"), None])
def test_a_drawing_that_nothing_fits_stays(drawing, masks: np.ndarray | None) -> None:
    """Empty validation masks, or masks that fall where the drawing rises."""
    network, logits, inputs = drawing
    before = logits()
    assert calibrate_drawing(inputs((before < np.median(before)) * 1.0 if masks is None else masks), network, ("lesion",)) == {}
    assert np.array_equal(logits(), before)


def test_a_pretraining_of_folded_weights_stays_folded(tiny: None, tmp_path: Path) -> None:
    """Its batch normalisation normalises nothing, and training it would destroy the network."""
    models.build_encoder("mobilenetv2_035", 64).save_weights(tmp_path / "encoder.weights.h5")  # as initialised: means 0, variances 1
    settings = replace(DESCRIBED, backbone="mobilenetv2_035", image_size=64, pretrained=tmp_path)
    _, encoder = build(SimpleNamespace(settings=settings), 0, 0)
    assert not any(layer.trainable for layer in batch_normalisations(encoder))
