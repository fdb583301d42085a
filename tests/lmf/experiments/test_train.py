"""The readings as instances of one dataclass; every setting acts or is refused; what tells recipes apart."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from common.cli import parse
from common.errors import UsageError
from common.settings import recipe
from lmf.experiments.audit import COMMAND as AUDIT
from lmf.experiments.train import CODED, COMMAND, CORRECTED, DESCRIBED, READINGS, TrainSettings, default


def test_the_described_reading_is_the_papers() -> None:
    expected = {
        "epochs": 100, "batch_size": 32, "learning_rate": 1e-4, "weight_decay": 5e-4, "decay_share": 0.3, "decay_factor": 0.1,
        "image_size": 224, "gamma": 1.5, "max_margin": 0.5, "backbone": "efficientnetv2s", "weights": "imagenet", "dropout": 0.2,
        "split": "paper", "loss_reading": "described", "scale": 1.0, "resize_filter": "bilinear",
    }  # fmt: skip
    assert {key: getattr(DESCRIBED, key) for key in expected} == expected


def test_the_rate_falls_after_thirty_of_the_papers_hundred_epochs_and_scales_with_fewer() -> None:
    assert [round(DESCRIBED.learning_rate_at(epoch) / 1e-4, 9) for epoch in (0, 29, 30, 59, 60, 89, 90, 99)] == [
        1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001,
    ]  # fmt: skip
    short = replace(DESCRIBED, epochs=20)
    assert [round(short.learning_rate_at(epoch) / 1e-4, 9) for epoch in (5, 6, 12, 18)] == [1, 0.1, 0.01, 0.001]
    assert replace(DESCRIBED, epochs=1).learning_rate_at(0) == 1e-4


def test_every_setting_that_separates_two_readings_can_be_varied_alone(tmp_path: Path) -> None:
    for name in READINGS:
        for other in READINGS:
            for field in fields(TrainSettings):
                value, wanted = getattr(READINGS[name], field.name), getattr(READINGS[other], field.name)
                if field.name == "reading" or value == wanted:
                    continue
                option = "--" + field.name.replace("_", "-")
                words = [option if wanted else option.replace("--", "--no-", 1)] if isinstance(wanted, bool) else [option, str(wanted)]
                found = parse(COMMAND, ["--reading", name, "--dataset", "ham10000", "--data-dir", str(tmp_path), *words])
                assert found == replace(default(name, "ham10000"), data_dir=tmp_path, **{field.name: wanted}), field.name


def test_readings_differ_where_they_should() -> None:
    assert (CODED.loss_reading, CODED.preprocessing, CODED.scale, CODED.split) == ("coded", "unit", 30.0, "paper")
    assert (CORRECTED.loss_reading, CORRECTED.split, CORRECTED.control) == ("described", "grouped", True)


def test_alpha_and_beta_come_from_table_6() -> None:
    assert replace(DESCRIBED, dataset="ham10000").alpha_beta == (1.0, 2.0)
    assert replace(DESCRIBED, dataset="ham10000", backbone="resnet50", beta=0.7).alpha_beta == (0.5, 0.7)
    assert replace(DESCRIBED, dataset="ham10000", backbone="mobilenetv2_035").settled().alpha == 1.0


def test_the_sample_is_small_and_from_scratch() -> None:
    settings = default("described", "sample")
    assert (settings.weights, settings.backbone, settings.image_size) == ("none", "mobilenetv2_035", 64)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--loss focal --alpha 1", "--alpha: has no effect here: --loss focal has none"),
        ("--loss cce --gamma 1.5", "--gamma: has no effect here: --loss cce has none"),
        ("--loss cce --control", "--control: has no effect here: these settings are the control's"),
        ("--loss focal --loss-reading coded", "--loss focal has one reading"),
        ("--loss balanced_softmax --tau 2", "--tau: has no effect here: --loss balanced_softmax has none"),
        ("--loss lmf --effective-beta 0.9", "--effective-beta: has no effect here"),
        ("--deferred-beta 0.9", "--deferred-share 1 defers the weights for good"),
        ("--decay-share 1 --decay-factor 0.2", "--decay-share 1 never lets the rate fall"),
        ("--head-scale 16", "--head linear has none"),
        ("--loss ldam --head cosine --scale 3", "--head cosine has its own, --head-scale"),
        ("--balanced-limit", "without --limit all images are used"),
        ("--loss class_balanced --effective-beta 1", "--effective-beta 1"),
        ("--loss logit_adjusted --tau -1", "--tau"),
        ("--sampler smote", "smote"),
        ("--deferred-share 1.5", "--deferred-share 1.5"),
        ("--alpha -1", "--alpha -1.0: expected between 0 and 100"),
        ("--alpha 0 --beta 0", "at least one above 0"),
        ("--gamma -0.1", "--gamma"),
        ("--learning-rate 0", "--learning-rate"),
        ("--decay-share 0", "--decay-share"),
        ("--scale 0", "--scale"),
        ("--dataset ham10000", "expected --data-dir"),
        ("--dataset imagenet", "imagenet"),
        (f"--labels-csv {__file__}", "--labels-csv: has no effect here: --dataset sample has labels of its own"),
        ("--group-pattern (.)", "--group-pattern: has no effect here"),
        (f"--mask-dir {Path(__file__).parent}", "--mask-dir: has no effect here"),
        ("--dropout 0.3", "--dropout: has no effect here"),
        ("--network net.h5", "expected a .keras file"),
    ],
)
def test_wrong_options_are_named(words: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(COMMAND, words.split())
    assert said in str(caught.value)


def test_a_network_brings_its_own_weights_and_pixels(tmp_path: Path) -> None:
    file = tmp_path / "net.keras"
    file.touch()
    for words in (["--backbone", "vgg16"], ["--weights", "none"], ["--preprocessing", "unit"]):
        with pytest.raises(UsageError, match="--network brings its own"):
            parse(COMMAND, ["--network", str(file), *words])
    known = recipe(parse(COMMAND, ["--network", str(file)]))
    assert known["network"] == "net.keras" and "backbone" not in known and len(known["network_sha256"]) == 64


def test_recipes_hold_what_acts_and_nothing_else() -> None:
    focal, lmf = (recipe(replace(DESCRIBED, loss=loss)) for loss in ("focal", "lmf"))
    assert "alpha" not in focal and "gamma" in focal and {"alpha", "beta", "gamma", "scale"} <= set(lmf)
    assert recipe(replace(DESCRIBED, seed=1, control=True)) == recipe(DESCRIBED)
    assert recipe(replace(DESCRIBED, gamma=2.0)) != recipe(DESCRIBED)


def test_the_audit_refuses_what_it_would_not_look_at() -> None:
    with pytest.raises(UsageError, match="--group-pattern: has no effect here"):
        parse(AUDIT, ["--group-pattern", "(.)"])


def test_the_control_does_nothing_about_the_imbalance() -> None:
    words = "--loss class_balanced --sampler balanced --deferred-share 0.8 --head cosine --adjust-tau 1 --control"
    settings = parse(COMMAND, words.split())
    plain = settings.control_settings()
    assert not settings.plain() and plain.plain() and plain.epochs == settings.epochs
    assert (plain.loss, plain.sampler, plain.deferred_share, plain.head, plain.adjust_tau) == ("cce", "shuffle", 1.0, "linear", 0.0)
    # Draws alone are a remedy too, so there cross-entropy has a control.
    assert parse(COMMAND, ["--loss", "cce", "--sampler", "balanced", "--control"]).control


def test_each_remedy_is_another_recipe() -> None:
    base = replace(DESCRIBED, loss="cce")
    changes = [{"sampler": "balanced"}, {"deferred_share": 0.8}, {"head": "cosine"}, {"adjust_tau": 1.0}, {"loss": "balanced_softmax"}]
    recipes = [recipe(replace(base, **change)) for change in ({}, *changes)]
    assert all(first != second for place, first in enumerate(recipes) for second in recipes[:place])
    assert recipe(replace(base, deferred_beta=0.5)) == recipe(base)
