"""The simulation: a user who corrects class and region of the training images, sections 5.3 to 5.8."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common import device
from common.data.fingerprint import contents, fingerprint
from common.runs.files import atomic, read_json, sha256
from common.runs.folder import Run
from common.runs.outcome import write_metrics, write_predictions
from common.settings import recipe
from feedback import data, faithfulness, reporting
from feedback.assessment import Assessment, Explainer, assess, difference, summary, trivial_maps
from feedback.experiments.simulate import SimulateSettings
from feedback.experiments.slices import SlicesSettings
from feedback.training.baseline import with_base
from feedback.training.faithful import measure_once
from feedback.training.online import adapt, anchor_of, batches_of, self_explaining, tune
from feedback.training.stage import Stage, load_classifier, prepare

SHOWN = 6  # images in the figure of maps before and after


def run_simulate(settings: SimulateSettings) -> Path:
    """`feedback simulate` and `slices`: one cell of Tables 5.1 to 5.3, or of 5.4; returns the run folder."""
    settings = with_base(settings)
    stage = prepare(settings)
    run = open_run("slices" if isinstance(settings, SlicesSettings) else "simulate", settings, stage)
    if run.finished:
        return run.path
    device.configure(settings.seed, devices=settings.devices)
    start = Start(run, stage, settings)
    if isinstance(settings, SlicesSettings):
        outcome = learn_slices(run, stage, settings, start)
    else:
        history = learn(run, stage, settings, start, "tuning", stage.part("train")) if settings.epochs else start.adaptation
        outcome = {"validation": selected_epoch(history)}
    finish(run, stage, settings, start, outcome)
    return run.path


def learn(run: Run, stage: Stage, settings: SimulateSettings, start: "Start", name: str, rows: np.ndarray, number: int = 0) -> pd.DataFrame:
    """Tune the start's classifier on the images `rows`, in the order of the seed after `number`; the history."""
    batches = batches_of(stage, rows, settings, settings.seed + number, start.anchor)
    model = self_explaining(start.classifier, settings, len(batches) * settings.epochs)
    return tune(model, stage, batches, settings, run, name)


def learn_slices(run: Run, stage: Stage, settings: SlicesSettings, start: "Start") -> dict[str, Any]:
    """Feedback in slices (section 5.4, figures 5.14 and 5.15): the best model of one slice starts the next. What metrics.json says of it.

    The training rows are shuffled and cut into parts of equal size (the first ones may have one more). slices.csv has one row per slice
    (−1: before tuning); a process that was killed goes on with the slice it was at.
    """
    test, groups, known = stage.part("test"), stage.groups("test"), run.path / "slices.csv"
    rows = pd.read_csv(known).to_dict("records") if known.is_file() else [_row(-1, summary(start.before, stage.classes, groups), None, 0)]
    order = np.random.default_rng([settings.seed, 2]).permutation(stage.part("train"))
    history = pd.DataFrame()
    for number, part in enumerate(part for part in np.array_split(order, settings.slices) if len(part)):
        done = len(rows) - 2  # the last slice with a row in slices.csv
        if number < done:
            continue
        # For the slice recorded last this only puts its weights back.
        history = learn(run, stage, settings, start, f"slice{number:02d}", part, number)
        if number > done:
            after = assess(start.explainer, stage.images, stage.labels, stage.masks, test)
            rows.append(_row(number, summary(after, stage.classes, groups), history, len(part)))
            run.write_csv("slices.csv", pd.DataFrame(rows))
            # Twenty copies of VGG16 would fill 5 GB; only the last slice's weights are needed to go on.
            (run.path / "checkpoints" / f"slice{number - 1:02d}" / "complete" / "state.npz").unlink(missing_ok=True)
    tuned = pd.DataFrame(rows).iloc[1:]
    images = int(tuned["images"].median())
    return {"validation": selected_epoch(history), "slices": tuned.to_dict("records"), "images_per_slice": images}


