"""The simulation: a user who corrects class and region of the training images, sections 5.3 to 5.8."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common import device
from common.data.manifest import fingerprint
from common.metrics.outcome import write_metrics, write_predictions
from common.runs import Run, atomic, read_json
from feedback import data, faithfulness, figures, reporting
from feedback.assessment import Assessment, Explainer, assess, difference, ellipse_baseline, summary, whole_image_baseline
from feedback.config import SimulateOptions, Simulation, as_dict, simulation_settings
from feedback.models import SelfExplaining
from feedback.training.faithful import measure_once
from feedback.training.online import self_explaining, tune
from feedback.training.stage import Stage, load_classifier, model_digest, prepare, tensorboard


def run_simulate(options: SimulateOptions) -> Path:
    """`feedback simulate`: one cell of Tables 5.1 to 5.3, or a search over lambda when several are given; returns the run folder."""
    if len(options.explanation_weight) > 1:
        from feedback.training.search import run_search

        return run_search(options)
    settings = simulation_settings(options)
    stage = prepare(options, settings)
    run = open_run("simulate", options, settings, stage)
    if run.finished:
        return run.path
    device.configure(options.seed, options.precision)
    write_manifest(run, stage)
    model = self_explaining(load_classifier(stage.base), settings)
    explainer = Explainer(model)
    before = assess_once(run, "before", explainer, stage, "test")
    whole = assess_once(run, "before_all", explainer, stage, None)
    validation = assess_once(run, "before_validation", explainer, stage, "validation")
    untuned = measure_once(run, "before", explainer, stage, options.faithfulness, options.seed) if options.faithfulness else None
    history = tune(model, stage, stage.part("train"), settings, run, "tuning", options.seed, tuple(tensorboard(run, options)))
    after = assess(explainer, stage.images, stage.labels, stage.masks, stage.part("test"))
    outcome = outcome_of(stage, settings, options.seed, before, after)
    outcome["baseline_whole_set"] = summary(whole, stage.classes, settings.region_threshold, options.seed)
    outcome["baseline_validation"] = summary(validation, stage.classes, settings.region_threshold, options.seed)
    outcome["validation"] = selected_epoch(history)
    outcome["minutes_per_epoch"] = minutes_per_epoch(history)
    if untuned is not None:
        outcome["faithfulness"] = faithfulness_of(run, untuned, explainer, stage, options)
    finish(run, model, stage, settings, options.seed, before, after, outcome, explainer)
    return run.path


def open_run(experiment: str, options: SimulateOptions, settings: Simulation, stage: Stage, **more: Any) -> Run:
    """The run folder of a simulation; its settings hold the base (name, SHA-256 of its model) and everything that decides the result."""
    config = read_json(stage.base / "config.json")
    return Run.open(
        "feedback",
        experiment,
        {
            **as_dict(settings),
            "reading": options.reading,
            "dataset": stage.dataset.name,
            "synthetic": stage.dataset.synthetic or bool(config.get("synthetic")),
            "classes": stage.classes,
            "seed": options.seed,
            "limit": options.limit,
            "precision": options.precision,
            "base": stage.base.name,
            "base_model": model_digest(stage.base),
            "base_dataset": config["dataset"],
            "base_fingerprint": config["data_fingerprint"],
            "backbone": config["backbone"],
            "weights": f"base {stage.base.name}",
            "image_size": config["image_size"],
            "resize_filter": config["resize_filter"],
            "masks": data.mask_columns(stage.dataset.manifest),
            "faithfulness": options.faithfulness,
            **more,
        },  # fmt: skip
        run_dir=options.run_dir,
        name_parts=(stage.dataset.name, str(config["backbone"]), settings.balance, settings.objective, f"seed{options.seed}"),
        fingerprint=fingerprint(stage.dataset),
        data_dir=stage.dataset.data_dir,
    )


def write_manifest(run: Run, stage: Stage) -> None:
    """manifest.csv with split, copy number, overlap and mask paths."""
    columns = ["image", "label", "group", "split", "copy", "overlap", *data.mask_columns(stage.manifest)]
    run.write_csv("manifest.csv", stage.manifest[columns])


def assess_once(run: Run, name: str, explainer: Explainer, stage: Stage, split: str | None) -> Assessment:
    """The assessment of the untuned model, kept in the run folder, since a resumed process starts from tuned weights."""
    path = run.path / "checkpoints" / f"{name}.npz"
    if path.is_file():
        with np.load(path) as stored:
            return Assessment(**{key: stored[key] for key in stored.files})
    rows = stage.part(split) if split else np.arange(len(stage.labels))
    found = assess(explainer, stage.images, stage.labels, stage.masks, rows)
    with atomic(path) as temporary:
        np.savez(temporary, **vars(found))
    return found


def outcome_of(stage: Stage, settings: Simulation, seed: int, before: Assessment, after: Assessment) -> dict[str, Any]:
    """What metrics.json holds beside the classifier's own scores."""
    test = stage.part("test")
    train = stage.manifest[stage.manifest["split"] == "train"]
    found: dict[str, Any] = {
        "before": summary(before, stage.classes, settings.region_threshold, seed),
        "after": summary(after, stage.classes, settings.region_threshold, seed),
        "change": difference(before, after, seed),
        "ellipse": ellipse_baseline(stage.masks[test], seed),
        "whole_image": whole_image_baseline(stage.masks[test], seed),
        "overlap": data.overlap_counts(stage.manifest),
        "seen_by_base": seen_by_base(stage),
        "training_images": data.class_counts(train["label"], stage.classes),
        "left_out": stage.dataset.left_out,
    }
    jaccard, after_scores = found["after"]["jaccard"], found["after"]
    found["sensitivity"] = {**after_scores["sensitivity"], "average": after_scores["average_sensitivity"]}
    return found | {"jaccard": jaccard["mean"], "jaccard_deviation": jaccard["deviation"], "jaccard_interval": jaccard["interval"]}


