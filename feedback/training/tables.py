"""Tables 5.1 to 5.4: every balance, objective and seed in a run of its own, then the tables beside the printed ones."""

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

from common.data.fingerprint import fingerprint
from common.runs.cells import GridCell
from common.runs.files import sha256
from common.runs.finished import FoundRun
from common.runs.folder import Run
from common.runs.grid import run_grid
from common.settings import recipe, require
from feedback import data, tables
from feedback.experiments.simulate import BALANCED, SimulateSettings
from feedback.experiments.slices import SlicesSettings
from feedback.experiments.tables import TablesSettings
from feedback.training.baseline import with_base


def run_tables(settings: TablesSettings) -> Path:
    """`feedback tables`: runs what is missing, writes report.md and figures; returns the folder."""
    if settings.plan:  # before the sample's base is trained
        run_grid(cells_of(settings, settings.run_dir or Path("cells")), settings)
    settings = with_base(settings)
    assert settings.base is not None
    own = {**recipe(settings), "base": settings.base.name, "base_model": sha256(settings.base / "model.keras")[:16]}
    parts = (settings.dataset, settings.reading, settings.base.name)
    today = fingerprint(data.load(settings, "simulation"))
    run = Run.open("feedback", "tables", own, run_dir=settings.run_dir, name_parts=parts)
    cells = [replace(cell, fingerprint=today) for cell in cells_of(settings, run.path / "cells")]
    if run.finished:
        for reason in (cell.conflict() for cell in cells if cell.finished):
            require(not reason, reason)
        return run.path
    outcome = run_grid(cells, settings)
    done = [FoundRun.of(cell.run_dir) for cell in cells if cell.finished]
    if done:
        reports = tables.write_tables(run.path, done)
        lines = "".join(f"- [{path.parent.name}]({path.parent.name}/report.md)\n" for path in reports)
        missing = "".join(f"- not run: {cell.name}\n" for cell in cells if not cell.finished)
        run.write_text("report.md", f"# Tables 5.1 to 5.4: {len(done)} of {len(cells)} runs\n\n{lines}{missing}")
    if not outcome.failed:
        run.finish()
    outcome.check()
    return run.path


def cells_of(settings: TablesSettings, folder: Path) -> list[GridCell]:
    """One cell for each balance, objective, kind of channel weights and seed; with --slices also one for each objective and seed."""
    single = {item.name for item in fields(SimulateSettings)} - {"run_dir"}
    common = SimulateSettings(**{name: value for name, value in vars(settings).items() if name in single})
    return [cell for seed in settings.seeds for cell in _cells(settings, replace(common, seed=seed), folder)]


def _cells(settings: TablesSettings, common: SimulateSettings, folder: Path) -> Iterator[GridCell]:
    for balance in settings.balances:
        for objective in settings.objectives:
            if objective == "balanced-combined":
                if balance == "none":
                    chosen = replace(
                        common, **{**BALANCED, "adapt_epochs": common.adapt_epochs, "adapt_learning_rate": common.adapt_learning_rate}
                    )
                    yield _cell("simulate", chosen, folder, balance, objective, "differentiated")
                continue
            # The classification objective does not look at the map, so a second kind of channel weights would only repeat it.
            for kind in settings.kinds[: 1 if objective == "classification" else None]:
                epochs = settings.reduced_epochs if balance == "reduced" else settings.epochs
                chosen = replace(common, balance=balance, objective=objective, channel_weights=kind, epochs=epochs)
                yield _cell("simulate", chosen, folder, balance, objective, kind)
    for objective in settings.objectives if settings.slices else ():
        if objective != "balanced-combined":
            kind = settings.kinds[0]
            chosen = replace(common, balance="upsampled", objective=objective, channel_weights=kind, epochs=settings.slice_epochs)
            yield _cell("slices", SlicesSettings(**vars(chosen), slices=settings.slices), folder, "slices", objective, kind)


def _cell(experiment: str, settings: SimulateSettings, folder: Path, balance: str, objective: str, kind: str) -> GridCell:
    labels = {"balance": balance, "objective": objective, "channel_weights": kind, "seed": settings.seed}
    name = f"{balance}-{objective}-{kind}-seed{settings.seed}"
    return GridCell("feedback", experiment, settings, folder / name, labels)
