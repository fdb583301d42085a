import importlib
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.errors import Done, UsageError
from common.grids import Engine
from common.runs.cells import GridCell
from common.runs.grid import GridOutcome, run_grid
from common.runs.reading import RunFolder

ROOT = Path(__file__).resolve().parents[3]

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


class Toy(GridCell):
    """A cell of the study above; its settings are words."""

    def command(self):
        return [sys.executable, "-m", "toy", *self.settings, "--run-dir", str(self.run_dir)]

    def stdin(self):
        return b""

    def conflict(self):
        return ""


@pytest.fixture
def cell(tmp_path, monkeypatch):
    """`cell("a", "wrong")`: a cell of the study above."""
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "__main__.py").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return lambda name, *arguments: Toy("toy", "train", ("--loss", *arguments), tmp_path / "runs" / name, {"loss": name, "seed": 0})


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


def test_where_every_cell_failed_the_reasons_are_said_before_any_table():
    cells = [SimpleNamespace(name="a"), SimpleNamespace(name="b")]
    with pytest.raises(UsageError, match=r"2 of 2 cells failed.*a \(exit 2: bad weights\)"):
        GridOutcome(2, 0, 0, tuple((each, 2, "bad weights") for each in cells)).check_any()
    GridOutcome(2, 0, 1, ((cells[0], 2, "bad weights"),)).check_any()


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


# It waits for the other one, which only a second process at the same time can be.
PAIR = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True)
(folder / "threads").write_text(os.environ["OMP_NUM_THREADS"])
until = time.monotonic() + 60
while time.monotonic() < until and not all((folder.parent / name / "threads").is_file() for name in "ab"): time.sleep(0.05)
if time.monotonic() < until: (folder / "finished.json").write_text("{}")
"""


class Pair(Toy):
    def command(self):
        return [sys.executable, "-c", PAIR, str(self.run_dir)]


def test_two_at_a_time_divide_the_threads(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cells = [Pair("toy", "train", None, tmp_path / name, {"name": name}) for name in "ab"]
    assert run_grid(cells, Engine(parallel=2)) == GridOutcome(2, 0, 2)
    assert (tmp_path / "a" / "threads").read_text() == str(max(1, len(os.sched_getaffinity(0)) // 2))
    assert "[1/2] toy train name=" in caplog.text and "[2/2] toy train name=" in caplog.text


def test_a_plan_runs_nothing_and_says_what_each_cell_costs(typed, capsys):
    with pytest.raises(Done):
        run_grid([typed("a"), typed("b")], Engine(plan=True))
    said = capsys.readouterr().out
    assert "? h       2 MB  typed train loss=a" in said and "2 cells to run" in said and "no finished run of these data" in said
    assert not (typed("a").run_dir).exists()


def test_a_cell_ends_with_the_process_that_started_it(tmp_path):
    """A Ray worker may be killed; the cell must save and free its folder for the one that takes it up."""
    child = (
        "import os, sys, time\nfrom common.runs.cell import end_with\nend_with(os.getppid())\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write('x')\ntime.sleep(60)"
    )
    parent = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}]); print(p.pid, flush=True); p.wait()"
    process = subprocess.Popen(
        [sys.executable, "-c", parent], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    number = int(process.stdout.readline())
    while not (tmp_path / "pid").exists():
        time.sleep(0.05)
    process.kill()
    process.wait()
    for _ in range(200):
        try:
            status = Path(f"/proc/{number}/status").read_text()
        except FileNotFoundError:
            return
        if "State:\tZ" in status:
            return
        time.sleep(0.05)
    os.kill(number, signal.SIGKILL)
    pytest.fail("the cell went on alone")


def test_two_cells_may_not_share_a_folder(cell):
    with pytest.raises(ValueError, match="share"):
        run_grid([cell("a", "x"), cell("a", "y")])


TYPED = """
from dataclasses import dataclass
from pathlib import Path
from common.settings import Command, Settings

@dataclass(frozen=True, kw_only=True)
class TrainSettings(Settings):
    NOT_RECIPE = frozenset({"seed", "run_dir"})
    dataset: str = "sample"
    loss: str = "x"
    rate: float = 0.1
    seed: int = 0
    run_dir: Path | None = None

def train(settings):
    from common.errors import UsageError
    from common.runs.folder import Run
    from common.settings import recipe
    if settings.loss == "wrong": raise UsageError("--loss wrong: unknown")
    own = {**recipe(settings, dataset="sample-cells"), "seed": settings.seed}
    run = Run.open("typed", "train", own, run_dir=settings.run_dir, fingerprint="abc")
    run.finish()

COMMAND = Command(TrainSettings, "typed.train:train", "Train.")
"""


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """`typed("a", loss="x")`: a cell that carries its settings object."""
    (tmp_path / "typed").mkdir()
    (tmp_path / "typed" / "__main__.py").write_text('COMMANDS = {"train": "typed.train"}\n')
    (tmp_path / "typed" / "train.py").write_text(TYPED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("typed.train")

    def make(name, fingerprint="", **values):
        return GridCell("typed", "train", module.TrainSettings(**values), tmp_path / "runs" / name, {"loss": name}, fingerprint)

    yield make
    for name in ("typed", "typed.train"):
        sys.modules.pop(name, None)


def test_a_cell_gets_its_settings_object(typed):
    cells = [typed("a", loss="x", rate=0.3, seed=4), typed("b", loss="wrong")]
    outcome = run_grid(cells, Engine(parallel=2))
    assert outcome.ran == 1 and outcome.exit_code == 2 and outcome.failed[0][2] == "--loss wrong: unknown"
    settings = RunFolder(cells[0].run_dir).read_json("config.json")["settings"]
    assert (settings["rate"], settings["seed"]) == (0.3, 4)
    assert run_grid(cells[:1]) == GridOutcome(1, 1, 0)


def test_a_cell_finished_with_other_settings_or_data_is_no_finished_cell(typed):
    assert run_grid([typed("a", rate=0.3)]).exit_code == 0
    other = run_grid([typed("a", rate=0.4)])
    assert other.exit_code == 2 and "rate was 0.3, now 0.4" in other.failed[0][2]
    assert "other data" in run_grid([typed("a", "def", rate=0.3)]).failed[0][2]
    assert run_grid([typed("a", "abc", rate=0.3)]).exit_code == 0


# A grid whose cells say that they run and then work for a minute; one that is told to stop says so.
STOPPED = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from common import cli, stopping
from common.runs.cells import GridCell
from common.runs.grid import run_grid

class Slow(GridCell):
    def command(self):
        code = (
            "import signal, sys, time, pathlib\\nout = pathlib.Path(sys.argv[1])\\n"
            "said = lambda n, f: (out.write_text(f'stopped {n}'), sys.exit(1))\\n"
            "[signal.signal(n, said) for n in (2, 15)]\\nout.write_text('runs')\\ntime.sleep(60)"
        )
        return [sys.executable, "-c", code, str(self.run_dir)]
    def stdin(self):
        return b""

def grid():
    run_grid([Slow("toy", "train", None, Path(sys.argv[1]) / name, {}) for name in "abc"])

sys.exit(cli._guarded(grid))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_grid_stops_its_cell_and_begins_no_other(tmp_path, number, code):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", STOPPED, str(tmp_path)], env=environment, cwd=tmp_path)
    for _ in range(600):
        if (tmp_path / "a").is_file() and (tmp_path / "a").read_text() == "runs":
            break
        time.sleep(0.1)
    process.send_signal(number)
    assert process.wait(30) == code
    assert (tmp_path / "a").read_text() == f"stopped {int(number)}"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a"]
