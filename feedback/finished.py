"""Finished runs of this study, found and put into tables: what notebooks and summaries start from."""

from pathlib import Path
from typing import Any

import pandas as pd

from common.errors import UsageError
from common.runs import is_finished, read_json


def _runs(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    found = []
    for path in sorted(Path(folder).rglob("config.json")):
        if is_finished(path.parent) and (path.parent / "metrics.json").is_file():
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
            **{name: settings[name] for name in ("dataset", "backbone", "balance", "objective", "explanation_weight", "gradients", "seed")},
            "batch": settings["batch_size"], "synthetic": found["synthetic"], "accuracy_before": found["before"]["accuracy"],
            "accuracy": found["accuracy"], "jaccard_before": found["before"]["jaccard"]["mean"], "jaccard": found["jaccard"],
            "ellipse": found["ellipse"]["mean"], "run": run.as_posix(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def slices(folder: Path) -> dict[str, pd.DataFrame]:
    """Objective -> slices.csv of the first run of `slices` with that objective."""
    found: dict[str, pd.DataFrame] = {}
    for path, config in _runs(folder):
        if config["experiment"] == "slices":
            found.setdefault(config["settings"]["objective"], pd.read_csv(path / "slices.csv"))
    return found
