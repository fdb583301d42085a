"""The twelve maps in one pass equal twelve separate ones, follow the prediction's side, and come by stage."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from common.errors import UsageError
from common.explanation.cams import cam
from common.explanation.gradcam import grad_cam, split_model
from melanoma import models
from melanoma.experiments.base import INDICATORS
from melanoma.experiments.train import DESCRIBED
from melanoma.training import heatmaps
from melanoma.training.scores import enlarge

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")
SIZE = 64


@pytest.fixture(scope="module")
def classifier(tiny: None) -> keras.Model:
    keras.utils.set_random_seed(0)
    encoder = models.build_encoder("mobilenetv2_035", SIZE)
    classifier = models.build_classifier(encoder, models.normalisation("image", "mobilenetv2_035"), 2)
    # Statistics of real activations; with the initial ones a deep network's maps fade.
    classifier(np.random.default_rng(1).integers(0, 256, (16, SIZE, SIZE, 3)).astype("float32"), training=True)
    return classifier


@pytest.fixture(scope="module")
def maker(classifier: keras.Model) -> heatmaps.HeatmapMaker:
    return heatmaps.HeatmapMaker(classifier, models.heatmap_layers(models.encoder_of(classifier), "mobilenetv2_035"))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3)).astype("uint8")


def test_one_pass_equals_twelve(classifier: keras.Model, maker: heatmaps.HeatmapMaker, images: np.ndarray) -> None:
    together = maker(images, np.array([1, 0], "float32"))
    assert len(together) == 12
    for layer, found in list(zip(models.heatmap_layers(models.encoder_of(classifier), "mobilenetv2_035"), together, strict=True))[::5]:
        body, head = split_model(classifier, layer)
        alone = ops.convert_to_numpy(grad_cam(body, head, images.astype("float32"), np.tile([[1.0, 0.0]], (5, 1)).astype("float32")))
        assert found == pytest.approx(alone, abs=1e-4)


def test_more_images_than_a_batch_change_nothing(maker: heatmaps.HeatmapMaker, images: np.ndarray) -> None:
    many = np.concatenate([images] * 8)  # 40 images: a full batch of 32 and a filled-up one
    maps = maker(many, np.array([1, 0], "float32"))[-1]
    assert maps.shape == (40, 2, 2)
    assert maps[35:] == pytest.approx(maps[:5], abs=1e-5)


def test_grad_cam_plus_plus_and_layer_cam_are_one_map_at_the_last_layer_only(classifier: keras.Model, images: np.ndarray) -> None:
    """Issue 20, fault 10: before the average over all places the gradient is the same everywhere; `--cam-stage 3` reads an earlier one."""
    layers = models.heatmap_layers(models.encoder_of(classifier), "mobilenetv2_035")
    for stage, same in ((4, True), (3, False)):
        first, second = (cam(method, classifier, images, [0] * len(images), layers[3 * stage - 1]) for method in ("gradcam++", "layercam"))
        assert np.allclose(first, second, atol=1e-4) is same


def test_following_the_prediction_flips_the_score_where_it_is_negative(
    classifier: keras.Model, maker: heatmaps.HeatmapMaker, images: np.ndarray
) -> None:
    weights = np.array([0, 1], "float32")
    logits = ops.convert_to_numpy(classifier(images))[:, 1]
    plain, negated, followed = maker(images, weights), maker(images, -weights), maker(images, weights, follow=True)
    for row, logit in enumerate(logits):
        expected = plain if logit >= 0 else negated
        assert followed[-1][row] == pytest.approx(expected[-1][row], abs=1e-6)
    assert any(not np.allclose(a, b) for a, b in zip(plain[-1], negated[-1], strict=True))


def test_twelve_come_as_four_stages(maker: heatmaps.HeatmapMaker, images: np.ndarray) -> None:
    inputs = SimpleNamespace(images=images)
    stages = heatmaps.twelve(maker, inputs, np.array([4, 0]), np.array([1, 0], "float32"), False)
    assert [stage.shape for stage in stages] == [(2, 16, 16, 3), (2, 8, 8, 3), (2, 4, 4, 3), (2, 2, 2, 3)]
    assert {str(stage.dtype) for stage in stages} == {"float16"}
    assert stages[3][1, ..., 2] == pytest.approx(maker(images[:1], np.array([1, 0], "float32"))[-1][0], abs=1e-3)


def test_groups_and_outputs_follow_table_5() -> None:
    s = DESCRIBED
    assert heatmaps.groups_of(s, INDICATORS) == [(name,) for name in INDICATORS]
    assert heatmaps.groups_of(replace(s, tasks="six"), INDICATORS) == [INDICATORS]
    assert heatmaps.groups_of(replace(s, segmentation=False), INDICATORS) == [()]
    assert heatmaps.groups_of(replace(s, segmentation=False, encoders="equal"), INDICATORS) == [(name,) for name in INDICATORS]
    one, two, five, six = (replace(s, tasks=tasks) for tasks in ("one", "two", "five", "six"))
    assert heatmaps.outputs_of(("streaks",), two, INDICATORS) == ("streaks", "melanoma")
    assert heatmaps.outputs_of(("streaks",), one, INDICATORS) == ("streaks",)
    assert heatmaps.outputs_of(INDICATORS, five, INDICATORS) == INDICATORS
    assert heatmaps.outputs_of(INDICATORS, six, INDICATORS) == (*INDICATORS, "melanoma")
    # Lesion masks: every image has one, so it is no output, and melanoma is left.
    assert heatmaps.outputs_of(("lesion",), one, ()) == ("melanoma",)


def test_targets() -> None:
    weights, follow = heatmaps.target_weights(("a", "b", "melanoma"), ("a", "b"), "auto")
    assert weights.tolist() == [0.5, 0.5, 0.0]
    assert not follow
    weights, follow = heatmaps.target_weights(("melanoma",), ("lesion",), "auto")
    assert (weights.tolist(), follow) == ([1.0], True)
    assert heatmaps.target_weights(("a", "melanoma"), ("a",), "melanoma")[1] is False
    with pytest.raises(UsageError, match="--target indicator: lesion is no output"):
        heatmaps.target_weights(("melanoma",), ("lesion",), "indicator")
    with pytest.raises(UsageError, match="--target predicted: melanoma is no output"):
        heatmaps.target_weights(("a",), ("a",), "predicted")


def test_enlarged_maps_keep_their_range_and_place() -> None:
    maps = np.zeros((1, 4, 4), "float32")
    maps[0, 1, 2] = 1
    grown = enlarge(maps, 32)
    assert grown.shape == (1, 32, 32)
    assert grown.max() <= 1
    assert np.unravel_index(grown[0].argmax(), (32, 32)) in {(y, x) for y in range(8, 16) for x in range(16, 24)}
