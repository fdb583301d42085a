"""Finished runs of this study, found and put into tables: what notebooks and summaries start from."""

from pathlib import Path
from typing import Any

import pandas as pd

from common.errors import UsageError
from common.runs import is_finished, read_json

_SETTINGS = ("dataset", "backbone", "balance", "objective", "explanation_weight", "gradients", "seed")
_COLUMNS = (*_SETTINGS, "batch", "synthetic", "accuracy_before", "accuracy", "jaccard_before", "jaccard", "ellipse", "run")


def _runs(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Finished runs, and published ones, which hold neither finished.json nor checkpoints (`common.runs.publish`)."""
    found = []
    for path in sorted(Path(folder).rglob("config.json")):
        whole = is_finished(path.parent) or not (path.parent / "checkpoints").exists()
        if whole and (path.parent / "metrics.json").is_file():
            config = read_json(path)
            if config.get("study") == "feedback":
                found.append((path.parent, config))
    return found


def simulations(folder: Path) -> list[Path]:
    """Run folders of `simulate` at any depth under `folder`, sorted."""
    return [path for path, config in _runs(folder) if config["experiment"] == "simulate"]


def metrics(run: Path) -> dict[str, Any]:
    """A run's metrics.json. UsageError when it is missing."""
    if not (run / "metrics.json").is_file():
        raise UsageError(f"{run}: holds no metrics.json")
    return read_json(run / "metrics.json")


def table(runs: list[Path]) -> pd.DataFrame:
    """One row a simulation: settings, accuracy and Jaccard index before and after, the ellipse, and its folder."""
    rows = []
    for run in runs:
        settings, found = read_json(run / "config.json")["settings"], metrics(run)
        rows.append({
            **{name: settings[name] for name in _SETTINGS},
            "batch": settings["batch_size"], "synthetic": found["synthetic"], "accuracy_before": found["before"]["accuracy"],
            "accuracy": found["accuracy"], "jaccard_before": found["before"]["jaccard"]["mean"], "jaccard": found["jaccard"],
            "ellipse": found["ellipse"]["mean"], "run": run.as_posix(),
        })  # fmt: skip
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def histories(part: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Name -> history.csv of the runs in a `table`, the mean over runs that differ in their seed only.

    Named by objective, and by lambda, channel weights and batch where the table holds several of them.
    """
    keys = [
        "objective",
        *(name for name in ("explanation_weight", "gradients", "batch", "dataset", "backbone") if part[name].nunique() > 1),
    ]
    found = {}
    for values, group in part.groupby(keys, sort=False):
        title = ", ".join([str(values[0]), *(f"{key.replace('_', ' ')} {value}" for key, value in zip(keys[1:], values[1:], strict=True))])
        tables = [pd.read_csv(Path(run) / "history.csv") for run in group["run"]]
        found[title] = pd.concat(tables).groupby("epoch", as_index=False).mean(numeric_only=True)
    return found


def slices(folder: Path) -> tuple[dict[str, pd.DataFrame], bool]:
    """Objective -> slices.csv, the mean over the runs of `slices` with that objective; and whether any of them is of synthetic data."""
    found: dict[str, list[pd.DataFrame]] = {}
    synthetic = False
    for path, config in _runs(folder):
        if config["experiment"] == "slices":
            found.setdefault(config["settings"]["objective"], []).append(pd.read_csv(path / "slices.csv"))
            synthetic |= bool(metrics(path)["synthetic"])
    return {name: pd.concat(tables).groupby("slice", as_index=False).mean(numeric_only=True) for name, tables in found.items()}, synthetic