def faithfulness_of(run: Run, untuned: pd.DataFrame, explainer: Explainer, stage: Stage, options: SimulateOptions) -> dict[str, Any]:
    """Measures the tuned model, writes every image's areas to faithfulness.csv, and returns what metrics.json says of them."""
    tuned = measure_once(run, "after", explainer, stage, options.faithfulness, options.seed)
    table = faithfulness.side_by_side(untuned, tuned)
    run.write_csv(faithfulness.FILE, table)
    return faithfulness.summary(table, options.seed)


def minutes_per_epoch(history: pd.DataFrame) -> float:
    """Median over the epochs after the first, which compiles the step as well; the one epoch where there is only one.

    The median, because a process that resumes compiles again in the middle. Validation at the epoch's end is included.
    """
    seconds = history["seconds"].to_numpy()
    return float(np.median(seconds[1:] if len(seconds) > 1 else seconds) / 60)


def seen_by_base(stage: Stage) -> dict[str, int] | None:
    """Per split: images that the base was trained on, by id. None when the base's folder holds no manifest.csv (a published run)."""
    path = stage.base / "manifest.csv"
    if not path.is_file():
        return None
    return data.seen_by_base(stage.manifest, pd.read_csv(path, keep_default_na=False, dtype=str))


def selected_epoch(history: pd.DataFrame) -> dict[str, float]:
    """Validation scores of the epoch that was kept."""
    best = history.loc[history["val_jaccard"].idxmax()]
    return {"epoch": int(best["epoch"]), "jaccard": float(best["val_jaccard"]), "accuracy": float(best["val_accuracy"])}


def finish(
    run: Run, model: SelfExplaining, stage: Stage, settings: Simulation, seed: int, before: Assessment, after: Assessment,
    outcome: dict[str, Any], explainer: Explainer,
) -> None:  # fmt: skip
    """Model, predictions, Jaccard index of every test image, metrics, figures and report."""
    run.save_model(model.classifier)
    test = stage.manifest[stage.manifest["split"] == "test"]
    write_predictions(run, test, after.probabilities, stage.classes)
    table = test[["image", "label"]].assign(
        predicted_before=np.asarray(stage.classes)[before.probabilities.argmax(axis=1)],
        predicted_after=np.asarray(stage.classes)[after.probabilities.argmax(axis=1)],
        jaccard_before=before.jaccard, jaccard_after=after.jaccard,
        jaccard_truth_before=before.jaccard_truth, jaccard_truth_after=after.jaccard_truth,
    )  # fmt: skip
    run.write_csv("jaccard.csv", table)
    write_metrics(run, seed, extra=outcome)
    figures.simulation_figures(run, stage, explainer, load_classifier(stage.base), settings)
    reporting.simulation_report(run, settings)
    run.finish()
