"""What the runs of a grid will cost, before anything starts (`--plan`): hours from finished runs of the same data set, and disk.

Work is epochs x what the network does for one image at its size x copies of an image, twice where a control is trained beside the method.
The seconds that a unit of it took in the study's finished runs (below runs/ and results/, of the same command where there are some) give
the hours; so they hold for the machine that those ran on, and within a factor of about two for another network.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from common.backbones import BACKBONES, all_layers, build_backbone
from common.durations import duration
from common.errors import UsageError
from common.runs.cells import GridCell
from common.runs.finished import FoundRun, finished_runs

# Of a run that is at work: weights, the optimiser's two moments and the best epoch's weights, in the checkpoint and beside it.
_AT_WORK = 5
# Between the seconds an epoch of five networks on a T4 (facts 1.6: VGG16 2.6 times MobileNetV2, DenseNet169 3.5 times) and on CPU cores.
_WRITTEN = 300
_TEXTS = 2e6  # bytes of a finished run besides its models


def say(cells: Sequence[GridCell]) -> None:
    """Print each cell with its hours and disk, then the sums."""
    seconds, kept, largest, machines = 0.0, 0.0, 0.0, set[str]()
    for cell in cells:
        values = _values(cell)
        rate, work, size = _rate(cell, values.get("dataset")), _work(values), _bytes(values)
        took = rate[0] * work if rate and work else None
        seconds, kept, largest = seconds + (took or 0.0), kept + size, max(largest, size)
        machines |= {rate[1]} if rate else set()
        hours = f"{took / 3600:8.2f} h" if took is not None else "       ? h"
        print(f"{hours} {size / 1e6:7.0f} MB  {cell.name}")
    hours = f"{duration(seconds)} one after another, measured on {', '.join(sorted(machines))}"
    unknown = "hours unknown (no finished run of these data to measure by: run one cell first)"
    print(
        f"{len(cells)} cells to run: {hours if machines else unknown}; {kept / 1e9:.2f} GB when all are finished, and up to "
        f"{largest * _AT_WORK / 1e9:.2f} GB more for each at work; the decoded images besides"
    )


def _values(cell: GridCell) -> dict[str, Any]:
    """The cell's settings; where another run brings the network (`base`), with that one's."""
    values = asdict(cell.settings)
    base = values.get("base")
    return {**FoundRun.of(base).config, **values} if base is not None and (base / "config.json").is_file() else values


def _work(values: Mapping[str, Any]) -> float | None:
    name, size = values.get("backbone"), values.get("image_size")
    if name not in BACKBONES or not size:
        return None
    doubled = 2 if values.get("control") is True else 1
    return doubled * _epochs(values) * _network(name, int(size))[0] * (1 + int(values.get("copies") or 0))


def _epochs(values: Mapping[str, Any]) -> int:
    nested = sum(_epochs(value) for value in values.values() if isinstance(value, Mapping))
    return nested + sum(value for name, value in values.items() if name.endswith("epochs") and isinstance(value, int))


def _bytes(values: Mapping[str, Any]) -> float:
    name, size = values.get("backbone"), values.get("image_size")
    parameters = _network(name, int(size))[1] if name in BACKBONES and size else 0
    return 4 * parameters * (2 if values.get("control") is True else 1) + _TEXTS


@cache
def _network(name: str, size: int) -> tuple[float, int]:
    """(work of one image forward: multiply-adds, and values written, which cost as much as `_WRITTEN` of those; parameters)."""
    model, work = build_backbone(name, size), 0.0
    for layer in all_layers(model):
        shape = getattr(layer.output, "shape", (0, 0))
        work += _WRITTEN * math.prod(shape[1:])
        if getattr(layer, "kernel", None) is not None:
            work += math.prod(layer.kernel.shape) * math.prod(shape[1:-1])
    return work, model.count_params()


def _rate(cell: GridCell, dataset: Any) -> tuple[float, str] | None:
    """(seconds a unit of work, machine), the median of the finished runs; None without any."""
    rates = _rates(cell.study, str(dataset))
    of_command = [rate for rate in rates if rate[0] == cell.experiment] or rates
    return (statistics.median(rate for _, rate, _ in of_command), of_command[0][2]) if of_command else None


@cache
def _rates(study: str, dataset: str) -> list[tuple[str, float, str]]:
    """(command, seconds a unit of work, machine) of every finished run of the data set."""
    found = []
    for folder in (Path("runs") / study, Path("results") / study):
        try:
            runs = finished_runs(folder, study)
        except UsageError:
            continue
        for run in runs:
            if run.value("dataset") != dataset:
                continue
            history = run.history()
            values = {**run.config, **run.recipe, "control": False}  # which is a run of its own there
            work = _work(values)
            if work and "seconds" in history:
                found.append((run.experiment, float(history["seconds"].sum()) / work, str(run.config.get("machine", "another machine"))))
    return found
