"""From a grid's settings to its cells, each one command line of this study, and the folder the grid's own outcome goes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cervical.experiments import contrastive, cost_sensitive, finetune
from cervical.experiments.base import CellTraining
from cervical.experiments.grids import Grid
from cervical.training.stages import default_run_dir
from common.data.manifest import Dataset, class_names, fingerprint
from common.runs import Run
from common.runs.grid import GridCell

MODULES = {"finetune": finetune, "cost-sensitive": cost_sensitive, "contrastive": contrastive}


def cell(method: str, settings: CellTraining, dataset: Dataset, labels: dict[str, Any]) -> GridCell:
    """One training run, in the folder that a single command would use."""
    settings = replace(settings, run_dir=None)
    folder = default_run_dir(method, settings, dataset)
    return GridCell("cervical", method, arguments(method, settings), folder, {"method": method, **labels})


def arguments(method: str, settings: CellTraining) -> tuple[str, ...]:
    """The command line that gives these settings: reading and data set, and what differs from their defaults."""
    default, values = (_flat(asdict(each)) for each in (MODULES[method].default(settings.reading, settings.dataset), settings))
    words = ["--reading", settings.reading, "--dataset", settings.dataset]
    for option, value in values.items():
        if value == default[option] or value is None or option in ("reading", "dataset"):
            continue
        before, dot, last = option.replace("_", "-").rpartition(".")
        if isinstance(value, bool):
            words.append(f"--{before}{dot}{'' if value else 'no-'}{last}")
        else:
            words += [f"--{before}{dot}{last}", str(value)]
    return tuple(words)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def open_grid(command: str, grid: Grid, dataset: Dataset, cells: Sequence[GridCell]) -> Run:
    """The folder of the grid's tables and figures: known by the cells it is made of."""
    settings = {
        "dataset": dataset.name,
        "synthetic": dataset.synthetic,
        "reading": grid.reading,
        "classes": list(class_names(dataset.manifest)),
        "cells": [Path(each.run_dir).name for each in cells],
    }
    return Run.open(
        "cervical",
        command,
        settings,
        run_dir=grid.run_dir,
        name_parts=(dataset.name, grid.reading, f"{len(cells)}runs"),
        fingerprint=fingerprint(dataset),
    )


def finished(cells: Sequence[GridCell]) -> list[GridCell]:
    """Cells whose run came to its end: metrics.json alone may be that of a run that was killed before its report."""
    return [each for each in cells if each.finished]
