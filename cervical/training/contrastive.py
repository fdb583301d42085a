"""Supervised contrastive learning in two stages (paper III-C.3, thesis 3.3 and 5.3 c, Table III), and its control.

1. Encoder and projection head learn to put cells of one class close together: contrastive loss on random views of single images.
2. The encoder is frozen, the projection head dropped (or kept: the papers' figure 2), and a classifier learns on its output.
Control: the same encoder and classifier trained at once with plain cross-entropy. The authors ran it and did not publish it (facts 1.6).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from cervical.config import ContrastiveOptions, Settings, control_stage
from cervical.data import Part, channel_statistics, random_views
from cervical.losses import contrastive_loss
from cervical.models import add_projection, attach, build_contrastive_classifier, build_encoder, build_head
from cervical.paper import notebook
from cervical.training.stages import (
    Job,
    accuracy,
    batches,
    begin,
    compile_model,
    conclude,
    evaluation_batches,
    identity,
    nothing_half_written,
    outputs,
    short_run_note,
    train_stage,
    weights_file,
    write_manifest,
)
from common import device
from common.data.pipeline import Batches
from common.runs import Run

log = logging.getLogger(__name__)


def run_contrastive(options: ContrastiveOptions) -> Path:
    """Both stages and, if asked for, the control. Returns the run folder."""
    job = begin("contrastive", options)
    if isinstance(job, Run):
        return job.path
    settings = job.settings
    statistics = channel_statistics(job.cells.train) if settings.contrastive_pixels == "adapted" else None

    # All networks are built before any is trained, so that a resumed run draws the same initial weights as an unbroken one.
    with nothing_half_written(job.run):
        encoder = build_encoder(settings.backbone, settings, job.weights, statistics)
    projected = add_projection(encoder)
    source = projected if settings.head_input == "projection" else encoder
    head = build_head(source.output.shape[-1], settings, len(job.cells.classes))

    notes = train_encoder(job, projected)
    for layer in source.layers:
        layer.trainable = False
    classifier = attach(source, head, f"{settings.backbone}_contrastive_classifier")
    train_classifier(job, source, head, classifier)

    if settings.control:
        run_control(job, statistics)
        notes.append(_control_note(settings))
    conclude(job, classifier, f"Cervical cells: {settings.backbone}, contrastive ({settings.loss})", notes + unpublished(settings))
    return job.run.path


def train_encoder(job: Job, projected: keras.Model) -> list[str]:
    """Stage 1: contrastive loss on views. Returns notes for the report."""
    settings = job.settings
    train = batches(job.cells.train, settings, shuffle=True, augment=random_views)
    compile_model(projected, settings.encoder, contrastive_loss(settings.loss, settings.temperature, settings.margin))
    chosen = settings.encoder.monitor is not None and len(job.cells.validation.rows)
    validation = _mixed(job.cells.validation, settings) if chosen else None
    history = train_stage(job, projected, "encoder", settings.encoder, train, validation)
    return short_run_note(history, train, settings.encoder)


def train_classifier(job: Job, source: keras.Model, head: keras.Model, classifier: keras.Model) -> None:
    """Stage 2: cross-entropy on the frozen encoder. Without random views the features are computed once, not once an epoch."""
    settings, stage = job.settings, job.settings.classifier
    loss = keras.losses.SparseCategoricalCrossentropy()
    if settings.classifier_views:
        compile_model(classifier, stage, loss, [accuracy()])
        train = batches(job.cells.train, settings, shuffle=True, augment=random_views)
        train_stage(job, classifier, "classifier", stage, train, evaluation_batches(job.cells.validation, settings))
        return
    train = batches(features(source, job.cells.train), settings, shuffle=True)
    validation = evaluation_batches(features(source, job.cells.validation), settings)
    compile_model(head, stage, loss, [accuracy()])
    train_stage(job, head, "classifier", stage, train, validation)


def features(encoder: keras.Model, part: Part) -> Part:
    """The part's images replaced by the encoder's output `(n, d)` float32, in the order of its rows."""
    found = outputs(encoder, part).astype("float32")
    return Part(found, part.labels[part.rows], np.arange(len(found)))


def run_control(job: Job, statistics: tuple[np.ndarray, np.ndarray] | None) -> None:
    """The same network with plain cross-entropy in `control/`: the encoder's epochs, rate and views, no early end (`control_stage`)."""
    settings = job.settings
    run = job.run.subrun("control", identity("contrastive-control", settings, job.options, job.cells.dataset), weights_file(settings))
    if run.finished:
        return
    control = Job("control", run, settings, job.options, job.cells)
    device.configure(settings.seed, job.options.precision)
    write_manifest(run, job.cells)
    encoder = build_encoder(settings.backbone, settings, job.weights, statistics)
    model = build_contrastive_classifier(settings.backbone, settings, len(job.cells.classes), encoder)
    stage = control_stage(settings)
    train = batches(job.cells.train, settings, shuffle=True, augment=random_views)
    compile_model(model, stage, keras.losses.SparseCategoricalCrossentropy(), [accuracy()])
    history = train_stage(control, model, "control", stage, train, evaluation_batches(job.cells.validation, settings))
    conclude(control, model, f"Cervical cells: {settings.backbone}, control (plain cross-entropy)", short_run_note(history, train, stage))


def unpublished(settings: Settings) -> list[str]:
    """The authors' own control, which no document prints."""
    found = notebook("control", settings.backbone)
    if found is None or settings.loss != "npairs":
        return []
    return [f"The authors' unpublished control with this network reached {found['accuracy']:.4f} ({found['source']})."]


def _control_note(settings: Settings) -> str:
    control, encoder = control_stage(settings), settings.encoder
    rate = "the same learning rate throughout" if control.schedule == "constant" else "the same first learning rate and plateau rule"
    kept = {True: "its best epoch on validation images", False: "its last epoch"}
    own = kept[control.keep == "best" and control.monitor is not None]
    theirs = kept[encoder.keep == "best" and encoder.monitor is not None]
    return (
        f"The control is the same network trained at once with plain cross-entropy: as many epochs as the encoder and {rate}. "
        f"Of the control {own} is kept, of the encoder {theirs}."
    )


def _mixed(part: Part, settings: Settings) -> Batches:
    """Validation batches for a contrastive loss: rows lie class by class, and a batch of one class has no negatives."""
    order = np.random.default_rng(settings.seed).permutation(part.rows)
    return batches(replace(part, rows=order), settings)
