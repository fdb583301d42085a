"""The procedure of the LMF paper ("Training parameters"): one network, one loss, one data set; then its test.

`train` and `train_run` read top to bottom: data, split, network, loss, optimizer, fit, test.
"""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np
import pandas as pd

from common import device
from common.commands.report import ReportOptions
from common.data.dataset import Dataset, class_names
from common.data.fingerprint import contents, fingerprint
from common.data.images import cached_images
from common.data.pipeline import Batches
from common.data.splits import leakage
from common.metrics.classification import macro_f1
from common.metrics.tail import part_scores
from common.report.report import Printed, report_command, write_model_card, write_report
from common.runs.baselines import write_baselines
from common.runs.fitting import fit
from common.runs.folder import Run
from common.runs.outcome import write_metrics, write_predictions
from common.settings import recipe
from lmf import data, paper
from lmf.experiments.train import LOSS_SETTINGS, TrainSettings
from lmf.losses import ImbalanceLoss, build_loss, deferred_weights, log_priors
from lmf.models import build_classifier, shift_logits, with_logits
from lmf.optimizer import CoupledAdam, MacroF1
from lmf.sampling import SampledBatches

log = logging.getLogger(__name__)
PREDICT_BATCH = 128
_SHARES = {False: "in the classes' own shares", True: "as many of each class as there are, so the imbalance is not the data set's"}


def train(settings: TrainSettings) -> Run:
    """`lmf train`: one run from its settings to its report; what is finished is left as it is."""
    settings = settings.settled()
    dataset = data.load(settings, (settings.image_size, settings.resize_filter))
    manifest = data.split(dataset.manifest, settings.split, settings.split_seed)
    run = open_run(settings, dataset, manifest)
    if settings.control and not settings.plain():
        plain = settings.control_settings()
        control = run.subrun("control", identity(plain, dataset, manifest))
        if not control.finished:
            log.info("control run: the same network with plain cross-entropy")
            train_run(control, plain, dataset, manifest)
            if run.finished:  # without it, the first time
                report_command(ReportOptions(run=run.path))
    if not run.finished:
        train_run(run, settings, dataset, manifest)
    return run


def identity(settings: TrainSettings, dataset: Dataset, manifest: pd.DataFrame) -> dict[str, Any]:
    """The recipe, what is known of the data, and the seed: what a run is known by."""
    classes = class_names(manifest)
    counts = data.train_counts(manifest, classes)
    known = {"synthetic": dataset.synthetic, "classes": classes, "class_counts": counts}
    return {**recipe(settings, **known), "seed": settings.seed}


def name_parts(settings: TrainSettings) -> tuple[str, ...]:
    """The readable beginning of the run folder's name."""
    network = settings.network.stem if settings.network else settings.backbone
    numbers = f"-a{settings.alpha:g}-b{settings.beta:g}" if settings.loss == "lmf" else ""
    loss = f"{settings.loss}{numbers}"
    return (data.name_of(settings), network, settings.split, settings.reading, loss, f"seed{settings.seed}")


def open_run(settings: TrainSettings, dataset: Dataset, manifest: pd.DataFrame) -> Run:
    """The run's folder: a new one, or the one with these settings and these data."""
    return Run.open(
        "lmf",
        "train",
        identity(settings, dataset, manifest),
        run_dir=settings.run_dir,
        name_parts=name_parts(settings),
        fingerprint=fingerprint(dataset, masks=False),
        data_dir=dataset.data_dir,
        files=contents(dataset, masks=False),
        log_to=settings.log,
    )


