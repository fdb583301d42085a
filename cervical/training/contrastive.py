"""Supervised contrastive learning in two stages (paper III-C.3, thesis 3.3 and 5.3 c, Table III), and its control.

1. Encoder and projection head learn to put cells of one class close together: contrastive loss on random views of single images.
2. The encoder is frozen, the projection head dropped (or kept: the papers' figure 2), and a classifier learns on its output.
Control: the same encoder and classifier trained at once with plain cross-entropy. The authors ran it and did not publish it (facts 1.6).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np

from cervical.data import Part, channel_statistics, load_for_training, prepare, random_views
from cervical.experiments.contrastive import ContrastiveSettings
from cervical.losses import contrastive_loss
from cervical.models import add_projection, attach, build_contrastive_classifier, build_encoder, build_head
from cervical.training.stages import (
    Job,
    accuracy,
    baselines,
    batches,
    begin,
    compile_model,
    evaluation_batches,
    outputs,
    run_settings,
    short_run_note,
    train_stage,
    write_manifest,
)
from common import device
from common.data.pipeline import Batches
from common.runs.folder import Run, is_finished

# Of the method alone; the control knows none of them.
NOT_OF_THE_CONTROL = ("loss", "temperature", "margin", "encoder", "classifier", "classifier_views", "head_input", "projection")


def run_contrastive(settings: ContrastiveSettings) -> Path:
    """Both stages and, if asked for, the control. Returns the run folder."""
    job = begin("contrastive", settings)
    if isinstance(job, Run):
        return add_control(job, settings)
    statistics = channel_statistics(job.cells.train) if settings.pixels == "adapted" else None

    # All networks are built before any is trained, so that a resumed run draws the same initial weights as an unbroken one.
    encoder = build_encoder(settings.backbone, settings, settings.weights, statistics)
    projected = add_projection(encoder, settings.projection)
    source = projected if settings.head_input == "projection" else encoder
    head = build_head(source.output.shape[-1], settings, len(job.cells.classes))

    baselines(job, encoder)
    notes = train_encoder(job, projected)
    for layer in source.layers:
        layer.trainable = False
    classifier = attach(source, head, f"{settings.backbone}_contrastive_classifier")
    train_classifier(job, source, head, classifier)

    if settings.control:
        run_control(job, statistics)
        notes.append(control_note(settings))
    from cervical.training.outcome import conclude  # reports and figures: loaded when there is something to report

    conclude(job, classifier, f"Cervical cells: {settings.backbone}, contrastive ({settings.loss})", notes + unpublished(settings))
    return job.run.path


def train_encoder(job: Job, projected: keras.Model) -> list[str]:
    """Stage 1: contrastive loss on views. Returns notes for the report."""
    settings, stage = job.settings, job.settings.encoder
    train = batches(job.cells.train, settings, shuffle=True, augment=random_views, smallest=2)
    compile_model(projected, stage, contrastive_loss(settings.loss, settings.temperature, settings.margin))
    validation = mixed(job.cells.validation, settings) if stage.looks_at_validation and len(job.cells.validation.rows) else None
    history = train_stage(job, projected, "encoder", stage, train, validation)
    return short_run_note(history, train, stage)


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
    """The same network with plain cross-entropy in `control/`: the encoder's epochs, rate and views, no early end."""
    settings = job.settings
    known = {name: value for name, value in run_settings(settings, job.cells.dataset).items() if name not in NOT_OF_THE_CONTROL}
    run = job.run.subrun("control", {**known, "training": asdict(settings.control_stage)})
    if run.finished:
        return
    control = Job(run, settings, job.cells)
    device.configure(settings.seed, settings.precision, settings.devices)
    write_manifest(run, job.cells)
    encoder = build_encoder(settings.backbone, settings, settings.weights, statistics)
    model = build_contrastive_classifier(settings.backbone, settings, len(job.cells.classes), encoder)
    baselines(control, encoder)
    stage = settings.control_stage
    train = batches(job.cells.train, settings, shuffle=True, augment=random_views)
    compile_model(model, stage, keras.losses.SparseCategoricalCrossentropy(), [accuracy()])
    history = train_stage(control, model, "control", stage, train, evaluation_batches(job.cells.validation, settings))
    from cervical.training.outcome import conclude

    title = f"Cervical cells: {settings.backbone}, control (plain cross-entropy)"
    conclude(control, model, title, [*short_run_note(history, train, stage), *unpublished(settings)])


def add_control(run: Run, settings: ContrastiveSettings) -> Path:
    """Train the control of a finished run that was made without it, if it is asked for now."""
    if settings.control and not is_finished(run.path / "control"):
        job = Job(run, settings, prepare(load_for_training(settings), settings))
        run_control(job, channel_statistics(job.cells.train) if settings.pixels == "adapted" else None)
        from common.commands.report import ReportOptions
        from common.report.report import report_command

        report_command(ReportOptions(run=run.path))
    return run.path


def unpublished(settings: ContrastiveSettings) -> list[str]:
    """The authors' own control, which no document prints."""
    from cervical.paper import notebook

    found = notebook("control", settings.backbone)
    if found is None or settings.loss != "npairs":
        return []
    return [f"The authors' unpublished control with this network reached {found['accuracy']:.4f} ({found['source']})."]


def control_note(settings: ContrastiveSettings) -> str:
    """How the control was trained, beside the encoder."""
    control, encoder = settings.control_stage, settings.encoder
    rates = {"constant": "the same learning rate throughout", "cosine": "the same cosine of the learning rate"}
    rate = rates.get(control.schedule, "the same first learning rate and plateau rule")
    kept = {"best": "its best epoch on validation images", "last": "its last epoch"}
    return (
        f"The control is the same network trained at once with plain cross-entropy: as many epochs as the encoder and {rate}. "
        f"Of the control {kept[control.keep]} is kept, of the encoder {kept[encoder.keep]}."
    )


def mixed(part: Part, settings: ContrastiveSettings) -> Batches:
    """Validation batches for a contrastive loss: rows lie class by class, and a batch of one class has no negatives."""
    order = np.random.default_rng(settings.seed).permutation(part.rows)
    return batches(replace(part, rows=order), settings)
