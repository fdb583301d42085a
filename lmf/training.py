"""The procedure of the LMF paper ("Training parameters"): one network, one loss, one data set; then its test.

`train` and `train_run` read top to bottom: data, split, network, loss, optimizer, fit, test.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from common import device
from common.data.images import cached_images
from common.data.manifest import Dataset, class_names, fingerprint
from common.data.pipeline import Batches
from common.data.splits import leakage
from common.metrics.outcome import write_metrics, write_predictions
from common.report.report import Printed, write_model_card, write_report
from common.runs import Run, fit
from common.runs.folder import RUNS
from lmf import data, paper
from lmf.config import Settings, TrainLossOptions, initial_weights, run_name, settings_of, weights_of, with_control
from lmf.losses import ImbalanceLoss, build_loss
from lmf.models import build_classifier, with_logits
from lmf.optimizer import CoupledAdam, MacroF1

log = logging.getLogger(__name__)
PREDICT_BATCH = 128


def train_command(options: TrainLossOptions) -> None:
    """`lmf train`."""
    train(options)


def train(options: TrainLossOptions) -> Run:
    """One run from its options to its report; a finished run is left as it is."""
    settings = settings_of(options)
    dataset = data.load(options, (settings.image_size, settings.resize_filter))
    manifest = data.split(dataset.manifest, settings.split, settings.seed)
    classes = class_names(manifest)
    run = Run.open(
        "lmf",
        "train",
        {**settings.as_dict(), "classes": classes, "class_counts": data.train_counts(manifest, classes)},
        run_dir=options.run_dir or default_run_dir(options),
        fingerprint=fingerprint(dataset),
        data_dir=dataset.data_dir,
        weights_file=initial_weights(options),
    )
    if run.finished:
        return run
    if with_control(options):
        plain = replace(settings, loss="cce", alpha=None, beta=None)
        control = run.subrun("control", {**run.settings, **plain.as_dict()}, initial_weights(options))
        if not control.finished:
            log.info("control run: the same network with plain cross-entropy")
            train_run(control, plain, options, dataset, manifest)
    train_run(run, settings, options, dataset, manifest)
    return run


def default_run_dir(options: TrainLossOptions) -> Path:
    """`runs/lmf/train/<name>`, the same for `train` and for a grid's cell."""
    return RUNS / "lmf" / "train" / run_name(options)


