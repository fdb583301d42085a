"""Searches over settings of a toy command: resume, failures, other settings in the folder, and that it finds a better value."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest

from common.errors import UsageError
from common.grids import Engine
from common.runs.cells import GridCell
from common.runs.search import Range, changed, report, search, search_each
from common.settings import Settings, recipe


@dataclass(frozen=True)
class Stage:
    rate: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Toy(Settings):
    NOT_RECIPE = frozenset({"run_dir", "seed"})
    alpha: float = 1.0
    kind: str = "a"
    stage: Stage = field(default_factory=Stage)
    seed: int = 0
    run_dir: Path | None = None


SPACE = {"alpha": Range(0.0, 4.0), "kind": ("a", "b"), "stage.rate": Range(1e-3, 1.0, log=True)}


@pytest.fixture
def toy(tmp_path):
    """(cell of settings, run of a cell): a run whose validation score has its best at alpha 3, kind b; alpha above 3.9 fails."""
    ran: list[str] = []

    def cell(settings):
        name = "_".join(
            f"{value:.6g}" if isinstance(value, float) else str(value) for value in (settings.alpha, settings.kind, settings.stage.rate)
        )
        return GridCell("toy", "train", settings, tmp_path / "runs" / name)

    def run(cell):
        ran.append(cell.run_dir.name)
        if cell.settings.alpha > 3.9:
            return 2, "the loss is no longer finite"
        cell.run_dir.mkdir(parents=True)
        value = 1 - abs(cell.settings.alpha - 3) / 4 + (0.5 if cell.settings.kind == "b" else 0)
        config = {"study": "toy", "experiment": "train", "settings": {**recipe(cell.settings), "seed": 0}}
        (cell.run_dir / "config.json").write_text(json.dumps(config))
        (cell.run_dir / "metrics.json").write_text(json.dumps({"validation_macro_f1": value, "macro_f1": 0.0}))
        (cell.run_dir / "finished.json").write_text("{}")
        return 0, ""

    return cell, run, ran


def test_the_first_trial_is_the_base_and_the_search_finds_better(toy, tmp_path):
    cell, run, ran = toy
    outcome = search(tmp_path / "search", Toy(), SPACE, cell, metric="validation_macro_f1", trials=14, run=run)
    assert outcome.trials[0].parameters == {"alpha": 1.0, "kind": "a", "stage.rate": 0.1} and outcome.trials[0].value == 0.5
    assert len(outcome.trials) == len(ran) == 14
    assert outcome.best.value > 1.2 and outcome.best.parameters["kind"] == "b"
    written = pd.read_csv(tmp_path / "search" / "trials.csv")
    assert written["value"].max() == outcome.best.value and list(written["trial"]) == list(range(14))
    text = report(outcome, "validation_macro_f1")
    assert text.splitlines()[2].startswith(f"| {outcome.best.number} |") and "validation macro f1" in text


def test_a_stopped_search_goes_on_as_if_it_had_not_been(toy, tmp_path):
    cell, run, ran = toy
    options = {"metric": "validation_macro_f1", "run": run, "seed": 4}
    whole = search(tmp_path / "whole", Toy(), SPACE, cell, trials=6, **options)
    ran.clear()

    def killed(cell):
        if len(ran) == 3:
            return 130, ""
        return run(cell)

    elsewhere = lambda settings: GridCell("toy", "train", settings, tmp_path / "again" / cell(settings).run_dir.name)  # noqa: E731
    with pytest.raises(SystemExit) as stop:
        search(tmp_path / "part", Toy(), SPACE, elsewhere, trials=6, **{**options, "run": killed})
    assert stop.value.code == 130 and len(pd.read_csv(tmp_path / "part" / "trials.csv")) == 3
    again = search(tmp_path / "part", Toy(), SPACE, elsewhere, trials=6, **options)
    assert len(ran) == 6
    assert [trial.parameters for trial in again.trials] == [trial.parameters for trial in whole.trials]
    # Finished once more, nothing runs; more trials go on from there.
    assert search(tmp_path / "part", Toy(), SPACE, elsewhere, trials=6, **options) == again and len(ran) == 6
    assert search(tmp_path / "part", Toy(), SPACE, elsewhere, trials=7, **options).trials[:6] == again.trials and len(ran) == 7


def test_a_failed_trial_is_shown_and_the_search_goes_on(toy, tmp_path):
    cell, run, _ = toy
    outcome = search(tmp_path, Toy(alpha=4.0), {"alpha": (4.0, 2.0, 3.0)}, cell, metric="validation_macro_f1", trials=5, run=run)
    assert outcome.trials[0].value is None and "no longer finite" in report(outcome, "validation_macro_f1")
    assert outcome.best.value is not None
    with pytest.raises(UsageError, match="no trial finished: the loss is no longer finite"):
        search(tmp_path / "b", Toy(alpha=4.0), {"alpha": (4.0,)}, cell, metric="validation_macro_f1", trials=2, run=run)


def test_a_search_that_breaks_down_stops_no_other(toy, tmp_path, monkeypatch):
    cell, run, _ = toy

    def one(each, own):
        if each.settings.alpha == 1.0:
            return -9, "killed"
        time.sleep(0.1)
        return run(each)

    monkeypatch.setattr("common.runs.grid.run_cell", one)
    space, cells = lambda name, base: {"kind": ("a", "b")}, lambda name, settings: cell(settings)
    options = {"metric": "validation_macro_f1", "trials": 2, "seed": 0}
    with pytest.raises(SystemExit) as stop:
        search_each(tmp_path, {"broken": Toy(), "whole": Toy(alpha=3.0)}, space, cells, Engine(), **options)
    assert stop.value.code == 1 and len(pd.read_csv(tmp_path / "search-whole" / "trials.csv")) == 2


def test_without_anything_to_search_there_is_one_trial(toy, tmp_path):
    cell, run, ran = toy
    outcome = search(tmp_path, Toy(), {}, cell, metric="validation_macro_f1", trials=8, run=run)
    assert len(outcome.trials) == len(ran) == 1 and outcome.best.parameters == {}


def test_a_search_of_other_settings_and_a_missing_metric_are_named(toy, tmp_path):
    cell, run, _ = toy
    search(tmp_path, Toy(), {"kind": ("a", "b")}, cell, metric="validation_macro_f1", trials=2, run=run)
    with pytest.raises(UsageError, match="holds a search of other settings"):
        search(tmp_path, Toy(alpha=2.0), {"kind": ("a", "b")}, cell, metric="validation_macro_f1", trials=2, run=run)
    with pytest.raises(UsageError, match=r"metrics\.json has no validation_f2"):
        search(tmp_path / "c", Toy(), {"kind": ("a", "b")}, cell, metric="validation_f2", trials=2, run=run)


def test_settings_are_changed_also_in_stages():
    assert changed(Toy(), {"alpha": 2.0, "stage.rate": 0.5}) == Toy(alpha=2.0, stage=Stage(0.5))


@pytest.mark.parametrize("bad", [(1.0, 1.0), (0.0, 1.0, True), (0.1, 1.0, True, 0.1)])
def test_a_range_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match="expected low below high"):
        Range(*bad)
