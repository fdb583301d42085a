"""Fine-tuning's readings hold what their documents say; the weights decide what is frozen."""

import pytest

from cervical.experiments.finetune import CODED, CORRECTED, DESCRIBED, FREEZE, REDUCED
from common.errors import UsageError
from common.settings import recipe
from tests.cervical.conftest import settings_of


def test_readings_hold_the_documented_values():
    # paper IV-A and thesis Table 6.1: Adam, 1e-3, 50 epochs, dropout 0.5, 110 px, in all experiments.
    assert (DESCRIBED.training.learning_rate, DESCRIBED.training.epochs) == (1e-3, 50)
    assert (DESCRIBED.dropout, DESCRIBED.image_size, DESCRIBED.copies, DESCRIBED.batch_size) == (0.5, 110, 6, 32)
    assert (DESCRIBED.split, DESCRIBED.split_seed, DESCRIBED.weights, DESCRIBED.body) == ("paper", 42, "imagenet", "whole")
    # facts 1.2 to 1.6.
    assert (CODED.pixels, CODED.resize_filter, CODED.copies_kind, CODED.body) == ("raw", "nearest", "coded", "truncated")
    assert (CODED.training.keep, CODED.training.patience, CODED.training.reduce_factor) == ("last", 3, 0.2)
    assert CORRECTED.split == "grouped" and CORRECTED.training.keep == "best"
    assert (REDUCED.copies, REDUCED.training.epochs, REDUCED.training.schedule) == (0, 15, "cosine")
    assert FREEZE == {"resnet50": 86, "mobilenetv2": 100, "densenet169": 249, "vgg16": 13, "vgg19": 17, "mobilenetv2_035": 100}


def test_weights_decide_freezing(tmp_path):
    weights = tmp_path / "some.weights.h5"
    weights.touch()
    real = ("finetune", "--dataset", "sipakmed", "--data-dir", tmp_path)
    assert settings_of(*real).frozen_layers("mobilenetv2") == 100
    assert settings_of(*real, "--backbone", "vgg16").frozen_layers("vgg16") == 13
    assert settings_of(*real, "--weights", "none").frozen_layers("mobilenetv2") == 0
    assert settings_of(*real, "--weights", weights, "--freeze", 3).frozen_layers("mobilenetv2") == 3
    with pytest.raises(UsageError, match="--freeze paper: the paper names no number of layers for efficientnetv2s"):
        settings_of(*real, "--backbone", "efficientnetv2s")


def test_a_weights_file_counts_by_its_content(tmp_path):
    found = []
    for content in (b"one", b"two"):
        (tmp_path / "w.weights.h5").write_bytes(content)
        found.append(recipe(settings_of("finetune", "--weights", tmp_path / "w.weights.h5")))
    assert found[0] != found[1] and str(tmp_path) not in str(found[0])
