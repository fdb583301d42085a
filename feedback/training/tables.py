"""Tables 5.1 to 5.4: every balance, objective and seed in a run of its own, then the tables beside the printed ones."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

from common.runs import Run
from common.runs.grid import GridCell, run_grid
from feedback.config import READINGS, WEIGHTS, Objective, SimulateOptions, TablesOptions
from feedback.training.stage import model_digest, sample_base
from feedback.training.table_report import write_tables


def run_tables(options: TablesOptions) -> Path:
    """`feedback tables`: runs what is missing, writes report.md, cells.csv and figures; returns the folder."""
    base = options.base or sample_base(options)
    cells = cells_of(options, base, Path("."))
    settings = {
        "dataset": options.dataset, "reading": options.reading, "base": base.name, "base_model": model_digest(base),
        "limit": options.limit,
        "cells": [[*cell.arguments, *map(str, cell.labels.values())] for cell in _without_paths(cells)],
    }  # fmt: skip
    run = Run.open("feedback", "tables", settings, run_dir=options.run_dir, name_parts=(options.dataset, options.reading, base.name))
    if run.finished:
        return run.path
    cells = cells_of(options, base, run.path / "cells")
    outcome = run_grid(cells)
    if any(cell.finished for cell in cells):
        write_tables(run, cells, base)
    if not outcome.failed:
        run.finish()
    outcome.check()
    return run.path


def cells_of(options: TablesOptions, base: Path, folder: Path) -> list[GridCell]:
    """One cell for each balance, objective, kind of channel weights and seed; with --slices also one for each objective and seed.

    The classification objective does not look at the map, so a second kind of channel weights would only repeat it.
    """
    cells = []
    network = {"base": base, "backbone": None, "weights": None, "image_size": None}  # what the sample's base was asked to be, it is
    for seed in options.seeds:
        for balance in options.balances:
            for objective in options.objectives:
                for kind, words in _kinds(options, objective).items():
                    chosen = {**network, "balance": balance, "objective": objective, "seed": seed, "gradients": words}
                    labels = {"balance": balance, "objective": objective, "gradients": kind, "seed": seed}
                    name = f"{balance}-{objective}-{kind}-seed{seed}"
                    cells.append(GridCell("feedback", "simulate", arguments_of(options, chosen), folder / name, labels))
        for objective in options.objectives if options.slices else ():
            kind, words = next(iter(_kinds(options, objective).items()))
            chosen = {**network, "balance": "upsampled", "objective": objective, "seed": seed, "gradients": words}
            if options.slice_epochs is not None:
                chosen["epochs"] = options.slice_epochs
            arguments = (*arguments_of(options, chosen), "--slices", str(options.slices))
            labels = {"balance": "slices", "objective": objective, "gradients": kind, "seed": seed}
            cells.append(GridCell("feedback", "slices", arguments, folder / f"slices-{objective}-seed{seed}", labels))
    return cells


def _kinds(options: TablesOptions, objective: Objective) -> dict[str, str | None]:
    """Kind of channel weights -> what --gradients is given; nothing where the reading decides."""
    if not options.gradients:
        return {READINGS[options.reading].simulation.gradients: None}
    return {kind: kind for kind in options.gradients[: None if WEIGHTS[objective] else 1]}


def arguments_of(options: SimulateOptions, chosen: Mapping[str, Any]) -> tuple[str, ...]:
    """The options of one `simulate` as command-line words: what differs from the defaults, with `chosen` put over it."""
    words: list[str] = []
    for item in fields(SimulateOptions):
        value = chosen.get(item.name, getattr(options, item.name))
        default = None if item.default is MISSING else item.default
        if item.name == "run_dir" or value == default:
            continue
        flag = f"--{item.name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif isinstance(value, tuple):
            words += [flag, *map(str, value)]
        else:
            words += [flag, str(value)]
    return tuple(words)


def _without_paths(cells: Sequence[GridCell]) -> list[GridCell]:
    """The cells with folders shortened to their names, so that a moved data set is still the same grid."""
    return [replace(cell, settings=tuple(Path(word).name if "/" in word else word for word in cell.arguments)) for cell in cells]
