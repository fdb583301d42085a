"""What of finished runs may be committed: settings and metrics in runs.json.xz, predictions and histories in one compressed CSV each.

No model, no image, no folder of this machine. `common.runs.finished` reads the same runs from there again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from common.runs.files import atomic, pack, plain, read_json, write_json
from common.runs.finished import PUBLISHED, FoundRun
from common.runs.outcome import GROUP
from common.runs.reading import RunFolder

# Five decimals of a probability: far finer than any metric's interval, and half the file.
DIGITS = 5
_LEFT_OUT = ("calibration",)  # of metrics.json; it follows from the predictions


def write_runs(
    folder: Path,
    title: str,
    runs: Sequence[tuple[str, FoundRun]],
    scores: Mapping[tuple[str, str, Any], pd.DataFrame] | None = None,
    left_out: str | None = None,
) -> None:
    """Write runs.json.xz, predictions.csv.xz and history.csv.xz of (row, run) pairs into `folder`.

    scores: (row, metric, `run.key` or None) -> scores per image (image, score, perhaps group), kept in predictions.csv.xz too. A run that
    stands in several rows is written once, with its first row's name.
    left_out: regular expression for whole dotted names of metrics.json ("localisation.gradcam") that the table does not show; they are not
    published with it.
    """
    numbers: dict[Any, int] = {}
    entries, predictions, histories = [], [], []
    for name, run in runs:
        if run.key in numbers:
            continue
        numbers[run.key] = number = len(entries)
        metrics = run.metrics()
        entry = {"row": name, "name": run.name, "config": dict(run.config), "grouped": False, "classes": []}
        if run.has_predictions:
            table, classes = run.predictions()
            entry |= {"classes": classes, "grouped": GROUP in table}
            predictions.append(table.assign(run=number, row=name))
        history = run.history()
        if len(history):
            histories.append(history.assign(run=number))
        entries.append({**entry, "metrics": _without(published_metrics(metrics), re.compile(rf"(given\.extra\.)?({left_out or '(?!)'})"))})
    for (name, metric, key), table in (scores or {}).items():
        predictions.append(
            table[[column for column in ("image", "score", GROUP) if column in table]].assign(
                run=numbers.get(key, -1), row=name, metric=metric
            )
        )
    write_json(folder / PUBLISHED, {"title": title, "runs": plain(entries)}, indent=None)
    first = ["run", "row", "image", "label", "predicted", GROUP, "metric", "score"]
    _write(folder / "predictions.csv.xz", predictions, first, f"%.{DIGITS}f")
    _write(folder / "history.csv.xz", histories, ["run", "stage", "epoch"], "%.6g")


def published_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """metrics.json without what follows from the predictions and without further values that stand there twice: those are None, and
    `FoundRun.metrics` puts them back."""
    kept = {key: value for key, value in metrics.items() if key not in _LEFT_OUT}
    if further := (kept.get("given") or {}).get("extra"):
        told = {key: None if key in kept and kept[key] == value else value for key, value in further.items()}
        kept["given"] = {**kept["given"], "extra": told}
    return kept


def _without(value: Any, left_out: re.Pattern[str], path: str = "") -> Any:
    """A JSON value without what stands at names that match."""
    if not isinstance(value, Mapping):
        return value
    return {key: _without(each, left_out, f"{path}{key}.") for key, each in value.items() if not left_out.fullmatch(f"{path}{key}")}


def unpack(folder: Path) -> list[Path]:
    """Run folders (config.json, metrics.json, predictions.csv, history.csv) of a published table's runs, written below `folder`/runs."""
    paths = []
    for number, entry in enumerate(read_json(folder / PUBLISHED).get("runs", [])):
        run = FoundRun(folder, entry["config"], number)
        target = RunFolder(folder / "runs" / run.name)
        target.write_json("config.json", entry["config"])
        target.write_json("metrics.json", run.metrics())
        if run.has_predictions:
            target.write_table("predictions.csv", run.predictions()[0])
        if len(history := run.history()):
            target.write_table("history.csv", history)
        paths.append(target.path)
    return paths


def _write(path: Path, tables: Sequence[pd.DataFrame], first: Sequence[str], digits: str) -> None:
    """One CSV of all tables, the same bytes for the same tables; nothing where there is none."""
    if not tables:
        path.unlink(missing_ok=True)
        return
    whole = pd.concat(tables, ignore_index=True)
    whole = whole.reindex(columns=[*first, *(name for name in whole if name not in first)]).dropna(axis=1, how="all")
    text = whole.to_csv(index=False, float_format=digits, lineterminator="\n")
    with atomic(path) as temporary:
        temporary.write_bytes(pack(text.encode("utf-8", "surrogateescape")))
