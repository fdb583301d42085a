"""Readings, what options change, what they refuse, and what has no effect."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from common.cli import parse
from common.errors import UsageError
from common.settings import recipe
from melanoma.__main__ import COMMANDS
from melanoma.experiments import ablation, base, baselines, multitask, pretrain, repeats, shared, thresholds, train
from melanoma.experiments.train import DESCRIBED, BioUNetSettings

REAL = {"dataset": "isic2018"}


def words(*given: object) -> list[str]:
    return [str(word) for word in given]


def test_described_is_the_papers_appendix() -> None:
    # A.2 and A.3, in their order.
    assert (DESCRIBED.learning_rate, DESCRIBED.weight_decay, DESCRIBED.decay) == (1e-4, 1e-4, "coupled")
    assert (DESCRIBED.image_size, DESCRIBED.normalise) == (512, "image")
    assert (DESCRIBED.pretrain_batch, DESCRIBED.temperature, DESCRIBED.projection) == (24, 0.5, 128)
    assert (DESCRIBED.classifier_batch, DESCRIBED.segmentation_batch, DESCRIBED.repeats) == (16, 8, 1)
    assert DESCRIBED.backbone == "resnet50"


def test_corrected_changes_only_what_it_says_and_each_of_it_can_be_varied_alone() -> None:
    described, corrected = (train.default(name, "isic2018") for name in ("described", "corrected"))
    differ = {f.name for f in fields(described) if getattr(described, f.name) != getattr(corrected, f.name)}
    assert differ == {"reading", "split", "normalise", "class_weights", "segment_on"}
    for name in differ - {"reading"}:
        value = getattr(corrected, name)
        option = f"--{name.replace('_', '-')}"
        found = parse(train.COMMAND, words("--dataset", "sample", option) if value is True else words("--dataset", "sample", option, value))
        plain = train.default("described", "sample")
        assert {f.name for f in fields(found) if getattr(found, f.name) != getattr(plain, f.name)} == {name}


def test_options_beat_the_sample_and_the_sample_beats_the_reading() -> None:
    found = parse(train.COMMAND, words("--epochs", 3, "--segmentation-epochs", 7, "--repeats", 2, "--no-simclr"))
    assert (found.backbone, found.weights) == ("mobilenetv2_035", "none")
    assert (found.classifier_epochs, found.head_epochs) == (3, 3)
    assert (found.segmentation_epochs, found.repeats, found.simclr) == (7, 2, False)
    assert parse(train.COMMAND, words("--batch-size", 4)).segmentation_batch == 4


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dataset": "odir5k"}, "--dataset odir5k"),
        ({"reading": "coded"}, "published no code"),
        ({"backbone": "vgg16"}, "four stages"),
        ({"image_size": 100}, "multiple of 32"),
        ({"temperature": 0.0}, "--temperature 0.0"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0"),
        ({"folds": 5}, "expected --split grouped"),
        ({"folds": 5, "fold": 5, "split": "grouped"}, "--fold 5: expected between 0 and 4"),
        ({"pretrain_batch": 1}, "--pretrain-batch 1"),
        ({"repeats": 0}, "--repeats 0"),
        ({"segmentation_epochs": 0}, "--segmentation-epochs 0"),
    ],
)
def test_wrong_values_are_named(wrong: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        BioUNetSettings(**wrong)


@pytest.mark.parametrize(
    ("command", "given", "said"),
    [
        ("train", ("--unlabelled-dir", "nowhere"), "--unlabelled-dir nowhere"),
        ("train", ("--pretrained", "nowhere"), "--pretrained nowhere"),
        # Issue 20, fault 4.
        ("train", ("--no-segmentation", "--target", "melanoma"), "--target: has no effect here: f_Res predicts melanoma only"),
        ("train", ("--no-simclr", "--temperature", "0.2"), "--temperature: has no effect here: there is no SimCLR"),
        ("train", ("--no-segmentation", "--repeats", "2"), "--repeats: has no effect here: there is no f_Seg"),
        ("train", ("--fold", "1"), "--fold: has no effect here: there are no --folds"),
        ("train", ("--group-pattern", "(a)"), "--group-pattern: has no effect here: sample brings its own groups"),
        ("train", ("--head", "l2", "--head-epochs", "3"), "--head-epochs: has no effect here"),
        ("ablation", ("--no-simclr",), "--no-simclr: has no effect here: the rows of the table decide that"),
        ("repeats", ("--repeats", "2"), "--repeats: has no effect here: the rows"),
        ("multitask", ("--tasks", "two"), "--tasks: has no effect here: the rows"),
        ("ablation", ("--seed", "3"), "--seed: has no effect here: .*--seeds"),
        ("ablation", ("--rows", "bio"), "--rows bio: expected some of f_res, f_res_seg, f_res_clr, bio_u_net"),
        ("baselines", ("--rows", "cams", "--vat-xi", "0.1"), "--vat-xi: has no effect here: the row vat is not run"),
        ("shared", ("--reading", "described"), "expected corrected"),
        ("shared", ("--no-segmentation", "--decoder-width", "1"), "--decoder-width: has no effect here"),
        ("shared", ("--no-segmentation", "--no-calibrated-drawing"), "--no-calibrated-drawing: has no effect here"),
    ],
)
def test_an_option_acts_or_is_refused(command: str, given: tuple[str, ...], said: str) -> None:
    import importlib

    with pytest.raises(UsageError, match=said):
        parse(importlib.import_module(str(COMMANDS[command])).COMMAND, list(given))


def test_tasks_are_an_option_of_the_ablation() -> None:
    """Issue 20, fault 2: `ablation --tasks two` was refused."""
    found = parse(ablation.COMMAND, words("--tasks", "two"))
    assert {found.cell(0, row).tasks for row in found.rows} == {"two"}


def test_the_rows_of_table_3_are_like_for_like() -> None:
    """Issue 20, fault 2: the same encoders, outputs, steps and head; only f_CLR and f_Seg differ."""
    found = ablation.COMMAND.default("described", "sample")
    plain, whole = (recipe(found.cell(0, row)) for row in ("f_res", "bio_u_net"))
    assert (plain["encoders"], plain["head"]) == ("equal", "l2")
    differ = {key for key in plain.keys() & whole.keys() if plain[key] != whole[key]}
    assert differ == {"simclr", "segmentation"}
    assert plain.keys() ^ whole.keys() == {"encoders", "repeats", "segment_on", "watch", "segmentation_batch"}


def test_real_data_needs_a_dataset_b_or_no_simclr(tmp_path: Path) -> None:
    real = words("--dataset", "isic2018", "--data-dir", tmp_path)
    for module, more in ((train, ()), (pretrain, ()), (baselines, ()), (ablation, ("--rows", "f_res", "f_res_clr"))):
        with pytest.raises(UsageError, match="--unlabelled-dir"):
            parse(module.COMMAND, [*real, *more])
    parse(train.COMMAND, [*real, "--no-simclr"])
    parse(baselines.COMMAND, [*real, "--rows", "cams", "unet"])
    parse(ablation.COMMAND, [*real, "--rows", "f_res", "f_res_seg"])


def test_a_pretrained_run_that_nothing_begins_from_is_refused(tmp_path: Path) -> None:
    for name in ("config.json", "encoder.weights.h5"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UsageError, match="not a finished run folder .finished.json is missing"):
        parse(train.COMMAND, words("--pretrained", tmp_path))
    (tmp_path / "finished.json").write_text("{}")
    assert parse(train.COMMAND, words("--pretrained", tmp_path)).pretrained == tmp_path
    for more in (("--order", "interleaved"), ("--no-simclr",)):
        with pytest.raises(UsageError, match="--pretrained: has no effect here"):
            parse(train.COMMAND, words("--pretrained", tmp_path, *more))


def test_a_cell_is_a_run_of_its_own(tmp_path: Path) -> None:
    grid = replace(ablation.COMMAND.default("described", "sample"), seeds=(4, 5), pretrained=tmp_path)
    plain, whole = grid.cell(5, "f_res"), grid.cell(5, "bio_u_net")
    assert (plain.seed, plain.simclr, plain.segmentation, plain.pretrained) == (5, False, False, None)
    assert (whole.simclr, whole.segmentation, whole.pretrained) == (True, True, tmp_path)
    assert repeats.COMMAND.default("described", "sample").cell(0, "3").repeats == 3
    assert recipe(whole) == recipe(replace(whole, seed=0, pretrained=None))


def test_every_default_is_whole() -> None:
    for module in (train, pretrain, ablation, repeats, multitask, thresholds, baselines, shared):
        for reading in ("described", "corrected"):
            for dataset in base.DATASETS:
                assert module.COMMAND.default(reading, dataset).dataset == dataset
