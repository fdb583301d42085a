"""`cervical tune`: dropout, rates, temperature and projection searched with the same number of trials a method, on validation images."""

from __future__ import annotations

from pathlib import Path

from cervical.data import load
from cervical.experiments.base import CellTraining
from cervical.experiments.tune import TuneSettings
from cervical.sections import TITLES, block_of
from cervical.tables import cell
from common.runs.folder import RUNS
from common.runs.search import Range, Space, report, search_each, write_search

METRIC = "validation_accuracy"
RATE = Range(1e-5, 1e-2, log=True)
SPACES: dict[str, Space] = {
    "finetune": {"dropout": Range(0.0, 0.8), "training.learning_rate": RATE},
    "contrastive": {
        "dropout": Range(0.0, 0.8),
        "encoder.learning_rate": RATE,
        "classifier.learning_rate": RATE,
        "temperature": Range(0.02, 0.5, log=True),
        "projection": (32, 64, 128, 256, 512),
        "head_input": ("features", "projection"),
    },
}


def run_tune(settings: TuneSettings) -> Path:
    """Search every method, then write report.md and table.csv into the folder; returns its path."""
    dataset = load(settings, settings.limit)
    folder = settings.run_dir or RUNS / "cervical" / "tune" / f"{settings.dataset}-{settings.backbones[0]}-{settings.reading}"
    lines = [f"# Tuned on validation images: {dataset.name}, {block_of(settings.backbones[0])}", ""]
    lines += ["> **Synthetic data.**", ""] if dataset.synthetic else []
    lines += [
        f"Accuracy on validation images, seed {settings.seeds[0]}, reading `{settings.reading}`. One seed and the largest of several "
        "values: that says what to train, not how good it is. Trial 0 is the reading's own.",
        "",
    ]

    bases = {method: settings.base(method) for method in settings.methods}
    found = search_each(
        folder,
        bases,
        lambda method, each: space_of(each, method),
        lambda method, each: cell(method, each, dataset),
        settings,
        metric=METRIC,
        trials=settings.trials,
        seed=settings.seeds[0],
    )
    for method, outcome in found.items():
        options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in outcome.best.parameters.items())
        lines += [f"## {TITLES[method]}", "", f"The winner: `{options}`", "", report(outcome, METRIC)]
    return write_search(folder, "\n".join(lines), found)


def space_of(settings: CellTraining, method: str) -> Space:
    """What is searched for a method: its settings that act."""
    idle = settings.unused()
    return {name: axis for name, axis in SPACES[method].items() if name not in idle}
