"""Fine-tuning (paper III-C.1, Table I) and cost-sensitive training (III-C.2, Table II)."""

from __future__ import annotations

import logging
from dataclasses import fields, replace
from pathlib import Path

import keras
import numpy as np

from cervical.config import CLASSES, CostSensitiveOptions, FinetuneOptions, Settings, effective, with_weights
from cervical.losses import ExpectedCostLoss, WeightedLogLoss
from cervical.models import build_classifier
from cervical.training.costs import cost_matrix, read_costs
from cervical.training.stages import Job, accuracy, batches, begin, compile_model, conclude, short_run_note, train_stage
from common.data.manifest import class_names
from common.runs import Run

log = logging.getLogger(__name__)


def run_finetune(options: FinetuneOptions) -> Path:
    """Fine-tune one network: first layers frozen, new head, cross-entropy. Returns the run folder."""
    settings = with_weights(effective(options), options, pretrained=True)
    job = begin("finetune", settings, options)
    if isinstance(job, Run):
        return job.path
    model = build_classifier(settings.backbone, settings, len(job.cells.classes), job.weights)
    notes = fit_classifier(job, model, keras.losses.SparseCategoricalCrossentropy())
    conclude(job, model, f"Cervical cells: {settings.backbone} fine-tuned", notes)
    return job.run.path


def run_cost_sensitive(options: CostSensitiveOptions) -> Path:
    """Fine-tuning with costs: the weighted log loss of thesis eq. 3.2, or a full cost matrix. Returns the run folder."""
    settings = with_weights(effective(options), options, pretrained=True)
    settings = _usable_costs(settings, options)
    base = base_options(options) if settings.init == "finetuned" else None
    base_path = run_finetune(base) if base is not None else None
    job = begin("cost-sensitive", settings, options, _cost_facts(settings))
    if isinstance(job, Run):
        return job.path
    costs = read_costs(settings.costs, job.cells.classes, job.cells.class_counts)
    model = build_classifier(settings.backbone, settings, len(job.cells.classes), None if base_path else job.weights)
    if base_path is not None:
        # As the authors: the fine-tuned model goes on training, with a new Adam at the full learning rate.
        model.set_weights(keras.models.load_model(base_path / "model.keras", compile=False).get_weights())
    loss = ExpectedCostLoss(costs.tolist()) if costs.ndim == 2 else WeightedLogLoss(costs.tolist())
    notes = fit_classifier(job, model, loss)
    notes.append(
        f"Costs ({settings.costs if settings.costs in ('balanced', 'printed') else Path(settings.costs).name}): {_told(costs, job)}"
    )
    if base_path is not None:
        notes.append("Training went on from the fine-tuned model, so a gain over fine-tuning may come from the further epochs alone.")
    extra = {"costs": costs, "plain_error_cost": float(np.mean(cost_matrix(costs)))}
    conclude(job, model, f"Cervical cells: {settings.backbone}, cost-sensitive", notes, cost_matrix(costs), extra)
    return job.run.path


def fit_classifier(job: Job, model: keras.Model, loss: keras.losses.Loss) -> list[str]:
    """One stage of training on all images and copies, no views on the fly (facts 1.3). Returns notes for the report."""
    settings = job.settings
    train = batches(job.cells.train, settings, shuffle=True)
    compile_model(model, settings.finetune, loss, [accuracy()])
    history = train_stage(job, model, "training", settings.finetune, train, batches(job.cells.validation, settings))
    notes = short_run_note(history, train, settings.finetune)
    frozen = sum(not layer.trainable for layer in model.get_layer(index=2).layers)
    if job.weights is not None:
        notes.append(f"Starting weights {Path(job.weights).name}; {frozen} of the network's layers were not trained.")
    return notes


def base_options(options: CostSensitiveOptions) -> FinetuneOptions:
    """The options of the fine-tuning run that a cost-sensitive one goes on from: the same, in its own folder."""
    given = {field.name: getattr(options, field.name) for field in fields(FinetuneOptions)}
    if options.run_dir is not None:
        given["run_dir"] = options.run_dir.with_name(options.run_dir.name + "-finetuned")
    return FinetuneOptions(**given)


def _usable_costs(settings: Settings, options: CostSensitiveOptions) -> Settings:
    """The printed costs are SIPaKMeD's; a reading that asks for them on other classes gets balanced ones unless the user insisted."""
    if settings.costs != "printed" or options.costs == "printed":
        return settings
    from cervical.data import load

    names = class_names(load(options).manifest)
    if names == CLASSES:
        return settings
    log.info("the paper prints costs for SIPaKMeD's classes only: balanced costs are used")
    return replace(settings, costs="balanced")


def _cost_facts(settings: Settings) -> dict[str, str]:
    """A cost file enters the run's identity by its name and content."""
    if settings.costs in ("balanced", "printed"):
        return {}
    path = Path(settings.costs)
    return {"costs": path.name, "costs_content": path.read_text(encoding="utf-8", errors="replace")}


def _told(costs: np.ndarray, job: Job) -> str:
    if costs.ndim == 2:
        return "a full matrix, see metrics.json; the loss is log loss plus the expected cost."
    return ", ".join(f"{name} {cost:.4f}" for name, cost in zip(job.cells.classes, costs, strict=True)) + "."
