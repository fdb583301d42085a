"""Settings of `lmf gradients`: ranges, and options that have no effect."""

import pytest

from common.cli import parse
from common.errors import UsageError
from lmf.experiments.gradients import COMMAND


def test_the_losses_settings_are_options(tmp_path):
    settings = parse(COMMAND, [str(tmp_path), "--losses", "lmf", "--beta", "2", "--scale", "10"])
    assert (settings.losses, settings.beta, settings.scale) == (("lmf",), 2.0, 10.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--alpha", "0", "--beta", "0"], "--alpha 0 --beta 0: expected at least one above 0"),
        (["--losses", "focal", "--scale", "3"], "it acts in lmf and ldam only"),
        (["--scale", "0"], "--scale 0"),
        (["--effective-beta", "1"], "--effective-beta 1"),
    ],
)
def test_what_has_no_effect_or_is_out_of_range_is_refused(tmp_path, words, said):
    with pytest.raises(UsageError, match=said):
        parse(COMMAND, [str(tmp_path), *words])


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        parse(COMMAND, [str(tmp_path / "none")])
