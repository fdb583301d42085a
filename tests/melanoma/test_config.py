"""Readings, what options change, and what they refuse."""

from pathlib import Path

import pytest

from common.errors import UsageError
from melanoma.config import (
    CORRECTED,
    DESCRIBED,
    INDICATORS,
    AblationOptions,
    BaselineOptions,
    BioUNetOptions,
    GridOptions,
    MelanomaOptions,
    MultitaskOptions,
    PretrainOptions,
    RepeatsOptions,
    resolve,
)


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
        ({"tensorboard": True}, "--tensorboard"),
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
    for options, more in ((PretrainOptions, {}), (BaselineOptions, {}), (AblationOptions, {"rows": ("f_res", "f_res_clr")})):
        with pytest.raises(UsageError, match="--unlabelled-dir"):
            options(dataset="isic2018", data_dir=tmp_path, **more)
    BaselineOptions(dataset="isic2018", data_dir=tmp_path, rows=("cams", "unet"))
    AblationOptions(dataset="isic2018", data_dir=tmp_path, rows=("f_res", "f_res_seg"))
    with pytest.raises(UsageError, match="--seeds"):
        GridOptions(seeds=())


@pytest.mark.parametrize(
    ("options", "wrong", "said"),
    [
        (AblationOptions, {"simclr": False}, "--no-simclr: the rows"),
        (BaselineOptions, {"segmentation": False}, "--no-segmentation: the rows"),
        (RepeatsOptions, {"repeats": 2}, "--repeats 2: the rows"),
        (MultitaskOptions, {"tasks": "two"}, "--tasks two: the rows"),
        (GridOptions, {"order": "interleaved"}, "--order interleaved: the rows"),
        (AblationOptions, {"rows": ("bio",)}, "--rows bio: expected some of f_res, f_res_seg, f_res_clr, bio_u_net"),
        (MultitaskOptions, {"seed": 3}, "--seed 3: .*--seeds 3"),
    ],
)
def test_what_the_rows_decide_is_no_option(options: type, wrong: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        options(**wrong)


def test_a_pretrained_run_that_nothing_begins_from_is_refused(tmp_path: Path) -> None:
    for name in ("config.json", "encoder.weights.h5"):
        (tmp_path / name).write_text("{}")
    assert BioUNetOptions(pretrained=tmp_path).pretrained == tmp_path
    for more in ({"order": "interleaved"}, {"simclr": False}):
        with pytest.raises(UsageError, match="nothing begins from it"):
            BioUNetOptions(pretrained=tmp_path, **more)
    with pytest.raises(UsageError, match="nothing begins from it"):
        BaselineOptions(pretrained=tmp_path)


def test_a_cell_is_a_run_of_its_own(tmp_path: Path) -> None:
    for name in ("config.json", "encoder.weights.h5"):
        (tmp_path / name).write_text("{}")
    grid = AblationOptions(seeds=(4, 5), epochs=2, pretrained=tmp_path)
    plain, whole = grid.cell(5, "f_res"), grid.cell(5, "bio_u_net")
    assert (plain.seed, plain.simclr, plain.segmentation, plain.pretrained) == (5, False, False, None)
    assert (whole.simclr, whole.segmentation, whole.pretrained, whole.epochs) == (True, True, tmp_path, 2)
    assert RepeatsOptions().cell(0, "3").repeats == 3
