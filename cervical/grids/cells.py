"""From a grid's options to its cells, each one command line of this study, and the folder the grid's own outcome goes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from cervical.config import ContrastiveOptions, CostSensitiveOptions, FinetuneOptions, StudyOptions
from cervical.training.stages import default_run_dir, resolve, weights_file
from common.data.manifest import Dataset, class_names, fingerprint
from common.runs import Run, is_finished
from common.runs.folder import check_weights_file
from common.runs.grid import GridCell

OPTIONS = {"finetune": FinetuneOptions, "cost-sensitive": CostSensitiveOptions, "contrastive": ContrastiveOptions}


def cell(method: str, grid: StudyOptions, dataset: Dataset, labels: dict[str, Any], **changes: Any) -> GridCell:
    """One training run: the grid's options that the method knows, with `changes`; in the folder that a single command would use.

    UsageError when that run is finished and began with another weights file of the same name.
    """
    kind = OPTIONS[method]
    given = {field.name: getattr(grid, field.name) for field in fields(kind) if hasattr(grid, field.name)}
    options = kind(**{**given, **changes, "run_dir": None})
    settings = resolve(method, options, class_names(dataset.manifest))
    folder = default_run_dir(method, settings, options, dataset)
    if is_finished(folder):  # it will not be opened again, which is where others are told
        check_weights_file(folder, weights_file(settings))
    return GridCell("cervical", method, arguments(options), folder, {"method": method, **labels})


def arguments(options: Any) -> tuple[str, ...]:
    """The command line that gives these options, without what is the default anyway."""
    words: list[str] = []
    for field in fields(options):
        value = getattr(options, field.name)
        if value == field.default or value is None:
            continue
        name = "--" + field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(name if value else name.replace("--", "--no-", 1))
        elif isinstance(value, tuple):
            words += [name, *map(str, value)]
        else:
            words += [name, str(value)]
    return tuple(words)


def open_grid(command: str, options: StudyOptions, dataset: Dataset, cells: Sequence[GridCell]) -> Run:
    """The folder of the grid's tables and figures: known by the cells it is made of."""
    settings = {
        "dataset": dataset.name,
        "synthetic": dataset.synthetic,
        "reading": options.reading,
        "split": options.split,
        "classes": list(class_names(dataset.manifest)),
        "cells": [Path(each.run_dir).name for each in cells],
    }
    return Run.open(
        "cervical",
        command,
        settings,
        run_dir=options.run_dir,
        name_parts=(dataset.name, options.reading, f"{len(cells)}runs"),
        fingerprint=fingerprint(dataset),
    )


def finished(cells: Sequence[GridCell]) -> list[GridCell]:
    """Cells whose run came to its end: metrics.json alone may be that of a run that was killed before its report."""
    return [each for each in cells if each.finished]
