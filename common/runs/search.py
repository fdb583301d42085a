"""A search over settings: Optuna proposes, a run folder answers; one trial is one run, chosen on validation images alone.

Ask and tell (Optuna's `study.ask` and `study.tell`), so that each trial is an ordinary cell of a grid: trained in a process of its own,
resumed after a kill, and reused where its settings were trained before. What trial n tries depends on the seed and the trials before it
only, so a search that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any

import pandas as pd

from common.errors import UsageError
from common.grids import Engine
from common.report.markup import markdown, number
from common.runs.cells import GridCell, run_cell
from common.runs.files import plain, read_json, write_json
from common.runs.finished import FoundRun
from common.runs.grid import engine, run_grid
from common.runs.reading import RunFolder, find_metric
from common.settings import recipe

log = logging.getLogger(__name__)

IDENTITY, TRIALS = "search.json", "trials.csv"


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; `log` draws their logarithm evenly, `step` takes multiples only."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0) or (self.log and self.step):
            raise ValueError(f"{self}: expected low below high, above 0 for a logarithm, and no step with one")


Space = Mapping[str, Range | Sequence[Any]]
"""Field of the settings (dotted for nested ones) -> a range, or the values to choose from."""
Run = Callable[[GridCell], tuple[int, str]]
"""Runs a cell: (exit code, last line of its errors)."""


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: from 0. parameters: field -> value. value: the metric on validation images; None where it failed.
        run: its run folder. reason: why it failed.
    """

    number: int
    parameters: Mapping[str, Any]
    value: float | None
    run: Path
    reason: str = ""


@dataclass(frozen=True)
class SearchOutcome:
    """Trials in order; `best` is the one with the largest value, the first of equals."""

    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        return max((trial for trial in self.trials if trial.value is not None), key=lambda trial: float(trial.value or 0.0))


def search(
    folder: Path,
    base: Any,
    space: Space,
    cell: Callable[[Any], GridCell],
    *,
    metric: str,
    trials: int,
    run: Run = run_cell,
    seed: int = 0,
) -> SearchOutcome:
    """Run as many trials as are missing and write search.json and trials.csv into `folder`.

    Args:
        base: settings object of the method; it is trial 0 where its values lie in the space. Without any field to search it is the only
            trial: all others would be the same.
        cell: settings -> its cell, with the run folder that these settings have.
        metric: key of metrics.json (dots into it) measured on validation images, such as "validation_macro_f1"; more is better.
        run: runs a cell: (exit code, last line of its errors); by default in a process of its own.

    Raises:
        UsageError: the folder holds a search of other settings, no trial finished, or a run lacks the metric.
    """
    described = {name: asdict(axis) if isinstance(axis, Range) else list(axis) for name, axis in space.items()}
    own = {"space": described, "metric": metric, "seed": seed, "direction": "maximize"}
    identity = plain({**own, "base": {**recipe(base), "seed": getattr(base, "seed", None)}})
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / IDENTITY).is_file() and read_json(folder / IDENTITY) != identity:
        raise UsageError(f"{folder}: holds a search of other settings; choose another folder")
    write_json(folder / IDENTITY, identity)
    found: list[Trial] = []
    for place in range(trials if space else 1):
        parameters = _proposed(base, space, found, seed)
        settings = changed(base, parameters)
        here = cell(settings)
        if here.finished:
            reason = here.conflict()
            if reason:
                raise UsageError(reason)
        else:
            log.info("trial %d of %d: %s", place + 1, trials, _text(parameters))
            code, reason = run(here)
            if code not in (0, 2):
                raise SystemExit(max(code, 1))  # below 0 is a signal's number: a cell that was killed
        value = None if reason else _value(here, metric)
        found.append(Trial(place, parameters, value, here.run_dir, reason))
        RunFolder(folder).write_table(TRIALS, frame(found))
    if all(trial.value is None for trial in found):
        raise UsageError(f"{folder}: no trial finished: {found[0].reason}")
    outcome = SearchOutcome(tuple(found))
    log.info("best of %d trials: %s (%s %.4f)", len(found), _text(outcome.best.parameters), metric, outcome.best.value)
    return outcome