def train_run(run: Run, settings: TrainSettings, dataset: Dataset, manifest: pd.DataFrame) -> None:
    """Fill one opened run folder: train, test, report."""
    device.configure(settings.seed, settings.precision, settings.devices)
    masks = [name for name in manifest.columns if str(name).startswith("mask_")]  # `explain` measures the maps against them
    run.write_csv("manifest.csv", manifest[["image", "label", "group", "split", *masks]])
    classes = class_names(manifest)
    labels = manifest["label"].map({name: index for index, name in enumerate(classes)}).to_numpy(dtype="int32")
    images = cached_images(dataset, settings.image_size, settings.resize_filter, settings.cache_dir, progress=True)
    rows = {part: np.flatnonzero(manifest["split"] == part) for part in ("train", "validation", "test")}

    model = build_classifier(
        settings.backbone,
        len(classes),
        settings.image_size,
        settings.weights,
        settings.backbone if settings.preprocessing == "backbone" else settings.preprocessing,
        0.0 if "dropout" in settings.unused() else settings.dropout,
        settings.batchnorm_momentum,
        settings.network,
        settings.head,
        settings.head_scale,
    )
    write_baselines(run, model, images, labels, manifest, classes, settings.seed)
    counts = data.train_counts(manifest, classes)
    trained = with_logits(model)
    trained.compile(
        optimizer=CoupledAdam(settings.learning_rate, l2=settings.weight_decay),
        loss=loss_of(settings, counts),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy"), MacroF1(len(classes))],
        jit_compile=device.jit_compile(),
    )
    deferred = settings.deferred_share < 1
    batches = SampledBatches(
        images,
        labels,
        rows=rows["train"],
        sampler=settings.sampler,
        class_weights=deferred_weights(counts, settings.epochs, settings.deferred_share, settings.deferred_beta) if deferred else None,
        batch_size=settings.batch_size,
        seed=settings.seed,
        # A last batch of another size would compile the whole training step a second time on JAX.
        drop_remainder=len(rows["train"]) >= settings.batch_size and settings.sampler != "undersample",
    )
    held = Batches(images, labels, rows=rows["validation"], batch_size=PREDICT_BATCH)
    history = fit(
        trained,
        batches,
        run=run,
        stage="training",
        epochs=settings.epochs,
        validation=held,
        monitor="val_macro_f1",
        mode="max",
        select="best",
        schedule=settings.learning_rate_at,
    )
    best = history.loc[history["val_macro_f1"].idxmax()]
    validation_f1 = float(best["val_macro_f1"])
    if settings.adjust_tau:
        shift_logits(model, -settings.adjust_tau * log_priors(counts))
        validation_f1 = macro_f1(labels[rows["validation"]], model.predict(held, verbose=0).argmax(axis=1), len(classes))
    run.save_model(model)
    probabilities = model.predict(Batches(images, rows=rows["test"], batch_size=PREDICT_BATCH), verbose=0)
    predictions = write_predictions(run, manifest.iloc[rows["test"]], probabilities, classes)
    extra = {
        **part_scores(predictions["label"], predictions["predicted"], classes, counts),
        "validation_macro_f1": validation_f1,
        "selected_epoch": int(best["epoch"]),
        "shared_with_training": {
            part: found["fraction"] if data.groups_known(manifest) else None for part, found in leakage(manifest).items()
        },
        "images_per_class": manifest["label"].value_counts().sort_index().to_dict(),
        "images_per_split": manifest["split"].value_counts().to_dict(),
    }
    write_metrics(run, settings.seed, extra=extra)
    report(run, settings, manifest, dataset)
    run.finish()


def loss_of(settings: TrainSettings, class_counts: list[int]) -> ImbalanceLoss:
    """The loss with the settings that it has."""
    chosen = {name: getattr(settings, name) for name in LOSS_SETTINGS.get(settings.loss, ())}
    if "effective_beta" in chosen:
        chosen["beta"] = chosen.pop("effective_beta")
    if "scale" in chosen and settings.head == "cosine":
        chosen |= {"scale": 1.0, "head_scale": settings.head_scale}
    return build_loss(settings.loss, class_counts, settings.loss_reading, **chosen)


def report(run: Run, settings: TrainSettings, manifest: pd.DataFrame, dataset: Dataset) -> None:
    """report.md and model_card.md, with the printed numbers of the cell where this run is the paper's."""
    loss = f"{paper.LOSS_TITLES[settings.loss]} loss{paper.remedies(run.settings)}"
    title = f"{loss}, {run.settings.get('backbone', 'own network')} on {dataset.name}"
    notes = [
        f"Selected: epoch with the best validation macro F1, out of {settings.epochs} (the paper trains 100).",
        leakage_sentence(manifest),
    ]
    if settings.limit is not None:
        notes.append(f"Only {len(manifest)} images were used (--limit), {_SHARES[settings.balanced_limit]}.")
    write_report(run, title, printed_numbers(run.settings), notes)
    write_model_card(run, title, limits=[notes[1]])


def leakage_sentence(manifest: pd.DataFrame) -> str:
    """How many test images have a lesion or patient in the training part; that it is unknown where the data name none."""
    if not data.groups_known(manifest):
        return "The data name no lesions or patients; leakage unknown: test images may share theirs with training images."
    found = leakage(manifest)["test"]
    return f"{found['shared']} of {found['images']} test images share their lesion or patient with a training image."


def printed_numbers(recipe: dict[str, Any]) -> dict[str, Printed]:
    """Tables 2 to 5 for this cell, as shares; empty where the paper printed nothing for these data, classes, split, size and network."""
    dataset, backbone, loss = recipe["dataset"], recipe.get("backbone", ""), recipe["loss"]
    printed = paper.printed_scores(dataset, backbone, loss)
    if not printed or paper.differs(recipe):
        return {}
    for name in recipe["classes"]:
        value = paper.class_f1(dataset, backbone, loss, name)
        if value is not None:
            printed[f"per_class.{name}.f1"] = Printed(value / 100, "paper, Table 5")
    return printed
