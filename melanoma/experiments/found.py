"""The runs that tables and sheets are made of: found by their folders, grouped by what may stand in one table, picked by row."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common.runs import is_finished
from melanoma.experiments.single import variant

# What may differ between the rows of one table; runs that differ in anything else stand in different folders.
_ROW = {
    "seed", "simclr", "segmentation", "repeats", "tasks", "order", "lime_samples", "lime_images", "classifier", "dataset_b", "pretrained",
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A finished run: its folder, its settings, its metrics."""

    path: Path
    experiment: str
    settings: dict
    metrics: dict
    data_fingerprint: str = ""

    @property
    def group(self) -> str:
        """Runs of one group may stand in one table: the same data and settings but for what the rows vary."""
        s = self.settings
        same = json.dumps([self.data_fingerprint, {key: value for key, value in s.items() if key not in _ROW}], sort_keys=True)
        name = f"{s['dataset']}-{s['backbone']}-{s['image_size']}px-{s['reading']}-{s['split']}"
        return f"{name}-{hashlib.sha256(same.encode()).hexdigest()[:4]}"

    @property
    def row(self) -> str:
        """Row of Table 3, or the baseline's name."""
        return variant(self.settings) if self.experiment == "train" else self.experiment

    def dice(self, method: str, indicator: str, threshold: float = 0.0) -> pd.Series:
        """Continuous Dice by image, images with the indicator only."""
        table = pd.read_csv(self.path / "localisation.csv")
        chosen = (table["method"] == method) & (table["indicator"] == indicator) & np.isclose(table["threshold"], threshold)
        return table[chosen & ~table["empty"]].set_index("image")["dice"]


def find_runs(folder: Path) -> list[Found]:
    """Finished and published runs below `folder`, by path; pre-trainings have no localisation and are left out."""
    runs = []
    for config in sorted(folder.rglob("config.json")):
        content = json.loads(config.read_text(encoding="utf-8"))
        metrics = config.with_name("metrics.json")
        # A published run has neither the mark of a finished one nor, unlike one at work, a local.json.
        whole = is_finished(config.parent) or not config.with_name("local.json").is_file()
        done = whole and metrics.is_file() and config.with_name("localisation.csv").is_file()
        if content.get("study") == "melanoma" and done:
            found = json.loads(metrics.read_text(encoding="utf-8"))
            runs.append(Found(config.parent, content["experiment"], content["settings"], found, content.get("data_fingerprint", "")))
    return runs


def groups_of(runs: Sequence[Found]) -> dict[str, list[Found]]:
    """Runs by the table they belong to. Those of one Dataset B stand together, with the ones that use none; the name says which where
    there are several.
    """
    groups: dict[str, list[Found]] = {}
    for run in runs:
        groups.setdefault(run.group, []).append(run)
    result = {}
    for name, members in groups.items():
        of_b = {id(run): run.settings.get("dataset_b", {}).get("fingerprint") for run in members}
        several = sorted({b for b in of_b.values() if b is not None})
        for b in several or [None]:
            label = f"{name}-{b[:4]}" if b is not None and len(several) > 1 else name
            result[label] = [run for run in members if of_b[id(run)] in (None, b)]
    return result


def one_a_seed(runs: Sequence[Found]) -> list[Found]:
    """The first run of each seed: the same settings in two folders are one run, not two seeds."""
    return list({run.settings["seed"]: run for run in reversed(runs)}.values())[::-1]


def indicators_of(runs: Sequence[Found]) -> list[str]:
    return list(runs[0].settings["indicators"])


def default_rows(runs: Sequence[Found], row: str, **wanted: object) -> list[Found]:
    """Trained runs of a row of Table 3, one a seed: one repeat, one task, phase by phase, unless said otherwise.

    Without subnetwork 3 there are neither repeats nor tasks, so these say nothing about such a run.
    """
    asked = {"repeats": 1, "tasks": "one", "order": "phases", **wanted}
    if row in ("f_res", "f_res_clr"):
        asked = {"order": asked["order"]}
    trained = [run for run in runs if run.experiment == "train" and run.row == row]
    return one_a_seed([run for run in trained if all(run.settings[key] == value for key, value in asked.items())])


def baseline_rows(runs: Sequence[Found], experiment: str) -> list[Found]:
    """The runs of a baseline, one a seed."""
    return one_a_seed([run for run in runs if run.experiment == experiment])
