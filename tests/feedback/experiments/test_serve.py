"""Wrong options of the page answer in one line."""

import pytest

from common.cli import main
from feedback.__main__ import COMMANDS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serve", "--run", "nowhere"], "nowhere: no such run folder"),
        (["serve", "--images", "nowhere"], "--images nowhere: no such folder"),
        (["serve", "--port", "70000"], "--port 70000: expected between 0 and 65535"),
        (["serve", "--steps", "0"], "--steps 0: expected between 1 and 1000"),
        (["serve", "--learning-rate", "0"], "--learning-rate 0.0: expected more than 0"),
        (["serve", "--guard-drop", "2"], "--guard-drop 2.0: expected between 0 and 1"),
        (["serve", "--anchor-weight", "-1"], "--anchor-weight -1.0: expected between 0 and 1000"),
        (["serve", "--order", "random"], "--order"),
        (["serve", "--host", "0.0.0.0"], "--host"),  # there is no such option: the page is this machine's alone
        (["serve", "--guard-images", "0", "--replay-images", "0", "--data-dir", "."], "--data-dir: has no effect here"),
        (["replay", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_wrong_options_are_one_line(words, message, capsys):
    assert main("feedback", COMMANDS, words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_real_runs_need_their_images_named(small_base, capsys):
    assert main("feedback", COMMANDS, ["serve", "--run", str(small_base)]) == 2
    assert "--images: expected the folder" in capsys.readouterr().err


def test_what_is_no_log_is_refused(tmp_path, capsys):
    assert main("feedback", COMMANDS, ["replay", str(tmp_path)]) == 2
    assert "not a correction log (session.json is missing)" in capsys.readouterr().err
