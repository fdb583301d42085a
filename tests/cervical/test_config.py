"""Readings hold what their documents say; options are checked before anything heavy is imported."""

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from cervical import config
from cervical.config import CODED, CORRECTED, DESCRIBED, READINGS, ContrastiveOptions, CostSensitiveOptions, FinetuneOptions
from common.errors import UsageError


def real(kind, tmp_path, **given):
    return kind(dataset="sipakmed", data_dir=tmp_path, **given)


def test_readings_hold_the_documented_values():
    # paper IV-A and thesis Table 6.1: Adam, 1e-3, 50 epochs, dropout 0.5, 110 px, in all experiments.
    for stage in (DESCRIBED.finetune, DESCRIBED.encoder, DESCRIBED.classifier):
        assert (stage.learning_rate, stage.epochs) == (1e-3, 50)
    assert (DESCRIBED.dropout, DESCRIBED.image_size, DESCRIBED.copies, DESCRIBED.batch_size) == (0.5, 110, 6, 32)
    assert DESCRIBED.costs == "printed" and DESCRIBED.split == "paper"
    # facts 1.2 to 1.6.
    assert (CODED.pixels, CODED.resize_filter, CODED.copies_kind, CODED.init) == ("raw", "nearest", "coded", "finetuned")
    assert (CODED.encoder.learning_rate, CODED.classifier.monitor, CODED.finetune.keep, CODED.temperature) == (1e-4, "loss", "last", 0.05)
    assert CODED.finetune.patience == 3 and CODED.finetune.reduce_factor == 0.2 and CODED.finetune.min_learning_rate == 1e-5
    assert CORRECTED.split == "grouped" and CORRECTED.costs == "balanced" and CORRECTED.control
    assert all(stage.keep == "best" for stage in (CORRECTED.finetune, CORRECTED.encoder, CORRECTED.classifier))
    assert {name: reading.reading for name, reading in READINGS.items()} == {name: name for name in READINGS}
    assert config.FREEZE == {"resnet50": 86, "mobilenetv2": 100, "densenet169": 249, "vgg16": 13, "vgg19": 17, "mobilenetv2_035": 100}


def test_options_go_over_the_reading(tmp_path):
    options = real(ContrastiveOptions, tmp_path, epochs=7, classifier_epochs=3, loss="supcon", seed=5, batch_size=64, learning_rate=0.01)
    found = config.effective(options)
    assert (found.encoder.epochs, found.classifier.epochs, found.loss, found.batch_size) == (7, 3, "supcon", 64)
    assert (found.encoder.learning_rate, found.split_seed, found.image_size) == (0.01, 42, 110)
    assert config.effective(replace(options, split="grouped")).split_seed == 5
    assert config.effective(real(ContrastiveOptions, tmp_path)) == DESCRIBED


def test_a_choice_of_epoch_does_not_switch_on_validation_where_there_is_none(tmp_path):
    found = config.effective(real(ContrastiveOptions, tmp_path, keep="best"))
    assert found.encoder == DESCRIBED.encoder and found.classifier.keep == "best"


@pytest.mark.parametrize(
    ("kind", "absent"),
    [
        (config.AuditOptions, {"split", "limit", "image_size", "skip_unreadable", "labels_csv"}),
        (config.SizeAnalysisOptions, {"split", "seed", "image_size", "labels_csv"}),
        (config.FreezeDepthOptions, {"freeze"}),
    ],
)
def test_commands_take_no_option_that_they_ignore(kind, absent):
    assert not absent & {field.name for field in fields(kind)}


def test_a_control_can_be_switched_off_in_the_corrected_reading(tmp_path):
    settled = {
        given: config.effective(real(ContrastiveOptions, tmp_path, reading="corrected", control=given)) for given in (None, True, False)
    }
    assert {given: settings.control for given, settings in settled.items()} == {None: True, True: True, False: False}


def test_sample_defaults_are_small():
    found = config.with_weights(config.effective(FinetuneOptions()), FinetuneOptions(), pretrained=True)
    assert (found.backbone, found.image_size, found.weights, found.freeze) == ("mobilenetv2_035", 64, "none", 0)


def test_weights_decide_freezing_and_input(tmp_path):
    weights = tmp_path / "some.weights.h5"
    weights.touch()

    def settled(kind, pretrained, **given):
        options = real(kind, tmp_path, **given)
        return config.with_weights(config.effective(options), options, pretrained)

    assert settled(FinetuneOptions, True).weights == "imagenet" and settled(FinetuneOptions, True).freeze == 100
    assert settled(FinetuneOptions, True, weights="none").freeze == 0
    assert settled(FinetuneOptions, True, weights=str(weights), freeze=3).freeze == 3
    assert settled(ContrastiveOptions, False).weights == "none"
    assert settled(ContrastiveOptions, False).contrastive_pixels == "adapted"
    assert settled(ContrastiveOptions, False, weights=str(weights)).contrastive_pixels == "weights"
    with pytest.raises(UsageError, match="--freeze"):
        settled(FinetuneOptions, True, backbone="efficientnetv2s")


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (ContrastiveOptions, {"dataset": "ham10000", "data_dir": Path()}, "--dataset ham10000: unknown; expected one of sipakmed"),
        (ContrastiveOptions, {"dataset": "sipakmed"}, "--data-dir"),
        (ContrastiveOptions, {"epochs": -1}, "--epochs -1"),
        (ContrastiveOptions, {"encoder_epochs": 0}, "--encoder-epochs 0"),
        (ContrastiveOptions, {"temperature": 0.0}, "--temperature 0.0"),
        (ContrastiveOptions, {"backbone": "alexnet"}, "--backbone alexnet"),
        (FinetuneOptions, {"copies": 7}, "--copies 7: expected between 0 and 6"),
        (FinetuneOptions, {"learning_rate": 0.0}, "--learning-rate"),
        (FinetuneOptions, {"freeze": -1}, "--freeze -1"),
        (FinetuneOptions, {"weights": "nowhere.h5"}, "--weights nowhere.h5"),
        (CostSensitiveOptions, {"costs": "nowhere.csv"}, "--costs nowhere.csv"),
        (config.TablesOptions, {"backbones": ("alexnet",)}, "--backbones alexnet"),
        (config.FreezeDepthOptions, {"depths": (-2,)}, "--depths -2"),
    ],
)
def test_bad_options_are_one_clear_line(kind, given, message):
    with pytest.raises(UsageError) as raised:
        kind(**given)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_nothing_heavy_is_imported_for_help():
    code = (
        "import sys, cervical.__main__ as m\n"
        "heavy = {'keras', 'numpy', 'pandas', 'PIL', 'tensorflow', 'jax', 'cv2', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert m.main('cervical', m.COMMANDS, ['contrastive', '--help']) == 0"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ended.returncode == 0, ended.stderr
    assert "0.9729" in ended.stdout and "--encoder-epochs" in ended.stdout