def search_each(
    folder: Path,
    bases: Mapping[Any, Any],
    space_of: Callable[[Any, Any], Space],
    cell: Callable[[Any, Any], GridCell],
    where: Engine,
    *,
    metric: str,
    trials: int,
    seed: int,
) -> dict[Any, SearchOutcome]:
    """A search from every base in `folder`/search-<name>; its trials follow from each other, the searches do not, and share the engine.

    Args:
        bases: name -> settings of its trial 0. space_of, cell: of a name and settings, as `search` takes them.
    """
    spaces = {name: space_of(name, base) for name, base in bases.items()}
    firsts = {name: cell(name, base) for name, base in bases.items()}
    if where.plan:
        places = [(first, place) for name, first in firsts.items() for place in range(trials if spaces[name] else 1)]
        run_grid([replace(first, run_dir=first.run_dir / str(place)) for first, place in places], where)
    with ThreadPoolExecutor(len(firsts)) as pool, engine(where, list(firsts.values())) as start:
        options = {"metric": metric, "trials": trials, "seed": seed, "run": lambda each: start(each).result()}
        found = {
            name: pool.submit(search, folder / f"search-{name}", base, spaces[name], partial(cell, name), **options)
            for name, base in bases.items()
        }
        wait(found.values())  # what ends one search stops no other
        return {name: each.result() for name, each in found.items()}


def changed(settings: Any, parameters: Mapping[str, Any]) -> Any:
    """The settings object with these fields replaced; dotted names reach into its stages."""
    for name, value in parameters.items():
        first, _, rest = name.partition(".")
        settings = replace(settings, **{first: changed(getattr(settings, first), {rest: value}) if rest else value})
    return settings


def frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """A row per trial: number, value, its parameters, the run folder's name, and why it failed."""
    rows = [{"trial": each.number, "value": each.value, **each.parameters, "run": each.run.name, "failed": each.reason} for each in trials]
    return pd.DataFrame(rows)


def write_search(folder: Path, text: str, found: Mapping[Any, SearchOutcome]) -> Path:
    """Write report.md with `text`, and table.csv with a row per trial of every search, named in its first column; returns report.md."""
    target = RunFolder(folder)
    whole = pd.concat([frame(outcome.trials).assign(search=name) for name, outcome in found.items()], ignore_index=True)
    target.write_table("table.csv", whole[["search", *whole.columns.drop("search")]])
    return target.write_text("report.md", text)


def report(outcome: SearchOutcome, metric: str) -> str:
    """The whole search as Markdown, best first."""
    order = sorted(outcome.trials, key=lambda each: float("-inf") if each.value is None else each.value, reverse=True)
    names = list(dict.fromkeys(name for trial in outcome.trials for name in trial.parameters))
    rows = [
        [
            trial.number,
            *(short(trial.parameters[name]) for name in names),
            number(trial.value) if trial.value is not None else trial.reason,
        ]
        for trial in order
    ]
    return markdown(["trial", *names, metric.replace("_", " ")], rows)


def _proposed(base: Any, space: Space, before: Sequence[Trial], seed: int) -> dict[str, Any]:
    """The next trial's parameters: the base's own first, then what Optuna's TPE proposes after the trials before."""
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    own = {name: reduce(getattr, name.split("."), base) for name in space}
    if not before and all(_inside(own[name], axis) for name, axis in space.items()):
        return own
    distributions: dict[str, BaseDistribution] = {
        name: FloatDistribution(axis.low, axis.high, log=axis.log, step=axis.step)
        if isinstance(axis, Range)
        else CategoricalDistribution(list(axis))
        for name, axis in space.items()
    }
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # A sampler of its own for each trial: its draws are known from the seed and the trial's number, also after a kill.
        sampler = optuna.samplers.TPESampler(seed=seed + 1000 * len(before), n_startup_trials=3, multivariate=len(space) > 1)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for trial in before:
            if not all(_inside(value, space[name]) for name, value in trial.parameters.items()):
                continue  # the base may lie outside
            state = optuna.trial.TrialState.COMPLETE if trial.value is not None else optuna.trial.TrialState.FAIL
            made = optuna.trial.create_trial(
                params=dict(trial.parameters), distributions=distributions, value=trial.value, state=state
            )  # what a kill cannot lose: the run folders know the values
            study.add_trial(made)
        return {name: _rounded(value, space[name]) for name, value in study.ask(distributions).params.items()}


def _rounded(value: Any, axis: Range | Sequence[Any]) -> Any:
    """Three significant digits, so that the number in a report is the number that was used."""
    if not isinstance(axis, Range) or axis.step is not None:
        return value
    return min(max(float(f"{value:.3g}"), axis.low), axis.high)


def _inside(value: Any, axis: Range | Sequence[Any]) -> bool:
    if not isinstance(axis, Range):
        return value in axis
    on_step = axis.step is None or abs((value - axis.low) / axis.step - round((value - axis.low) / axis.step)) < 1e-9
    return axis.low <= value <= axis.high and on_step


def _value(cell: GridCell, metric: str) -> float:
    known, value, _ = find_metric(FoundRun.of(cell.run_dir).metrics(), metric)
    if not known or value is None:
        raise UsageError(f"{cell.run_dir}: metrics.json has no {metric}")
    return float(value)


def _text(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {short(value)}" for name, value in parameters.items()) or "nothing to search"


def short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
