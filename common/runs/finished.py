"""Finished runs of a study, found below a folder and sorted by recipe: what tables, figures and notebooks are made of.

A run is a recipe and a seed. Two runs are seeds of one method if and only if study, command, recipe (config["settings"] without the seed;
the backend is part of it) and data fingerprint are equal. Published tables (`common.report.markup`: runs.json.xz with predictions.csv.xz
and history.csv.xz beside it) give the same objects as run folders do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from common.errors import UsageError
from common.runs.files import flat, plain, read_json, unpacked
from common.runs.folder import is_finished
from common.runs.outcome import GROUP, PREFIX, read_predictions
from common.runs.reading import RunFolder
from common.runs.schema import FIELDS, check_fields, check_predictions

PUBLISHED = "runs.json.xz"
# Unpacked: a grid's table has some megabytes.
MAX_CSV_BYTES = 2**30
TEXT = {"row", "metric", "image", "label", "predicted", GROUP, "stage"}


@dataclass(frozen=True)
class FoundRun:
    """One finished run.

    Attributes:
        path: its folder, or the folder of the published table that holds it.
        config: its config.json.
        number: place in a published table; None for a run folder.
    """

    path: Path
    config: Mapping[str, Any] = field(repr=False)
    number: int | None = None

    @classmethod
    def of(cls, path: Path) -> FoundRun:
        """The run in the folder `path`, finished or not. UsageError when it is no run folder, or its config.json is nobody's."""
        config = RunFolder.existing(path).read_json("config.json")
        check_fields(Path(path) / "config.json", config, FIELDS["config.json"], required=("study", "experiment", "settings"))
        return cls(Path(path), config)

    @property
    def study(self) -> str:
        return self.config["study"]

    @property
    def experiment(self) -> str:
        return self.config["experiment"]

    @property
    def seed(self) -> int:
        return int(self.config["settings"].get("seed") or 0)

    @property
    def fingerprint(self) -> str:
        return self.config.get("data_fingerprint", "")

    @property
    def recipe(self) -> dict[str, Any]:
        """Everything that decided the training but the seed."""
        settings = {name: value for name, value in self.config["settings"].items() if name != "seed"}
        return {"backend": self.config.get("backend"), **settings}

    @cached_property
    def digest(self) -> str:
        """12 hexadecimal digits, equal for seeds of one method on the same data."""
        same = json.dumps([self.study, self.experiment, self.recipe, self.fingerprint], sort_keys=True)
        return hashlib.sha256(same.encode()).hexdigest()[:12]

    @property
    def key(self) -> tuple[str, int | None]:
        """Tells this run from any other."""
        return self.path.as_posix(), self.number

    @property
    def has_predictions(self) -> bool:
        return (self.path / "predictions.csv").is_file() if self.number is None else bool(self._published["classes"])

    @property
    def name(self) -> str:
        return f"{self.experiment}-{self.digest[:6]}-seed{self.seed}"

    def value(self, key: str) -> Any:
        """A field of the recipe, dotted for nested ones ("encoder.epochs"), or else of config.json; None where there is none."""
        if key in ("experiment", "seed", "study", "fingerprint"):
            return getattr(self, key)
        recipe = self.recipe
        return flat(recipe).get(key, recipe.get(key, self.config.get(key)))

    def metrics(self) -> dict[str, Any]:
        """metrics.json. UsageError when it is missing."""
        if self.number is None:
            return RunFolder(self.path).read_json("metrics.json")
        metrics = dict(self._published["metrics"])
        if extra := (metrics.get("given") or {}).get("extra"):
            metrics["given"] = {
                **metrics["given"],
                "extra": {key: metrics.get(key) if each is None else each for key, each in extra.items()},
            }
        return metrics

    def predictions(self) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """The predictions table (image, label, predicted, perhaps group, prob_<class>) and the classes."""
        if self.number is None:
            return read_predictions(RunFolder(self.path))
        path, classes = self.path / "predictions.csv.xz", tuple(self._published["classes"])
        table = self._part("predictions")
        columns = ["image", "label", "predicted", *([GROUP] if self._published["grouped"] else []), *(PREFIX + name for name in classes)]
        for name in columns:
            if name not in table:
                raise UsageError(f"{path} lacks the column {name}")
        table = table.loc[table["predicted"] != "", columns].reset_index(drop=True)
        check_predictions(path, table, classes, None)
        return table, classes

    def history(self) -> pd.DataFrame:
        """history.csv, empty where there is none."""
        if self.number is not None:
            return self._part("history").dropna(axis=1, how="all")
        folder = RunFolder(self.path)
        return folder.read_table("history.csv") if folder.has("history.csv") else pd.DataFrame()

    def scores(self, name: str, metric: str) -> pd.DataFrame | None:
        """Scores per image (image, score, perhaps group) that a published table holds of a row and metric; None in a run folder."""
        if self.number is None:
            return None
        table = self._part("predictions")
        table = table[(table["row"] == name) & (table["metric"] == metric)] if "score" in table else table[:0]
        grouped = GROUP in table and table[GROUP].ne("").any()
        return table[["image", "score", *([GROUP] if grouped else [])]] if len(table) else None

    def table(self, name: str, **options: Any) -> pd.DataFrame:
        """Another CSV of the run folder. UsageError when it is missing, as in a published table."""
        if self.number is not None:
            raise UsageError(f"{self.path}: a published table holds no {name}")
        return RunFolder(self.path).read_table(name, **options)

    @property
    def _published(self) -> Mapping[str, Any]:
        return read_json(self.path / PUBLISHED)["runs"][self.number]

    def _part(self, name: str) -> pd.DataFrame:
        path = self.path / f"{name}.csv.xz"
        if not path.is_file():
            return pd.DataFrame()
        whole = _read_part(path, path.stat().st_mtime_ns)
        return whole[whole["run"] == self.number].drop(columns="run").reset_index(drop=True)


