import logging
import math

import pytest

from common.errors import UsageError
from common.runs.grid import GridCell, GridOutcome, collect, run_grid

# A study of four lines: it notes that it ran, and finishes its run folder unless its argument says otherwise.
STUDY = """
import pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--run-dir") + 1])
folder.mkdir(parents=True, exist_ok=True)
with (folder / "ran").open("a") as notes: notes.write("x")
if "wrong" in sys.argv: print("--loss wrong: unknown", file=sys.stderr); sys.exit(2)
if "bug" in sys.argv and not (folder / "mended").exists(): raise RuntimeError("a bug")
if "silent" not in sys.argv: (folder / "finished.json").write_text("{}")
"""


@pytest.fixture
def cell(tmp_path, monkeypatch):
    """`cell("a", "wrong")`: a cell of the study above."""
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "__main__.py").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return lambda name, *arguments: GridCell("toy", "train", ("--loss", *arguments), tmp_path / "runs" / name, {"loss": name, "seed": 0})


def times(cell):
    return len((cell.run_dir / "ran").read_text())


def test_only_what_is_missing_runs(cell, caplog):
    caplog.set_level(logging.INFO)
    cells = [cell("a", "x"), cell("b", "x"), cell("c", "x")]
    assert run_grid(cells[:1]) == GridOutcome(1, 0, 1)
    outcome = run_grid(cells)
    assert outcome == GridOutcome(3, 1, 2) and outcome.exit_code == 0
    outcome.check()
    assert run_grid(cells) == GridOutcome(3, 3, 0)
    assert [times(each) for each in cells] == [1, 1, 1]
    assert "[2/3] toy train loss=b seed=0" in caplog.text and "left)" in caplog.text


def test_a_failed_cell_stops_no_other_and_is_tried_again(cell, capfd):
    cells = [cell("a", "bug"), cell("b", "x")]
    outcome = run_grid(cells)
    assert outcome.ran == 1 and cells[1].finished
    assert [(failed.labels["loss"], code) for failed, code, _ in outcome.failed] == [("a", 1)]
    with pytest.raises(SystemExit) as stop:
        outcome.check()
    assert stop.value.code == outcome.exit_code == 1
    said = capfd.readouterr().err
    assert "RuntimeError: a bug" in said and "1 of 2 cells failed" in said
    (cells[0].run_dir / "mended").write_text("")
    assert run_grid(cells).exit_code == 0
    assert [times(each) for each in cells] == [2, 1]


def test_wrong_usage_in_a_cell_is_wrong_usage_of_the_grid(cell):
    outcome = run_grid([cell("a", "wrong"), cell("b", "x")])
    assert outcome.exit_code == 2
    with pytest.raises(UsageError, match="toy train loss=a seed=0 .exit 2: --loss wrong: unknown"):
        outcome.check()


def test_a_cell_that_ends_without_finishing_is_a_failure(cell):
    outcome = run_grid([cell("a", "silent")])
    assert outcome.exit_code == 1
    assert "without finishing" in outcome.failed[0][2]


def test_two_cells_may_not_share_a_folder(cell):
    with pytest.raises(ValueError, match="share"):
        run_grid([cell("a", "x"), cell("a", "y")])


def test_collect_shows_holes_and_controls(tmp_path, make_run):
    method = GridCell("cervical", "contrastive", (), make_run(tmp_path / "a", 3.0), {"backbone": "vgg16", "seed": 0})
    make_run(tmp_path / "a" / "control", 0.5)
    missing = GridCell("cervical", "contrastive", (), tmp_path / "b", {"backbone": "vgg19", "seed": 0})
    frame = collect([method, method.control(method="control"), missing], ("accuracy", "per_class.Parabasal.f1"))
    assert frame["backbone"].tolist() == ["vgg16", "vgg16", "vgg19"]
    assert frame["n"].tolist() == [120, 120, 0]
    assert frame["accuracy"][0] > frame["accuracy"][1] and math.isnan(frame["accuracy"][2])
    assert (frame["accuracy_low"] <= frame["accuracy"])[:2].all() and (frame["accuracy"] <= frame["accuracy_high"])[:2].all()
    assert 0 < frame["per_class.Parabasal.f1"][0] <= 1
