"""Settings of `lmf tune`."""

import pytest

from common.cli import parse
from common.errors import UsageError
from lmf.experiments.tune import COMMAND


def test_every_loss_starts_from_the_same_training() -> None:
    settings = parse(COMMAND, ["--losses", "cce", "lmf", "--trials", "3", "--epochs", "2", "--sampler", "balanced"])
    first, second = (settings.base(loss) for loss in settings.losses)
    assert (first.loss, second.loss, first.epochs, second.sampler, settings.trials) == ("cce", "lmf", 2, "balanced", 3)
    assert parse(COMMAND, []).train.epochs == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--losses cce --gamma 2", "none of the losses cce has it"),
        ("--seeds 0 1", "--seeds: expected one"),
        ("--backbones vgg16 resnet50", "--backbones: expected one"),
        ("--trials 0", "--trials 0"),
        ("--losses lmf lmf", "one is given twice"),
    ],
)
def test_wrong_options_are_named(words: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(COMMAND, words.split())
    assert said in str(caught.value)
