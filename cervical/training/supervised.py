"""Fine-tuning (paper III-C.1, Table I) and cost-sensitive training (III-C.2, Table II)."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import keras
import numpy as np

from cervical.config import CostSensitiveOptions, FinetuneOptions
from cervical.data import free_views, load
from cervical.losses import ExpectedCostLoss, WeightedLogLoss
from cervical.models import build_classifier
from cervical.training.costs import cost_matrix, read_costs
from cervical.training.stages import (
    Job,
    accuracy,
    batches,
    begin,
    compile_model,
    conclude,
    default_run_dir,
    evaluation_batches,
    nothing_half_written,
    resolve,
    short_run_note,
    train_stage,
)
from common.data.manifest import class_names
from common.metrics.classification import class_indices, expected_cost
from common.metrics.outcome import read_predictions
from common.runs import Run, is_finished


def run_finetune(options: FinetuneOptions) -> Path:
    """Fine-tune one network: first layers frozen, new head, cross-entropy. Returns the run folder."""
    job = begin("finetune", options)
    if isinstance(job, Run):
        return job.path
    settings = job.settings
    with nothing_half_written(job.run):
        model = build_classifier(settings.backbone, settings, len(job.cells.classes), job.weights)
    notes = fit_classifier(job, model, keras.losses.SparseCategoricalCrossentropy())
    conclude(job, model, f"Cervical cells: {settings.backbone} fine-tuned", notes)
    return job.run.path


def run_cost_sensitive(options: CostSensitiveOptions) -> Path:
    """Fine-tuning with costs: the weighted log loss of thesis eq. 3.2, or a full cost matrix. Returns the run folder."""
    dataset = load(options)
    names = class_names(dataset.manifest)
    settings = resolve("cost-sensitive", options, names)
    read_costs(settings.costs, names, np.ones(len(names)))  # a bad file is told before the fine-tuning, not after it
    default = default_run_dir("cost-sensitive", settings, options, dataset)
    base = None
    # A finished run needs no base any more: `begin` only looks whether it is this very run.
    if settings.init == "finetuned" and not is_finished(options.run_dir or default):
        base = run_finetune(base_options(options, default))
    job = begin("cost-sensitive", options)
    if isinstance(job, Run):
        return job.path
    settings = job.settings
    with nothing_half_written(job.run):
        costs = read_costs(settings.costs, job.cells.classes, job.cells.class_counts)
        model = build_classifier(settings.backbone, settings, len(job.cells.classes), job.weights)
    if base is not None:
        # As the authors: the fine-tuned model goes on training, with a new Adam at the full learning rate.
        model.set_weights(keras.models.load_model(base / "model.keras", compile=False).get_weights())
    loss = ExpectedCostLoss(costs.tolist()) if costs.ndim == 2 else WeightedLogLoss(costs.tolist())
    notes = fit_classifier(job, model, loss)
    notes.append(f"Costs ({Path(settings.costs).name}): {_told(costs, job)}")
    matrix, extra, controls = cost_matrix(costs), {"costs": costs.tolist()}, {}
    if base is not None:
        before = expected_cost_of(base, matrix)
        extra["expected_cost_before"], controls = before, {"the fine-tuned model": base}
        notes.append(
            f"Training went on from the fine-tuned model, whose expected cost on the same images is {before:.4f}; "
            "a gain over it may come from the further epochs alone."
        )
    conclude(job, model, f"Cervical cells: {settings.backbone}, cost-sensitive", notes, matrix, extra, controls)
    return job.run.path


def fit_classifier(job: Job, model: keras.Model, loss: keras.losses.Loss) -> list[str]:
    """One stage of training on all images and copies; views on the fly only where asked for (facts 1.3). Returns notes for the report."""
    settings = job.settings
    train = batches(job.cells.train, settings, shuffle=True, augment=free_views if settings.views else None)
    compile_model(model, settings.finetune, loss, [accuracy()])
    history = train_stage(job, model, "training", settings.finetune, train, evaluation_batches(job.cells.validation, settings))
    notes = short_run_note(history, train, settings.finetune)
    frozen = sum(not layer.trainable for layer in model.get_layer(index=2).layers)
    if job.weights is not None:
        notes.append(f"Starting weights {Path(job.weights).name}; {frozen} of the network's layers were not trained.")
    if settings.views:
        notes.append("Images were newly flipped, turned and scaled in every epoch (--views), which neither document does.")
    return notes


def expected_cost_of(run: Path, matrix: np.ndarray) -> float:
    """Expected cost of a finished run's test predictions under `matrix` `(K, K)`."""
    table, classes = read_predictions(run)
    truth, called = (class_indices(table[column], classes).tolist() for column in ("label", "predicted"))
    return expected_cost(truth, called, matrix)


def base_options(options: CostSensitiveOptions, default: Path | None = None) -> FinetuneOptions:
    """The options of the fine-tuning run that a cost-sensitive one goes on from: the same, in its own folder.

    That is the folder of `finetune` itself, finished perhaps, where the cost-sensitive run is in its `default` folder too (a grid names
    it); beside a folder of the user's choice otherwise.
    """
    given = {field.name: getattr(options, field.name) for field in fields(FinetuneOptions)}
    if options.run_dir is None or (default is not None and options.run_dir.resolve() == default.resolve()):
        given["run_dir"] = None
    else:
        given["run_dir"] = options.run_dir.with_name(options.run_dir.name + "-finetuned")
    return FinetuneOptions(**given)


def _told(costs: np.ndarray, job: Job) -> str:
    if costs.ndim == 2:
        return "a full matrix, see metrics.json; the loss is log loss plus the expected cost."
    return ", ".join(f"{name} {cost:.4f}" for name, cost in zip(job.cells.classes, costs, strict=True)) + "."
