"""Readings, what options change, and what they refuse."""

from pathlib import Path

import pytest

from common.errors import UsageError
from melanoma.config import CORRECTED, DESCRIBED, INDICATORS, BioUNetOptions, GridOptions, MelanomaOptions, resolve


def test_described_is_the_papers_appendix() -> None:
    # A.2 and A.3, in their order.
    assert (DESCRIBED.learning_rate, DESCRIBED.weight_decay) == (1e-4, 1e-4)
    assert (DESCRIBED.image_size, DESCRIBED.normalise) == (512, "image")
    assert (DESCRIBED.pretrain_batch, DESCRIBED.temperature, DESCRIBED.projection) == (24, 0.5, 128)
    assert (DESCRIBED.classifier_batch, DESCRIBED.segmentation_batch, DESCRIBED.repeats) == (16, 8, 1)
    assert DESCRIBED.backbone == "resnet50"


def test_corrected_changes_only_what_it_says() -> None:
    changed = {name for name, value in CORRECTED.as_dict().items() if value != DESCRIBED.as_dict()[name]}
    assert changed == {"reading", "split", "normalise", "class_weights", "segment_on"}


def test_options_beat_the_sample_and_the_sample_beats_the_reading() -> None:
    settings = resolve(BioUNetOptions(epochs=3, segmentation_epochs=7, repeats=2, simclr=False), INDICATORS)
    assert (settings.backbone, settings.weights) == ("mobilenetv2_035", "none")
    assert (settings.pretrain_epochs, settings.classifier_epochs, settings.head_epochs) == (3, 3, 3)
    assert (settings.segmentation_epochs, settings.repeats, settings.simclr) == (7, 2, False)
    assert settings.indicators == INDICATORS
    assert resolve(BioUNetOptions(batch_size=4), ()).segmentation_batch == 4


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dataset": "odir5k"}, "--dataset odir5k"),
        ({"reading": "coded"}, "published no code"),
        ({"backbone": "vgg16"}, "four stages"),
        ({"image_size": 100}, "multiple of 32"),
        ({"temperature": 0.0}, "--temperature 0.0"),
        ({"pretrain_batch": 1}, "--pretrain-batch 1"),
        ({"unlabelled_dir": Path("nowhere")}, "--unlabelled-dir nowhere"),
        ({"repeats": 0}, "--repeats 0"),
        ({"segmentation_epochs": 0}, "--segmentation-epochs 0"),
        ({"pretrained": Path("nowhere")}, "nowhere"),
    ],
)
def test_wrong_options_are_named(wrong: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        BioUNetOptions(**wrong)


def test_real_data_needs_a_dataset_b_or_no_simclr(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--unlabelled-dir"):
        BioUNetOptions(dataset="isic2018", data_dir=tmp_path)
    BioUNetOptions(dataset="isic2018", data_dir=tmp_path, simclr=False)
    MelanomaOptions(dataset="isic2018", data_dir=tmp_path)
    with pytest.raises(UsageError, match="--seeds"):
        GridOptions(seeds=())
