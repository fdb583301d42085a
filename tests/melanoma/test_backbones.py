"""The real networks under Bio-U-Net: which twelve layers, and that a U-Net fits on each."""

from pathlib import Path

import keras
import numpy as np
import pytest

from melanoma import models
from melanoma.taps import tensor
from melanoma.training.heatmaps import HeatmapMaker


def test_twelve_layers_of_resnet50_are_the_last_three_bottlenecks_of_each_stage() -> None:
    assert models.heatmap_layers(models.build_encoder("resnet50", 64), "resnet50") == (
        "conv2_block1_out", "conv2_block2_out", "conv2_block3_out", "conv3_block2_out", "conv3_block3_out", "conv3_block4_out",
        "conv4_block4_out", "conv4_block5_out", "conv4_block6_out", "conv5_block1_out", "conv5_block2_out", "conv5_block3_out",
    )  # fmt: skip


@pytest.mark.parametrize(
    "backbone",
    [
        "mobilenetv2_035",
        "resnet50",
        "convnexttiny",  # no half-resolution map, sums that are no layers
        pytest.param("efficientnetb0", marks=pytest.mark.slow),
        pytest.param("densenet121", marks=pytest.mark.slow),
        pytest.param("efficientnetv2s", marks=pytest.mark.slow),
    ],
)
def test_every_backbone_with_four_stages_carries_the_unet(backbone: str) -> None:
    encoder = models.build_encoder(backbone, 64)
    segmenter = models.build_segmenter(encoder, backbone)
    assert segmenter.output_shape == (None, 64, 64, 1)
    sides = [tensor(encoder, name).shape[1] for name in models.heatmap_layers(encoder, backbone)]
    assert sides == list(np.repeat([64 // stride for stride in models.STRIDES], 3))


@pytest.mark.slow
def test_sums_that_are_no_layers_are_found_again_in_a_saved_network(tmp_path: Path) -> None:
    """Keras numbers such sums anew in every network it builds, so their names hold for one network only."""
    encoder = models.build_encoder("convnexttiny", 64)
    classifier = models.build_classifier(encoder, models.normalisation("image", "convnexttiny"), 1)
    classifier.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("uint8")
    found = []
    for model in (classifier, keras.saving.load_model(tmp_path / "model.keras")):
        layers = models.heatmap_layers(models.encoder_of(model), "convnexttiny")
        found.append(HeatmapMaker(model, layers)(images, np.ones(1, "float32")))
    for ours, loaded in zip(*found, strict=True):
        assert ours.max() == pytest.approx(1)
        np.testing.assert_allclose(loaded, ours, atol=1e-5)