def _row(number: int, scores: dict, history: pd.DataFrame | None, images: int) -> dict:
    kept = None if history is None else history.loc[history["val_selection"].idxmax()]
    return {
        "slice": number, "images": images, **{name: scores[name] for name in ("accuracy", "average_sensitivity", "auc")},
        "jaccard": scores["jaccard"]["mean"], "jaccard_deviation": scores["jaccard"]["deviation"],
        **{f"accuracy_{end}": value for end, value in zip(("low", "high"), scores["accuracy_interval"], strict=True)},
        **{f"jaccard_{end}": value for end, value in zip(("low", "high"), scores["jaccard"]["interval"] or (None, None), strict=True)},
        "validation_jaccard": None if kept is None else float(kept["val_jaccard"]),
        "epoch": 0 if kept is None else int(kept["epoch"]),
    }  # fmt: skip


class Start:
    """The model before the feedback, adapted where that is asked for, and what it scores.

    Attributes:
        classifier: that is tuned; explainer: its maps, at any time; adaptation: the history of its adaptation, empty without.
        anchor: its probabilities `(N, classes)` on all images, or None.
        base, before: the untuned base and the model before the feedback on the test images; whole: the latter on all images.
        maps: of the test images before the feedback; faithful: areas under the deletion and insertion curves, or None.
    """

    def __init__(self, run: Run, stage: Stage, settings: SimulateSettings) -> None:
        columns = ["image", "label", "group", "split", "copy", "overlap", *data.mask_columns(stage.manifest)]
        run.write_csv("manifest.csv", stage.manifest[columns])
        test = stage.part("test")
        self.classifier = load_classifier(stage.base)
        self.explainer = Explainer(self_explaining(self.classifier, settings))
        self.base = assess(self.explainer, stage.images, stage.labels, stage.masks, test)
        self.adaptation = adapt(self.classifier, stage, settings, run) if settings.adapt_epochs else pd.DataFrame()
        self.anchor = anchor_of(self.classifier, stage, settings)
        self.before = assess(self.explainer, stage.images, stage.labels, stage.masks, test)
        self.whole = assess(self.explainer, stage.images, stage.labels, stage.masks, np.arange(len(stage.labels)))
        self.maps = self.explainer(stage.images[test], size=stage.masks.shape[1])[1].astype("float16")
        self.faithful = None
        if settings.faithfulness:
            self.faithful = measure_once(run, "before", self.explainer, stage, settings.faithfulness, settings.split_seed)


def open_run(experiment: str, settings: SimulateSettings, stage: Stage) -> Run:
    """The run folder of a simulation; its recipe holds the base (by the SHA-256 of its model) and everything that decides the result."""
    config = read_json(stage.base / "config.json")
    content = {
        "dataset": stage.dataset.name, "synthetic": stage.dataset.synthetic or bool(config.get("synthetic")), "classes": stage.classes,
        "base": stage.base.name, "base_model": sha256(stage.base / "model.keras")[:16], "base_dataset": config["dataset"],
        "base_fingerprint": config["data_fingerprint"], "weights": f"base {stage.base.name}",
        **{name: config[name] for name in ("backbone", "image_size", "resize_filter")},
        "masks": data.mask_columns(stage.dataset.manifest),
    }  # fmt: skip
    return Run.open(
        "feedback",
        experiment,
        {**recipe(settings, **content), "seed": settings.seed},
        run_dir=settings.run_dir,
        name_parts=(stage.dataset.name, str(config["backbone"]), settings.balance, settings.objective, f"seed{settings.seed}"),
        fingerprint=fingerprint(stage.dataset),
        data_dir=stage.dataset.data_dir,
        files=contents(stage.dataset),
        log_to=settings.log,
    )


