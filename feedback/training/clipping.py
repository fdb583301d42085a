"""The divergence that the thesis saw with the explanation loss (section 5.6: "gradient overflow"), with and without gradient clipping."""

import logging
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from common.data.fingerprint import fingerprint
from common.report.tables import markdown, number
from common.runs.files import read_json
from common.runs.folder import Run
from common.settings import recipe
from feedback import data, reporting
from feedback.experiments.clipping import ClippingSettings
from feedback.experiments.simulate import SimulateSettings
from feedback.training.baseline import with_base
from feedback.training.online import LossNotFinite
from feedback.training.simulate import run_simulate
from feedback.training.stage import model_digest

log = logging.getLogger(__name__)

BURST = 10  # times the mean loss of another epoch


def run_clipping(settings: ClippingSettings) -> Path:
    """`feedback clipping`: every rate with and without clipping, in run folders of their own, then one table and figure.

    A run whose loss is no longer finite is a result here, not an error: it is recorded as "diverged" with the epochs it finished.
    """
    settings = with_base(settings)
    assert settings.base is not None
    dataset = data.load(settings, "simulation")
    own = {**recipe(settings, dataset=dataset.name, base=settings.base.name, base_model=model_digest(settings.base)), "seed": settings.seed}
    name_parts = (dataset.name, settings.objective, f"seed{settings.seed}")
    run = Run.open("feedback", "clipping", own, run_dir=settings.run_dir, name_parts=name_parts, fingerprint=fingerprint(dataset))
    if run.finished:
        return run.path
    single = {item.name for item in fields(SimulateSettings)}
    cell = SimulateSettings(**{name: value for name, value in vars(settings).items() if name in single})
    rows, histories, synthetic = [], {}, False
    for rate in settings.rates:
        for norm in (settings.clip_norm, 0.0):
            name = f"rate {rate:g}, " + (f"clipped at {norm:g}" if norm else "not clipped")
            folder = run.path / f"rate{rate:g}-clip{norm:g}"
            stopped = ""
            try:
                run_simulate(replace(cell, learning_rate=rate, clip_norm=norm, run_dir=folder))
            except LossNotFinite as error:
                stopped = str(error)
                log.info("%s: diverged: %s", name, stopped)
            synthetic = synthetic or bool(read_json(folder / "config.json").get("synthetic"))
            rows.append(_row(name, rate, norm, folder, stopped))
            if (folder / "history.csv").is_file():
                histories[name] = pd.read_csv(folder / "history.csv")
    table = pd.DataFrame(rows)
    run.write_csv("clipping.csv", table)
    if histories:
        reporting.divergence(run.path, histories, synthetic)
    shown = [
        [line["run"], line["outcome"], *(number(line[key]) for key in ("first_loss", "highest_loss", "last_loss", "jaccard", "accuracy"))]
        for line in table.replace({np.nan: None}).to_dict("records")
    ]
    run.write_text(
        "report.md",
        f"# Gradient clipping\n\n{'Synthetic data. ' if synthetic else ''}Objective {settings.objective}, {settings.epochs} epochs, batch "
        f"{settings.batch_size}. The loss is an epoch's mean training loss; a run blew up when one epoch's is {BURST} times another's. "
        "Test scores are of the kept epoch.\n\n"
        + markdown(("run", "outcome", "first loss", "highest loss", "last loss", "test Jaccard index", "test accuracy"), shown)
        + ("\n![divergence](figures/divergence.png)\n" if histories else ""),
    )
    run.write_json("metrics.json", {"synthetic": synthetic, "rows": table.replace({np.nan: None}).to_dict("records")})
    run.finish()
    return run.path


def _row(name: str, rate: float, norm: float, folder: Path, stopped: str) -> dict:
    history = pd.read_csv(folder / "history.csv") if (folder / "history.csv").is_file() else pd.DataFrame({"loss": [], "epoch": []})
    losses = history["loss"].to_numpy()
    metrics = read_json(folder / "metrics.json") if (folder / "metrics.json").is_file() else {}
    # Loss that ends above where it began is divergence too, though every number is finite.
    # Within an epoch the loss can leave every scale and come back to a model that knows nothing any more.
    burst = len(losses) > 1 and losses.max() > BURST * losses.min()
    ended = "one epoch" if len(losses) < 2 else "rose" if losses[-1] > losses[0] else "fell"
    outcome = "not finite" if stopped else "blew up" if burst else ended
    return {
        "run": name, "rate": rate, "clip_norm": norm, "outcome": outcome, "epochs": len(losses),
        "first_loss": losses[0] if len(losses) else None, "highest_loss": losses.max() if len(losses) else None,
        "last_loss": losses[-1] if len(losses) else None, "jaccard": metrics.get("jaccard"), "accuracy": metrics.get("accuracy"),
    }  # fmt: skip
