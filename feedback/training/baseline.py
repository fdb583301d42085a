"""The base classifier ("Skin Care VGG16"), thesis section 3.2 and Table 3.1."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import keras
import numpy as np
import pandas as pd

from common import device
from common.backbones import RecomputeBatchnorm, batch_normalisations
from common.data.fingerprint import contents, fingerprint
from common.data.images import cached_images
from common.data.pipeline import Batches
from common.data.splits import leakage
from common.errors import UsageError
from common.metrics.classification import class_indices
from common.runs.baselines import write_baselines
from common.runs.fitting import fit
from common.runs.folder import Run
from common.runs.outcome import write_metrics, write_predictions
from common.settings import recipe
from feedback import data, paper, reporting
from feedback.augment import flips_and_rotations
from feedback.experiments import baseline
from feedback.experiments.baseline import BaselineSettings
from feedback.experiments.simulate import SimulateSettings
from feedback.models import build_classifier
from feedback.training.online import StopOnNaN

log = logging.getLogger(__name__)
SomeSettings = TypeVar("SomeSettings", bound=SimulateSettings)
# Below this many steps a momentum of 0.999 leaves the moving statistics near their start.
SHORT_RUN = 5000
RECOMPUTED_BATCHES = 20


def run_baseline(settings: BaselineSettings) -> Path:
    """`feedback baseline`: the base classifier from its images to its report; returns the run folder."""
    dataset = data.load(settings, "base", (settings.image_size, settings.resize_filter))
    classes = data.classes_of(dataset)
    manifest = data.split_rows(dataset.manifest, settings.split, settings.split_seed, keep_overlap_in_training=False)
    run = Run.open(
        "feedback",
        "baseline",
        {**recipe(settings, classes=classes, synthetic=dataset.synthetic, dataset=dataset.name), "seed": settings.seed},
        run_dir=settings.run_dir,
        name_parts=(dataset.name, settings.backbone, settings.reading, settings.split, f"seed{settings.seed}"),
        fingerprint=fingerprint(dataset),
        data_dir=dataset.data_dir,
        files=contents(dataset),
        log_to=settings.log,
    )
    if run.finished:
        return run.path
    device.configure(settings.seed, settings.precision, settings.devices)
    run.write_csv("manifest.csv", manifest[["image", "label", "group", "split"]])
    images = cached_images(dataset, settings.image_size, settings.resize_filter, settings.cache_dir, progress=True)
    labels = class_indices(manifest["label"], classes)
    weights = class_weights(settings.class_weights, manifest, classes)
    model = build_classifier(
        settings.backbone, settings.image_size, len(classes),
        weights=settings.weights, head=settings.head, units=settings.head_units, dropout=settings.dropout,
    )  # fmt: skip
    freeze_through(model, settings.frozen_until)
    write_baselines(run, model, images, labels, manifest, classes, settings.seed)
    history = _train_base(run, model, images, labels, manifest, weights, settings)
    run.save_model(model)
    rows = np.flatnonzero(manifest["split"] == "test")
    probabilities = model.predict(Batches(images, rows=rows, batch_size=64), verbose=0)
    write_predictions(run, manifest.iloc[rows], probabilities, classes)
    shared = {part: found["fraction"] for part, found in leakage(manifest).items()}
    extra = {
        "class_weights": dict(zip(classes, map(float, weights), strict=True)), "left_out": dataset.left_out, "shared_lesions": shared,
        "training_accuracy": float(history.loc[history["val_accuracy"].idxmax(), "accuracy"]),
    }  # fmt: skip
    write_metrics(run, settings.seed, extra=extra)
    reporting.baseline_report(run)
    run.finish()
    return run.path


def with_base(settings: SomeSettings) -> SomeSettings:
    """The settings of a simulation with its base: on the sample its own one, trained now when it is missing."""
    return settings if settings.base is not None else replace(settings, base=sample_base(settings.reading, settings.cache_dir))


def sample_base(reading: str, cache_dir: Path) -> Path:
    """Run folder of the sample's own base classifier, trained now when it is missing."""
    log.info("the sample's base classifier is used")
    return run_baseline(replace(baseline.default(reading, "sample"), cache_dir=cache_dir))


def _train_base(
    run: Run, model: keras.Model, images: np.ndarray, labels: np.ndarray, manifest: pd.DataFrame, weights: np.ndarray,
    settings: BaselineSettings,
) -> pd.DataFrame:  # fmt: skip
    optimizer = (
        keras.optimizers.Adam(settings.learning_rate)
        if settings.optimizer == "adam"
        else keras.optimizers.SGD(settings.learning_rate, momentum=0.9)
    )
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=device.jit_compile())
    augment = flips_and_rotations(settings.flip, settings.rotations) if settings.flip or settings.rotations > 1 else None
    rows = np.flatnonzero(manifest["split"] == "train")
    batches = Batches(
        images, labels, batch_size=min(settings.batch_size, len(rows)), seed=settings.seed, shuffle=True, augment=augment, rows=rows,
        sample_weights=weights[labels].astype("float32"), drop_remainder=True,
    )  # fmt: skip
    validation = np.flatnonzero(manifest["split"] == "validation")
    # MobileNetV2's momentum of 0.999 lags so far behind in a short run that validation would judge, and choose, another model than the
    # one that is trained.
    short = len(batches) * settings.epochs < SHORT_RUN and any(layer.momentum > 0.99 for layer in batch_normalisations(model))
    first = range(min(len(batches), RECOMPUTED_BATCHES))
    recomputed = RecomputeBatchnorm(lambda: (batches[index] for index in first), lambda _: short)
    return fit(
        model, batches, run=run, stage="base", epochs=settings.epochs,
        validation=Batches(images, labels, batch_size=64, rows=validation),
        monitor="val_accuracy", mode="max", select="best",
        extra_callbacks=[StopOnNaN(run), recomputed],
    )  # fmt: skip


def freeze_through(model: keras.Model, name: str) -> None:
    """Freeze all layers up to and with `name`; "" freezes none. UsageError for a layer that is not there."""
    names = [layer.name for layer in model.layers]
    if name and name not in names:
        raise UsageError(f"--frozen-until {name}: no such layer; expected one such as {', '.join(names[3:20:4])}")
    for layer in model.layers[: names.index(name) + 1 if name else 0]:
        layer.trainable = False


def class_weights(kind: str, manifest: pd.DataFrame, classes: tuple[str, ...]) -> np.ndarray:
    """`(classes,)` float64 weights of the classification loss.

    "inverse": n / (K n_c) over the K classes with training images, 0 for a class without any. "printed": Table 3.1's numbers (the
    frequencies, which sum to 1). "none": ones.
    """
    counts = np.array(list(data.class_counts(manifest.loc[manifest["split"] == "train", "label"], classes).values()), float)
    if kind == "none":
        return np.ones(len(classes))
    if kind == "printed":
        printed = paper.printed_class_weights()
        missing = [name for name in classes if name not in printed]
        if missing:
            raise UsageError(f"--class-weights printed: the thesis prints none for {missing[0]}; expected inverse or none")
        return np.array([printed[name] for name in classes])
    filled = counts > 0
    return np.where(filled, counts.sum() / (filled.sum() * np.where(filled, counts, 1)), 0.0)
