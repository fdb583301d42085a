"""`cervical tune`: dropout, rates, temperature and projection searched with the same number of trials a method, on validation images."""

from __future__ import annotations

from pathlib import Path

from cervical.data import load
from cervical.experiments.base import CellTraining
from cervical.experiments.tune import Method, TuneSettings
from cervical.sections import TITLES, block_of
from cervical.tables import cell
from common.runs.files import atomic
from common.runs.folder import RUNS
from common.runs.search import Range, Run, SearchOutcome, Space, report, search, search_each

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
    """Search every method, then write report.md into the folder; returns its path."""
    dataset = load(settings, settings.base("finetune").limit)
    folder = settings.run_dir or RUNS / "cervical" / "tune" / f"{settings.dataset}-{settings.backbones[0]}-{settings.reading}"
    lines = [f"# Tuned on validation images: {dataset.name}, {block_of(settings.backbones[0])}", ""]
    lines += ["> **Synthetic data.**", ""] if dataset.synthetic else []
    lines += [
        f"Accuracy on validation images, seed {settings.seeds[0]}, reading `{settings.reading}`. One seed and the largest of several "
        "values: that says what to train, not how good it is. Trial 0 is the reading's own.",
        "",
    ]

    def one(method: Method, run: Run) -> SearchOutcome:
        base = settings.base(method)
        return search(
            folder / f"search-{method}",
            base,
            space_of(base, method),
            lambda each: cell(method, each, dataset),
            metric=METRIC,
            trials=settings.trials,
            seed=settings.seeds[0],
            run=run,
        )

    firsts = {method: cell(method, settings.base(method), dataset) for method in settings.methods}
    for method, outcome in search_each(firsts, dict.fromkeys(firsts, settings.trials), one, settings).items():
        options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in outcome.best.parameters.items())
        lines += [f"## {TITLES[method]}", "", f"The winner: `{options}`", "", report(outcome, METRIC)]
    path = folder / "report.md"
    with atomic(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
    return path


def space_of(settings: CellTraining, method: str) -> Space:
    """What is searched for a method: its settings that act."""
    idle = settings.unused()
    return {name: axis for name, axis in SPACES[method].items() if name not in idle}