@lru_cache(maxsize=4)
def _read_part(path: Path, changed: int) -> pd.DataFrame:
    """A published CSV; names stay text, also when they look like numbers or like "NA"."""
    try:
        data = unpacked(path, MAX_CSV_BYTES)
        columns = pd.read_csv(BytesIO(data), nrows=0, encoding_errors="surrogateescape").columns
        numbers = {column: [""] for column in columns if column not in TEXT}
        text = dict.fromkeys(TEXT & set(columns), str)
        whole = pd.read_csv(BytesIO(data), dtype=text, keep_default_na=False, na_values=numbers, encoding_errors="surrogateescape")
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{path} is not a readable CSV: {str(error)[:200]}") from None
    if "run" not in whole:
        raise UsageError(f"{path} lacks the column run")
    return whole


def finished_runs(folder: Path, study: str, *, experiments: Sequence[str] | None = None) -> list[FoundRun]:
    """Finished runs of `study` below `folder`, controls inside other runs and published tables too, sorted by path.

    Args:
        experiments: commands to take; None for all.

    Raises:
        UsageError: there is none.
    """
    found: list[FoundRun] = []
    older = False
    for path in sorted(Path(folder).rglob("config.json")):
        config = read_json(path)
        if config.get("study") == study and {"experiment", "settings"} <= set(config):
            if is_finished(path.parent) and (path.parent / "metrics.json").is_file():
                found.append(FoundRun(path.parent, config))
            older |= not is_finished(path.parent) and not (path.parent / "local.json").exists()
    for path in sorted(Path(folder).rglob(PUBLISHED)):
        runs = read_json(path).get("runs", [])
        found += [FoundRun(path.parent, run["config"], number) for number, run in enumerate(runs) if run["config"].get("study") == study]
    found = [run for run in found if experiments is None or run.experiment in experiments]
    if not found:
        older |= any(Path(folder).rglob("runs.json"))
        hint = "; what is there was published in an older form" if older else ""
        raise UsageError(f"{folder}: no finished run of {study}{f' {chr(47).join(experiments)}' if experiments else ''} below it{hint}")
    return found


def by_recipe(runs: Iterable[FoundRun]) -> dict[str, list[FoundRun]]:
    """Digest -> the seeds of one method on the same data, sorted; the same seed in two folders counts once."""
    groups: dict[str, dict[int, FoundRun]] = {}
    for run in runs:
        groups.setdefault(run.digest, {}).setdefault(run.seed, run)
    return {digest: [seeds[seed] for seed in sorted(seeds)] for digest, seeds in groups.items()}


def select(runs: Iterable[FoundRun], **wanted: Any) -> list[FoundRun]:
    """Runs whose recipe has these values, as `select(runs, experiment="contrastive", **{"encoder.epochs": 30})`."""
    return [run for run in runs if all(plain(run.value(key)) == plain(value) for key, value in wanted.items())]


def differences(recipes: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Fields (dotted) in which recipes differ, each with the values in the recipes' order; None where a recipe has no such field."""
    rows = [flat(recipe) for recipe in recipes]
    keys = dict.fromkeys(key for row in rows for key in row)
    values = {key: tuple(row.get(key) for row in rows) for key in keys}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}


def names_by_difference(groups: Mapping[str, Sequence[FoundRun]]) -> dict[str, str]:
    """Digest -> command and what tells its recipe from the others, as "train, loss ce, image size 64"."""
    differ = differences([{**runs[0].recipe, "data": runs[0].fingerprint[:8]} for runs in groups.values()])
    names = {}
    for place, (digest, runs) in enumerate(groups.items()):
        parts = [f"{key.replace('_', ' ')} {values[place]}" for key, values in differ.items() if values[place] is not None]
        names[digest] = ", ".join([runs[0].experiment, *parts])
    return names
