"""Fine-tuning (paper III-C.1, Table I)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np

from cervical.data import free_views, soft_labels
from cervical.experiments.finetune import FinetuneSettings
from cervical.models import build_classifier
from cervical.training.outcome import conclude
from cervical.training.stages import (
    Job,
    accuracy,
    baselines,
    batches,
    begin,
    compile_model,
    evaluation_batches,
    short_run_note,
    train_stage,
)
from common.data.pipeline import Augment
from common.runs.folder import Run


def run_finetune(settings: FinetuneSettings) -> Path:
    """Fine-tune one network: first layers frozen, new head, cross-entropy. Returns the run folder."""
    job = begin("finetune", settings)
    if isinstance(job, Run):
        return job.path
    model = build_classifier(settings.backbone, settings, len(job.cells.classes), settings.weights)
    baselines(job, model)
    notes = fit_classifier(job, model, keras.losses.SparseCategoricalCrossentropy())
    conclude(job, model, f"Cervical cells: {settings.backbone} fine-tuned", notes)
    return job.run.path


def fit_classifier(job: Job, model: keras.Model, loss: keras.losses.Loss) -> list[str]:
    """One stage of training on all images and copies; views on the fly only where asked for (facts 1.3). Returns notes for the report."""
    settings, validation, metric = job.settings, job.cells.validation, accuracy()
    augment: Augment | None = free_views if settings.views else None
    if settings.label_smoothing or settings.mixup:
        classes = len(job.cells.classes)
        augment = partial(soft_labels, classes=classes, views=augment, smoothing=settings.label_smoothing, mixup=settings.mixup)
        loss, metric = keras.losses.CategoricalCrossentropy(), keras.metrics.CategoricalAccuracy(name="accuracy")
        validation = replace(validation, labels=np.eye(classes, dtype="float32")[validation.labels])
    train = batches(job.cells.train, settings, shuffle=True, augment=augment)
    compile_model(model, settings.training, loss, [metric])
    history = train_stage(job, model, "training", settings.training, train, evaluation_batches(validation, settings))
    notes = short_run_note(history, train, settings.training)
    frozen = sum(not layer.trainable for layer in model.get_layer(index=2).layers)
    if "body" not in settings.unused():
        notes.append(f"The network's body is {settings.body}" + (" as in the authors' code." if settings.body == "truncated" else "."))
    if settings.weights != "none":
        notes.append(f"Starting weights {Path(settings.weights).name}; {frozen} of the network's layers were not trained.")
    if settings.views:
        notes.append("Images were newly flipped, turned and scaled in every epoch (--views), which neither document does.")
    if settings.label_smoothing or settings.mixup:
        notes.append(f"Labels smoothed by {settings.label_smoothing:g}, pairs mixed with alpha {settings.mixup:g}; of no document.")
    return notes
