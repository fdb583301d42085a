"""Finished runs found again below a folder, published ones (no model, no manifest) too, and sorted into what may stand in one table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from cervical.experiments.finetune import FREEZE
from cervical.grids.losses import CONTROL
from cervical.grids.tables import PAIR_BY, Drawn, draw_tables
from common.errors import UsageError
from common.report.grid_tables import Compared, compare_methods, grouped
from common.runs import read_json
from common.runs.grid import GridCell

METHODS = ("finetune", "contrastive-control", "cost-sensitive", "contrastive")
# Scores of runs that differ in one of these do not belong in one table.
TRAINED_ALIKE = ("dataset", "split", "image_size", "copies", "views", "limit")


def finished_runs(folder: Path) -> list[GridCell]:
    """Every run of the three methods and of their control below `folder`, in the order fine-tuning, control, class costs, contrastive.

    Labels: `method`, `backbone`, `reading`, `seed`, `loss`, `depth` (frozen layers), `weights` and those of `TRAINED_ALIKE`. A run with
    another loss or other costs than the documents' is a method of its own, as in `contrastive-supcon`.

    Raises:
        UsageError: there is none.
    """
    found = []
    for path in sorted(folder.rglob("config.json")):
        config = read_json(path)
        # The report comes last: without it metrics.json may be that of a run that was killed.
        complete = all((path.parent / name).is_file() for name in ("metrics.json", "predictions.csv", "history.csv", "report.md"))
        if config.get("study") == "cervical" and config.get("experiment") in METHODS and complete:
            found.append(GridCell("cervical", config["experiment"], (), path.parent, labels_of(config)))
    if not found:
        raise UsageError(f"{folder}: no finished run of cervical below it")
    return sorted(found, key=lambda cell: METHODS.index(cell.experiment))


def labels_of(config: dict[str, Any]) -> dict[str, Any]:
    """What tells a run from others, from its config.json."""
    settings, experiment = config["settings"], config["experiment"]
    method, loss = experiment, settings.get("loss")
    if experiment == "contrastive-control":
        method, loss = "control", CONTROL
    elif experiment == "contrastive" and loss != "npairs":
        method = f"contrastive-{loss}"
    elif experiment == "cost-sensitive" and settings["costs"] != "printed":
        method = f"cost-sensitive-{Path(settings['costs']).stem}"
    own = {"method": method, "loss": loss, "depth": settings.get("freeze"), "weights": settings.get("weights")}
    shared = {name: settings.get(name) for name in ("backbone", "reading", "seed", *TRAINED_ALIKE)}
    return {**own, **shared, "views": bool(settings.get("views"))}


def tables_of(found: Sequence[GridCell]) -> list[tuple[str, Drawn]]:
    """(how they were trained, tables and figures) of runs that were trained alike; every two methods are compared."""
    drawn = []
    for key, group in grouped(found, TRAINED_ALIKE).items():
        cells = told_apart(group)
        title = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in zip(TRAINED_ALIKE, key, strict=True) if value is not None)
        synthetic = any(read_json(cell.run_dir / "metrics.json").get("synthetic") for cell in cells)
        drawn.append((title, draw_tables(cells, cells, every_pair(cells), synthetic)))
    return drawn


def told_apart(cells: Sequence[GridCell]) -> list[GridCell]:
    """The cells; those that share method, network, reading and seed get the frozen layers, or else their folder, into the method's name.

    What freezes as the tables do (the paper's layers, none of a network from scratch) keeps its name, and its printed number. Of several
    controls (one for each loss) that share all that, the first stays.
    """
    controls: dict[Any, GridCell] = {}
    for cell in cells:
        if cell.experiment == "contrastive-control":
            controls.setdefault(_place(cell), cell)
    kept = [cell for cell in cells if cell.experiment != "contrastive-control" or controls[_place(cell)] is cell]
    times = Counter(_place(cell) for cell in kept)
    kept = [_renamed(cell, f"{cell.labels['depth']} frozen") if times[_place(cell)] > 1 and not _usual(cell) else cell for cell in kept]
    times = Counter(_place(cell) for cell in kept)
    return [_renamed(cell, cell.run_dir.name) if times[_place(cell)] > 1 else cell for cell in kept]


def _usual(cell: GridCell) -> bool:
    """Whether as many layers are frozen as without `--freeze`; methods that freeze nothing have no other way."""
    labels = cell.labels
    return labels["depth"] in (None, 0 if labels["weights"] == "none" else FREEZE.get(labels["backbone"]))


def _place(cell: GridCell) -> tuple[Any, ...]:
    return tuple(cell.labels[name] for name in ("method", *PAIR_BY))


def _renamed(cell: GridCell, addition: str) -> GridCell:
    return replace(cell, labels={**cell.labels, "method": f"{cell.labels['method']}, {addition}"})


def every_pair(cells: Sequence[GridCell]) -> list[Compared]:
    """Every two methods on the same test images, the later against the earlier."""
    methods = list(dict.fromkeys(cell.labels["method"] for cell in cells))
    return [
        found
        for index, baseline in enumerate(methods)
        for found in compare_methods(cells, "method", baseline, PAIR_BY)
        if found[1] in methods[index + 1 :]
    ]


def encoder_histories(found: Sequence[GridCell]) -> list[tuple[str, dict[str, pd.DataFrame], bool]]:
    """(title, {loss: history.csv}, synthetic) for thesis figure 6.3: contrastive runs of one network, reading and training; the first
    seed of each loss counts."""
    runs = [cell for cell in found if cell.experiment == "contrastive"]
    histories = []
    for key, group in grouped(runs, ("backbone", "reading", *TRAINED_ALIKE)).items():
        first = {cell.labels["loss"]: pd.read_csv(cell.run_dir / "history.csv") for cell in reversed(group)}
        synthetic = bool(read_json(group[0].run_dir / "config.json")["synthetic"])
        histories.append((f"{key[0]}, {key[1]}, {key[3]} split", dict(reversed(first.items())), synthetic))
    return histories


def depths(found: Sequence[GridCell]) -> list[list[GridCell]]:
    """Fine-tuning runs that differ in nothing but the frozen layers and the seed, where there are at least two depths."""
    groups: dict[str, list[GridCell]] = {}
    for cell in found:
        if cell.experiment == "finetune":
            settings = read_json(cell.run_dir / "config.json")["settings"]
            same = {name: value for name, value in settings.items() if name not in ("freeze", "seed", "split_seed")}
            groups.setdefault(json.dumps(same, sort_keys=True), []).append(cell)
    return [group for group in groups.values() if len({cell.labels["depth"] for cell in group}) > 1]


def summaries(folder: Path, command: str) -> list[Path]:
    """Folders below `folder` that `tables`, `compare-losses`, `freeze-depth` or `size-analysis` have written their report to."""
    written = []
    for path in sorted(folder.rglob("config.json")):
        config = read_json(path)
        if config.get("study") == "cervical" and config.get("experiment") == command and (path.parent / "report.md").is_file():
            written.append(path.parent)
    return written