def train_run(run: Run, settings: Settings, options: TrainLossOptions, dataset: Dataset, manifest: pd.DataFrame) -> None:
    """Fill one opened run folder: train, test, report."""
    device.configure(settings.seed, settings.precision)
    masks = [name for name in manifest.columns if str(name).startswith("mask_")]  # `explain` measures the maps against them
    run.write_csv("manifest.csv", manifest[["image", "label", "group", "split", *masks]])
    classes = class_names(manifest)
    labels = manifest["label"].map({name: index for index, name in enumerate(classes)}).to_numpy(dtype="int32")
    images = cached_images(dataset, settings.image_size, settings.resize_filter, options.cache_dir, progress=True)
    rows = {part: np.flatnonzero(manifest["split"] == part) for part in ("train", "validation", "test")}

    model = build_classifier(
        settings.backbone,
        len(classes),
        settings.image_size,
        weights_of(options),
        settings.preprocessing,
        settings.dropout,
        settings.batchnorm_momentum,
        options.network,
    )
    trained = with_logits(model)
    trained.compile(
        optimizer=CoupledAdam(settings.learning_rate, l2=settings.weight_decay),
        loss=loss_of(settings, data.train_counts(manifest, classes)),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy"), MacroF1(len(classes))],
        jit_compile=device.jit_compile(),
    )
    batches = Batches(
        images,
        labels,
        rows=rows["train"],
        batch_size=settings.batch_size,
        seed=settings.seed,
        shuffle=True,
        # A last batch of another size would compile the whole training step a second time on JAX.
        drop_remainder=len(rows["train"]) >= settings.batch_size,
    )
    history = fit(
        trained,
        batches,
        run=run,
        stage="training",
        epochs=settings.epochs,
        validation=Batches(images, labels, rows=rows["validation"], batch_size=PREDICT_BATCH),
        monitor="val_macro_f1",
        mode="max",
        select="best",
        schedule=lambda epoch: settings.learning_rate * settings.decay_factor ** (epoch // settings.decay_every),
        extra_callbacks=tensorboard(run, options),
    )
    run.save_model(model)
    probabilities = model.predict(Batches(images, rows=rows["test"], batch_size=PREDICT_BATCH), verbose=0)
    write_predictions(run, manifest.iloc[rows["test"]], probabilities, classes)
    best = history.loc[history["val_macro_f1"].idxmax()]
    extra = {
        "validation_macro_f1": float(best["val_macro_f1"]),
        "selected_epoch": int(best["epoch"]),
        "shared_with_training": {
            part: found["fraction"] if data.groups_known(manifest) else None for part, found in leakage(manifest).items()
        },
        "images_per_class": manifest["label"].value_counts().sort_index().to_dict(),
        "images_per_split": manifest["split"].value_counts().to_dict(),
    }
    write_metrics(run, settings.seed, extra=extra)
    report(run, settings, manifest)
    run.finish()


def loss_of(settings: Settings, class_counts: list[int]) -> ImbalanceLoss:
    """The loss with the settings that it has."""
    chosen: dict[str, Any] = {}
    if settings.loss in ("focal", "lmf"):
        chosen |= {"gamma": settings.gamma}
    if settings.loss in ("focal", "ldam", "lmf"):
        chosen |= {"max_margin": settings.max_margin}
    if settings.loss == "lmf":
        chosen |= {"alpha": settings.alpha, "beta": settings.beta}
    return build_loss(settings.loss, class_counts, settings.losses, **chosen)


def report(run: Run, settings: Settings, manifest: pd.DataFrame) -> None:
    """report.md and model_card.md, with the printed numbers of the cell where the paper has it."""
    title = f"{paper.LOSS_TITLES[settings.loss]} loss, {settings.backbone} on {settings.dataset}"
    notes = [
        f"Selected: epoch with the best validation macro F1, out of {settings.epochs} (the paper trains 100).",
        leakage_sentence(manifest),
    ]
    write_report(run, title, printed_numbers(settings, tuple(sorted(set(manifest["label"])))), notes)
    write_model_card(run, title, limits=[notes[1]])


def leakage_sentence(manifest: pd.DataFrame) -> str:
    """How many test images have a lesion or patient in the training part; that it is unknown where the data name none."""
    if not data.groups_known(manifest):
        return "The data name no lesions or patients; leakage unknown: test images may share theirs with training images."
    found = leakage(manifest)["test"]
    return f"{found['shared']} of {found['images']} test images share their lesion or patient with a training image."


def printed_numbers(settings: Settings, classes: tuple[str, ...]) -> dict[str, Printed]:
    """Tables 2 to 5 for this cell, as shares; empty where the paper printed nothing."""
    cell = paper.scores(settings.dataset, settings.backbone, settings.loss)
    if cell is None:
        return {}
    row, table = cell
    names = {"accuracy": "accuracy", "precision": "macro_precision", "recall": "macro_recall", "macro_f1": "macro_f1"}
    printed = {names[score]: Printed(value / 100, f"paper, {table}") for score, value in row.items()}
    for name in classes:
        value = paper.class_f1(settings.dataset, settings.backbone, settings.loss, name)
        if value is not None:
            printed[f"per_class.{name}.f1"] = Printed(value / 100, "paper, Table 5")
    return printed


def tensorboard(run: Run, options: TrainLossOptions) -> list[keras.callbacks.Callback]:
    """The TensorBoard callback when it is asked for."""
    return [keras.callbacks.TensorBoard(run.path / "tensorboard")] if options.tensorboard else []
