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
        (["--tau", "2"], "--tau: has no effect here: --how crt has none"),
        (["--how", "adjust", "--epochs", "2"], "--how adjust trains nothing"),
        ([], "not a finished run folder"),
    ],
)
def test_wrong_options_are_named(tmp_path, words, said):
    with pytest.raises(UsageError, match=said):
        parse(COMMAND, [str(tmp_path), *words])
