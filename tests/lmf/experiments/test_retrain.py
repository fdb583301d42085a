"""Settings of `lmf retrain`."""

import pytest

from common.cli import parse
from common.errors import UsageError
from lmf.experiments.retrain import COMMAND


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--how", "magic"], "magic"),
        (["--epochs", "0"], "--epochs 0"),
        (["--learning-rate", "0"], "--learning-rate"),
        ([], "not a finished run folder"),
    ],
)
def test_wrong_options_are_named(tmp_path, words, said):
    with pytest.raises(UsageError, match=said):
        parse(COMMAND, [str(tmp_path), *words])