def outcome_of(stage: Stage, settings: SimulateSettings, start: Start, after: Assessment) -> dict[str, Any]:
    """What metrics.json holds beside the classifier's own scores."""
    test, groups = stage.part("test"), stage.groups("test")
    train = stage.manifest[stage.manifest["split"] == "train"]
    sides = {"base": start.base, "before": start.before, "after": after}
    found: dict[str, Any] = {
        **{name: summary(one, stage.classes, groups) for name, one in sides.items()},
        "change": difference(start.before, after, stage.classes, groups),
        "trivial": trivial_maps(stage.masks[test], stage.masks[np.unique(stage.part("train"))], settings.threshold),
        "before_whole_set": summary(start.whole, stage.classes),
        "overlap": data.overlap_counts(stage.manifest),
        "seen_by_base": data.seen_by_base(stage.manifest, stage.base),
        "training_images": data.class_counts(train["label"], stage.classes),
        "left_out": stage.dataset.left_out,
    }
    jaccard = found["after"]["jaccard"]
    return found | {"jaccard": jaccard["mean"], "jaccard_deviation": jaccard["deviation"], "jaccard_interval": jaccard["interval"]}


def selected_epoch(history: pd.DataFrame) -> dict[str, float]:
    """Validation scores of the epoch that was kept."""
    best = history.loc[history["val_selection" if "val_jaccard" in history else "val_balanced_accuracy"].idxmax()]
    names = ("jaccard", "accuracy", "balanced_accuracy", "auc", "selection")
    return {"epoch": int(best["epoch"]), **{name: float(best[f"val_{name}"]) for name in names if f"val_{name}" in best}}


def finish(run: Run, stage: Stage, settings: SimulateSettings, start: Start, outcome: dict[str, Any]) -> None:
    """Model, predictions, Jaccard index of every test image, metrics, maps for the figures, and report."""
    after = assess(start.explainer, stage.images, stage.labels, stage.masks, stage.part("test"))
    outcome = outcome_of(stage, settings, start, after) | outcome
    if start.faithful is not None:
        tuned = measure_once(run, "after", start.explainer, stage, settings.faithfulness, settings.split_seed)
        table = start.faithful.merge(tuned, on="image", suffixes=("_before", "_after"), validate="one_to_one")
        run.write_csv(faithfulness.FILE, table)
        outcome["faithfulness"] = faithfulness.summary(table)
    run.save_model(start.classifier)
    test = stage.manifest[stage.manifest["split"] == "test"]
    write_predictions(run, test, after.probabilities, stage.classes)
    table = test[["image", "label", "group"]].assign(
        predicted_before=np.asarray(stage.classes)[start.before.probabilities.argmax(axis=1)],
        predicted_after=np.asarray(stage.classes)[after.probabilities.argmax(axis=1)],
        jaccard_before=start.before.jaccard, jaccard_after=after.jaccard,
        jaccard_truth_before=start.before.jaccard_truth, jaccard_truth_after=after.jaccard_truth,
    )  # fmt: skip
    run.write_csv("jaccard.csv", table)
    write_metrics(run, settings.seed, extra=outcome)
    keep_maps(run, stage, start, table)
    reporting.simulation_report(run)
    run.finish()


def keep_maps(run: Run, stage: Stage, start: Start, table: pd.DataFrame) -> None:
    """maps.npz: images, masks and maps before and after of a few test images, from the largest loss of the Jaccard index to the largest
    gain, for a figure that needs no model. No choice by looks."""
    change = (table["jaccard_after"] - table["jaccard_before"]).fillna(-9.0).to_numpy()
    order = np.argsort(change, kind="stable")
    order = order[change[order] > -9.0] if (change > -9.0).any() else order
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int))]
    rows = stage.part("test")[chosen]
    with atomic(run.path / "maps.npz") as temporary:
        np.savez_compressed(
            temporary, row=chosen, images=stage.images[rows], masks=stage.masks[rows], before=start.maps[chosen],
            after=start.explainer(stage.images[rows], size=stage.masks.shape[1])[1].astype("float16"),
        )  # fmt: skip
