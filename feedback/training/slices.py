"""Feedback in slices (section 5.4): the best model of one slice starts the next."""

from pathlib import Path

import numpy as np
import pandas as pd

from common import device
from common.runs import Run
from feedback.assessment import Explainer, assess, summary
from feedback.config import SlicesOptions, simulation_settings
from feedback.training.faithful import measure_once
from feedback.training.online import self_explaining, tune
from feedback.training.simulate import assess_once, faithfulness_of, finish, minutes_per_epoch, open_run, outcome_of, write_manifest
from feedback.training.stage import Stage, load_classifier, prepare, tensorboard


def run_slices(options: SlicesOptions) -> Path:
    """`feedback slices`: Table 5.4 and figures 5.14, 5.15 of one objective; returns the run folder.

    slices.csv has one row a slice (−1: before tuning): test accuracy, average sensitivity, Jaccard index with its deviation, validation
    Jaccard index, minutes. A process that was killed goes on with the slice it was at.
    """
    settings = simulation_settings(options)
    stage = prepare(options, settings)
    run = open_run("slices", options, settings, stage, slices=options.slices)
    if run.finished:
        return run.path
    device.configure(options.seed, options.precision)
    write_manifest(run, stage)
    model = self_explaining(load_classifier(stage.base), settings)
    explainer = Explainer(model)
    before = assess_once(run, "before", explainer, stage, "test")
    whole = assess_once(run, "before_all", explainer, stage, None)
    untuned = measure_once(run, "before", explainer, stage, options.faithfulness, options.seed) if options.faithfulness else None
    rows = _known_rows(run) or [_row(-1, summary(before, stage.classes, settings.region_threshold, options.seed), None, 0, None)]
    history, after = pd.DataFrame(), before
    for number, part in enumerate(slices_of(stage, options.slices, options.seed)):
        done = len(rows) - 2  # the last slice with a row in slices.csv
        if number < done:
            continue
        # For the slice recorded last this only puts its weights back.
        history = tune(model, stage, part, settings, run, f"slice{number:02d}", options.seed + number, tuple(tensorboard(run, options)))
        after = assess(explainer, stage.images, stage.labels, stage.masks, stage.part("test"))
        if number > done:
            scores = summary(after, stage.classes, settings.region_threshold, options.seed)
            rows.append(_row(number, scores, history, len(part), float(history["val_jaccard"].max())))
            run.write_csv("slices.csv", pd.DataFrame(rows))
            _drop_checkpoint(run, number - 1)
    outcome = outcome_of(stage, settings, options.seed, before, after)
    outcome["baseline_whole_set"] = summary(whole, stage.classes, settings.region_threshold, options.seed)
    outcome |= slices_outcome(rows, pd.read_csv(run.path / "history.csv"))
    if untuned is not None:
        outcome["faithfulness"] = faithfulness_of(run, untuned, explainer, stage, options)
    finish(run, model, stage, settings, options.seed, before, after, outcome, explainer)
    return run.path


def slices_of(stage: Stage, count: int, seed: int) -> list[np.ndarray]:
    """The training rows, shuffled by `seed` and cut into `count` parts of equal size (the first ones may have one more)."""
    order = np.random.default_rng([seed, 2]).permutation(stage.part("train"))
    return [part for part in np.array_split(order, count) if len(part)]


def slices_outcome(rows: list[dict], history: pd.DataFrame) -> dict:
    """What metrics.json says of the slices; `validation` names the last slice's kept score, as a simulation's does.

    `history`: the epochs of all slices, in order.
    """
    table = pd.DataFrame(rows)
    last = table.iloc[-1]
    tuned = table[table["slice"] >= 0]
    return {
        "slices": tuned.to_dict("records"),
        # The first slice compiles the step too, and a resumed one again: the median of the others is what a slice takes.
        "minutes_per_slice": float((tuned["minutes"].iloc[1:] if len(tuned) > 1 else tuned["minutes"]).median()),
        "minutes_per_epoch": minutes_per_epoch(history),
        "validation": {"epoch": int(last["epoch"]), "jaccard": float(last["validation_jaccard"])},
    }


def _row(number: int, scores: dict, history: pd.DataFrame | None, images: int, kept: float | None) -> dict:
    return {
        "slice": number,
        "images": images,
        "accuracy": scores["accuracy"],
        "average_sensitivity": scores["average_sensitivity"],
        "jaccard": scores["jaccard"]["mean"],
        "jaccard_deviation": scores["jaccard"]["deviation"],
        **{f"accuracy_{end}": value for end, value in zip(("low", "high"), scores["accuracy_interval"], strict=True)},
        **{f"jaccard_{end}": value for end, value in zip(("low", "high"), scores["jaccard"]["interval"] or (None, None), strict=True)},
        "validation_jaccard": kept,
        "epoch": 0 if history is None else int(history.loc[history["val_jaccard"].idxmax(), "epoch"]),
        "minutes": 0.0 if history is None else float(history["seconds"].sum() / 60),
    }


def _known_rows(run: Run) -> list[dict]:
    path = run.path / "slices.csv"
    return pd.read_csv(path).to_dict("records") if path.is_file() else []


def _drop_checkpoint(run: Run, number: int) -> None:
    """Twenty copies of VGG16 would fill 5 GB; only the last slice's weights are needed to go on."""
    path = run.path / "checkpoints" / f"slice{number:02d}" / "complete" / "state.npz"
    path.unlink(missing_ok=True)
