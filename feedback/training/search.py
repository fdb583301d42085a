"""The search over lambda, rate, anchor and gradient norm: on validation, the test set is not looked at."""

import itertools
import logging
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.report.tables import markdown, number
from common.runs.cells import GridCell
from common.runs.files import read_json
from common.runs.grid import run_grid
from feedback.experiments.search import SEARCHED, SearchSettings
from feedback.experiments.simulate import SimulateSettings
from feedback.training.baseline import with_base
from feedback.training.online import LossNotFinite
from feedback.training.simulate import open_run
from feedback.training.stage import prepare

log = logging.getLogger(__name__)
SCORES = ("jaccard", "balanced_accuracy", "auc", "accuracy", "selection")
LOSSES = ("first_loss", "highest_loss", "last_loss")
BURST = 10  # times the mean loss of another epoch: within an epoch the loss can leave every scale and come back


def run_search(settings: SearchSettings) -> Path:
    """One `simulate` run for each combination, in folders of the search's own, then the choice; returns the search's folder.

    Chosen is the combination whose kept epoch has the highest selection score: the validation Jaccard index where the balanced accuracy is
    kept (`KeptClassifier`). By the Jaccard index alone lambda 1 could hardly lose, and by the accuracy alone 0. A run whose loss is no
    longer finite is recorded as such with the epochs it finished.
    """
    if settings.plan:  # before the sample's base is trained
        run_grid(cells_of(settings, settings.run_dir or Path("search")), settings)
    settings = with_base(settings)
    run = open_run("search", settings, prepare(settings))
    if run.finished:
        return run.path
    axes, cells = _axes(settings), cells_of(settings, run.path)
    outcome = run_grid(cells, settings)
    diverged = [each for each in outcome.failed if each[2].startswith(LossNotFinite.SAID)]
    replace(outcome, failed=tuple(each for each in outcome.failed if each not in diverged)).check()
    table = pd.DataFrame([{**cell.labels, **_scores(cell.run_dir, cell in [each for each, _, _ in diverged])} for cell in cells])
    run.write_csv("search.csv", table)
    synthetic = bool(run.config["settings"]["synthetic"])
    names = [*axes, *SCORES, "outcome", *LOSSES]
    shown = [[line[name] if name == "outcome" else number(line[name]) for name in names] for line in _plain(table)]
    best = _plain(table)[int(table["selection"].astype(float).fillna(-np.inf).argmax())]
    said = ", ".join(f"{name.replace('_', ' ')} {best[name]:g}" for name in axes)
    run.write_text(
        "report.md",
        f"# Search\n\n{'Synthetic data. ' if synthetic else ''}Chosen on validation: **{said}** "
        f"(largest average Jaccard index whose balanced accuracy is at most {settings.allowed_drop:g} below the start's; a negative "
        "selection score says how much is missing). Validation images of the kept epochs; test images play no part. A loss is an epoch's "
        f"mean; it blew up when one epoch's is {BURST} times another's.\n\n" + markdown([name.replace("_", " ") for name in names], shown),
    )
    run.write_json("metrics.json", {"chosen": {name: best[name] for name in axes}, "synthetic": synthetic, "rows": _plain(table)})
    run.finish()
    log.info("best on validation: %s", said)
    return run.path


def _axes(settings: SearchSettings) -> dict[str, tuple[float, ...]]:
    """Field of a simulation -> its values to try."""
    return {name: getattr(settings, axis) for axis, name in SEARCHED.items() if getattr(settings, axis)}


def cells_of(settings: SearchSettings, folder: Path) -> list[GridCell]:
    """One simulation for each combination."""
    common = SimulateSettings(**{item.name: getattr(settings, item.name) for item in fields(SimulateSettings)})
    axes = _axes(settings)
    chosen = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    names = ["-".join(f"{name}{value:g}" for name, value in each.items()) for each in chosen]
    return [
        GridCell("feedback", "simulate", replace(common, **each), folder / name, each) for name, each in zip(names, chosen, strict=True)
    ]


def _scores(folder: Path, stopped: bool) -> dict[str, Any]:
    """Validation scores of the kept epoch, and what the training loss did."""
    metrics = read_json(folder / "metrics.json") if (folder / "metrics.json").is_file() else {}
    history = pd.read_csv(folder / "history.csv") if (folder / "history.csv").is_file() else pd.DataFrame({"loss": [], "stage": []})
    losses = history.loc[history["stage"] != "adaptation", "loss"].to_numpy()
    first, highest, last = (losses[0], losses.max(), losses[-1]) if len(losses) else (None, None, None)
    blown = len(losses) > 1 and losses.max() > BURST * losses.min()
    ended = "one epoch" if len(losses) < 2 else "rose" if losses[-1] > losses[0] else "fell"
    scores = {name: metrics.get("validation", {}).get(name) for name in SCORES}
    return {
        **scores, "outcome": "not finite" if stopped else "blew up" if blown else ended,
        **dict(zip(LOSSES, (first, highest, last), strict=True)),
    }  # fmt: skip


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.astype(object).where(table.notna(), None).to_dict("records")]
