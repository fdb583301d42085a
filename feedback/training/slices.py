"""Feedback in slices (section 5.4): the best model of one slice starts the next."""

from pathlib import Path

import numpy as np
import pandas as pd

from common import device
from common.runs.folder import Run
from feedback.assessment import assess, summary
from feedback.experiments.slices import SlicesSettings
from feedback.training.baseline import with_base
from feedback.training.online import batches_of, self_explaining, tune
from feedback.training.simulate import Start, finish, minutes_per_epoch, open_run, selected_epoch
from feedback.training.stage import Stage, prepare


def run_slices(settings: SlicesSettings) -> Path:
    """`feedback slices`: Table 5.4 and figures 5.14, 5.15 of one objective; returns the run folder.

    slices.csv has one row a slice (−1: before tuning): test accuracy, average sensitivity, Jaccard index with its deviation, validation
    Jaccard index, minutes. A process that was killed goes on with the slice it was at.
    """
    settings = with_base(settings)
    stage = prepare(settings)
    run = open_run("slices", settings, stage)
    if run.finished:
        return run.path
    device.configure(settings.seed)
    start = Start(run, stage, settings)
    test, groups = stage.part("test"), stage.groups("test")
    rows = _known_rows(run) or [_row(-1, summary(start.before, stage.classes, settings.region_threshold, groups), None, 0)]
    history = pd.DataFrame()
    for number, part in enumerate(slices_of(stage, settings.slices, settings.seed)):
        done = len(rows) - 2  # the last slice with a row in slices.csv
        if number < done:
            continue
        # For the slice recorded last this only puts its weights back.
        batches = batches_of(stage, part, settings, settings.seed + number, start.anchor)
        model = self_explaining(start.classifier, settings, len(batches) * settings.epochs)
        history = tune(model, stage, batches, settings, run, f"slice{number:02d}")
        if number > done:
            after = assess(start.explainer, stage.images, stage.labels, stage.masks, test)
            rows.append(_row(number, summary(after, stage.classes, settings.region_threshold, groups), history, len(part)))
            run.write_csv("slices.csv", pd.DataFrame(rows))
            _drop_checkpoint(run, number - 1)
    whole = pd.read_csv(run.path / "history.csv")
    outcome = {"validation": selected_epoch(history), **slices_outcome(rows, whole[whole["stage"] != "adaptation"])}
    finish(run, stage, settings, start, outcome)
    return run.path


def slices_of(stage: Stage, count: int, seed: int) -> list[np.ndarray]:
    """The training rows, shuffled by `seed` and cut into `count` parts of equal size (the first ones may have one more)."""
    order = np.random.default_rng([seed, 2]).permutation(stage.part("train"))
    return [part for part in np.array_split(order, count) if len(part)]


def slices_outcome(rows: list[dict], history: pd.DataFrame) -> dict:
    """What metrics.json says of the slices. `history`: the epochs of all slices, in order."""
    table = pd.DataFrame(rows)
    tuned = table[table["slice"] >= 0]
    return {
        "slices": tuned.to_dict("records"),
        # The first slice compiles the step too, and a resumed one again: the median of the others is what a slice takes.
        "minutes_per_slice": float((tuned["minutes"].iloc[1:] if len(tuned) > 1 else tuned["minutes"]).median()),
        "minutes_per_epoch": minutes_per_epoch(history),
        "images_per_slice": int(tuned["images"].median()),
    }


def _row(number: int, scores: dict, history: pd.DataFrame | None, images: int) -> dict:
    kept = None if history is None else history.loc[history["val_selection"].idxmax()]
    return {
        "slice": number,
        "images": images,
        "accuracy": scores["accuracy"],
        "average_sensitivity": scores["average_sensitivity"],
        "auc": scores["auc"],
        "jaccard": scores["jaccard"]["mean"],
        "jaccard_deviation": scores["jaccard"]["deviation"],
        **{f"accuracy_{end}": value for end, value in zip(("low", "high"), scores["accuracy_interval"], strict=True)},
        **{f"jaccard_{end}": value for end, value in zip(("low", "high"), scores["jaccard"]["interval"] or (None, None), strict=True)},
        "validation_jaccard": None if kept is None else float(kept["val_jaccard"]),
        "epoch": 0 if kept is None else int(kept["epoch"]),
        "minutes": 0.0 if history is None else float(history["seconds"].sum() / 60),
    }


def _known_rows(run: Run) -> list[dict]:
    path = run.path / "slices.csv"
    return pd.read_csv(path).to_dict("records") if path.is_file() else []


def _drop_checkpoint(run: Run, number: int) -> None:
    """Twenty copies of VGG16 would fill 5 GB; only the last slice's weights are needed to go on."""
    path = run.path / "checkpoints" / f"slice{number:02d}" / "complete" / "state.npz"
    path.unlink(missing_ok=True)
