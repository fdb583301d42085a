"""`lmf tune`: each loss searched over its own parameters with the same number of trials, on validation images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.report.markup import markdown, number
from common.runs.folder import RUNS
from common.runs.search import Range, SearchOutcome, Space, report, search_each, short, write_search
from lmf import data, paper
from lmf.experiments.train import TrainSettings
from lmf.experiments.tune import TuneSettings
from lmf.training.grids import cell_of

METRIC = "validation_macro_f1"
# Alpha and beta reach beyond Table 6 (0.5 to 2.0). Focal's margins only scale it as a whole, which Adam takes out.
SPACES: dict[str, Space] = {
    "focal": {"gamma": Range(0.0, 4.0)},
    "ldam": {"max_margin": Range(0.1, 1.0), "scale": Range(1.0, 30.0, log=True)},
    "lmf": {
        "alpha": Range(0.25, 4.0, log=True),
        "beta": Range(0.25, 4.0, log=True),
        "gamma": Range(0.0, 4.0),
        "max_margin": Range(0.1, 1.0),
        "scale": Range(1.0, 30.0, log=True),
    },
    "class_balanced": {"effective_beta": (0.9, 0.99, 0.999, 0.9999)},
    "logit_adjusted": {"tau": Range(0.25, 2.0)},
}


def run_tune(settings: TuneSettings) -> Path:
    """Search every loss, then write report.md and table.csv into the folder; returns its path."""
    folder = settings.run_dir or RUNS / "lmf" / "tune" / f"{data.name_of(settings)}-{settings.train.split}-{settings.reading}"
    first = settings.base(settings.losses[0])
    dataset = data.load(first, (first.image_size, first.resize_filter))
    manifest = data.split(dataset.manifest, first.split, first.split_seed)

    found = search_each(
        folder,
        {loss: settings.base(loss) for loss in settings.losses},
        lambda _, each: space_of(each),
        lambda _, each: cell_of(each, dataset, manifest),
        settings,
        metric=METRIC,
        trials=settings.trials,
        seed=settings.seeds[0],
    )
    return write_search(folder, text_of(settings, found, dataset.synthetic), found)


def space_of(settings: TrainSettings) -> Space:
    """What is searched for the settings' loss: its parameters that act."""
    idle = settings.unused()
    return {name: axis for name, axis in SPACES.get(settings.loss, {}).items() if name not in idle}


def text_of(settings: TuneSettings, found: dict[str, SearchOutcome], synthetic: bool) -> str:
    """The winners, then every trial of every loss."""
    first = settings.base(settings.losses[0])
    rows: list[list[Any]] = []
    for loss, outcome in found.items():
        best, trials = outcome.best, len(outcome.trials)
        options = " ".join(f"--{name.replace('_', '-')} {short(value)}" for name, value in best.parameters.items())
        rows.append([paper.LOSS_TITLES[loss], options or "(no parameter)", trials, number(outcome.trials[0].value), number(best.value)])
    lines = [f"# Tuned on validation images: {data.name_of(settings)}, {first.backbone}", ""]
    lines += ["> **Synthetic data.**", ""] if synthetic else []
    lines += [
        f"{first.epochs} epochs at {first.image_size} px, split `{first.split}`, reading `{first.reading}`, seed {first.seed}; macro F1"
        " on validation images, best epoch. One seed and the largest of several values: that says what to train, not which loss is better.",
        "",
        markdown(["loss", "options of the winner", "trials", "trial 0", "winner"], rows, left=2),
    ]
    alpha, beta = paper.alpha_beta(first.dataset, first.backbone)
    if "lmf" in found and "alpha" in found["lmf"].best.parameters:
        lines += [f"Table 6 has alpha {alpha:g}, beta {beta:g} for this data set and network (1 and 1 where it has no cell).", ""]
    for loss, outcome in found.items():
        lines += [f"## {paper.LOSS_TITLES[loss]}: every trial, best first", "", report(outcome, METRIC)]
    return "\n".join(lines)
