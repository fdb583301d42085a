"""In every study: a command that fails before it has trained anything leaves no run folder in the way of the corrected command."""

from importlib import import_module
from pathlib import Path

import pytest

from common.cli import main

TRAININGS = [
    ("cervical", "finetune", "--limit", "25", "--image-size", "32", "--copies", "0"),
    ("cervical", "contrastive", "--limit", "25", "--image-size", "32", "--copies", "0", "--control"),
    ("cervical", "cost-sensitive", "--limit", "25", "--image-size", "32", "--copies", "0"),
    ("lmf", "train", "--limit", "40", "--image-size", "32", "--control"),
    ("melanoma", "train", "--image-size", "64", "--reading", "corrected"),
    ("melanoma", "train", "--image-size", "64"),
    ("melanoma", "pretrain", "--image-size", "64"),
    ("feedback", "baseline", "--image-size", "32"),
]


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize("words", TRAININGS, ids=lambda words: " ".join(words[:2]))
def test_bad_weights_leave_no_run_folder(words: tuple[str, ...], existed: bool, tmp_path: Path, sample_cache: Path, capsys) -> None:
    weights, folder = tmp_path / "no.weights.h5", tmp_path / "deep" / "run"
    weights.write_text("not weights")
    if existed:
        folder.mkdir(parents=True)
    study, *rest = words
    commands = import_module(f"{study}.__main__").COMMANDS
    options = ["--cache-dir", str(sample_cache), "--run-dir", str(folder), "--weights", str(weights)]
    assert main(study, commands, [*rest, *options]) == 2
    assert "no.weights.h5: cannot be loaded" in capsys.readouterr().err
    assert folder.exists() == folder.parent.exists() == existed
    assert not existed or not list(folder.iterdir())
