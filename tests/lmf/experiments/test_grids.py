"""The grids stand for the cells they should, and refuse what would have no effect."""

from pathlib import Path

import pytest

from common.cli import parse
from common.errors import UsageError
from lmf.experiments import sweep, tables
from lmf.experiments.sweep import GRID


def test_tables_stand_for_one_data_set_of_the_papers_grid(tmp_path: Path) -> None:
    settings = parse(tables.COMMAND, ["--dataset", "ham10000", "--data-dir", str(tmp_path)])
    cells = settings.cells()
    assert len(cells) == 15 and {cell.backbone for cell in cells} == {"efficientnetv2s", "resnet50", "densenet121"}
    assert {cell.epochs for cell in cells} == {100} and all(cell.data_dir == tmp_path for cell in cells)
    six = {(cell.backbone, cell.alpha, cell.beta) for cell in cells if cell.loss == "lmf"}
    assert ("efficientnetv2s", 1.0, 2.0) in six and ("resnet50", 0.5, 1.0) in six
    assert len(parse(tables.COMMAND, ["--seeds", "0", "1", "--losses", "cce", "lmf"]).cells()) == 16  # the four samples


def test_the_grids_options_reach_every_run() -> None:
    cells = parse(tables.COMMAND, ["--reading", "coded", "--epochs", "3", "--gamma", "2", "--losses", "focal", "lmf"]).cells()
    assert {(cell.epochs, cell.gamma, cell.reading, cell.loss_reading) for cell in cells} == {(3, 2.0, "coded", "coded")}


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        (tables, "--seeds 1 1", "--seeds 1 1: one is given twice"),
        (tables, "--seeds", "--seeds: expected at least one value"),
        (tables, "--backbones alexnet", "--backbones alexnet: unknown"),
        (tables, "--losses cce --gamma 2", "none of the losses cce has it"),
        (tables, "--losses cce --against lmf", "--against lmf: expected one of --losses"),
        (tables, "--also nowhere", "--also nowhere: no such folder"),
        (tables, "--train.seed 3", "--train.seed: has no effect here"),
        (tables, "--train.reading coded", "--train.reading: has no effect here"),
        (sweep, "--grid 0.5 1 0.5", "one is given twice"),
        (sweep, "--grid -1", "--grid"),
        (sweep, "--settings equal equal", "one is given twice"),
        (sweep, "--backbones vgg16 resnet50", "expected one"),
        (sweep, "--train.alpha 2", "--train.alpha: has no effect here"),
        (sweep, "--epochs 0", "epochs 0"),
    ],
)
def test_wrong_options_are_named(command, words: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(command.COMMAND, words.split())
    assert said in str(caught.value)


def test_the_sweep_trains_each_pair_once(tmp_path: Path) -> None:
    settings = parse(sweep.COMMAND, ["--dataset", "ham10000", "--data-dir", str(tmp_path)])
    assert len(GRID) == 11 and min(GRID) == 0.5 and max(GRID) == 2.0
    assert len(settings.cells()) == 31  # three settings of eleven, (1, 1) in all of them
    assert {cell.epochs for cell in settings.cells()} == {60}
    assert settings.pairs("beta")[0] == (1.0, 0.5) and settings.pairs("alpha")[0] == (0.5, 1.0) and settings.pairs("equal")[0] == (0.5, 0.5)
