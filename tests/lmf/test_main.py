"""The command line answers at once, in one line, with exit code 2 for bad input."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.cli import main
from lmf.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_page(command, capsys):
    assert main("lmf", COMMANDS, [command, "--help"]) == 0
    assert f"python -m lmf {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--dataset", "ham10000"], "--data-dir"),
        (["train", "--dataset", "ham10000", "--data-dir", "nowhere"], "nowhere: no such folder"),
        (["train", "--loss", "cce", "--beta", "2"], "--beta: has no effect here"),
        (["train", "--loss", "hinge"], "loss"),
        (["train", "--backbone", "alexnet"], "alexnet"),
        (["tables", "--seeds", "1", "1"], "given twice"),
        (["sweep", "--grid", "-1"], "--grid"),
        (["sweep", "--grid", "1", "1"], "one is given twice"),
        (["sweep", "--group-pattern", "(.)"], "--group-pattern: has no effect here"),
        (["explain", "nowhere"], "nowhere"),
        (["audit", "--dataset", "mnist"], "mnist"),
        (["fit"], "unknown command 'fit'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(words, said, capsys):
    assert main("lmf", COMMANDS, words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_help_does_not_import_keras():
    """Importing Keras takes seconds; help and wrong options come before it."""
    script = "import sys; from lmf.__main__ import COMMANDS; sys.exit(any(m in sys.modules for m in ('keras', 'numpy', 'pandas', 'PIL')))"
    began = time.monotonic()
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0
    assert time.monotonic() - began < 10
