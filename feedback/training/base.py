"""The base classifier ("Skin Care VGG16"), thesis section 3.2 and Table 3.1."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd

from common import device
from common.backbones import all_layers, recompute_batchnorm
from common.data.images import cached_images
from common.data.manifest import fingerprint
from common.data.pipeline import Batches
from common.data.splits import leakage
from common.errors import UsageError
from common.metrics.outcome import write_metrics, write_predictions
from common.runs import Run, fit
from feedback import data, paper, reporting
from feedback.augment import flips_and_rotations
from feedback.config import BaselineOptions, BaseSettings, as_dict, base_settings
from feedback.models import build_classifier
from feedback.training.online import StopOnNaN
from feedback.training.stage import numbers, rows_of, tensorboard

# Below this many steps a momentum of 0.999 leaves the moving statistics near their start.
SHORT_RUN = 5000


def run_baseline(options: BaselineOptions) -> Path:
    """`feedback baseline`: the base classifier from its images to its report; returns the run folder."""
    settings = base_settings(options)
    dataset = data.load(options, "base", (settings.image_size, settings.resize_filter))
    classes = data.classes_of(dataset)
    manifest = data.split_rows(dataset.manifest, settings.split, options.seed, keep_overlap_in_training=False)
    run = Run.open(
        "feedback",
        "baseline",
        {
            **as_dict(settings),
            "reading": options.reading,
            "dataset": dataset.name,
            "synthetic": dataset.synthetic,
            "classes": classes,
            "seed": options.seed,
            "limit": options.limit,
            "precision": options.precision,
            "images": len(manifest),
        },  # fmt: skip
        run_dir=options.run_dir,
        name_parts=(dataset.name, settings.backbone, options.reading, settings.split, f"seed{options.seed}"),
        fingerprint=fingerprint(dataset),
        data_dir=dataset.data_dir,
    )
    if run.finished:
        return run.path
    device.configure(options.seed, options.precision)
    run.write_csv("manifest.csv", manifest[["image", "label", "group", "split"]])
    images = cached_images(dataset, settings.image_size, settings.resize_filter, options.cache_dir, progress=True)
    labels = numbers(manifest["label"], classes)
    weights = class_weights(settings.class_weights, manifest, classes)
    model = build_classifier(
        settings.backbone, settings.image_size, len(classes),
        weights=settings.weights, head=settings.head, units=settings.units, dropout=settings.dropout,
    )  # fmt: skip
    _train_base(run, model, images, labels, manifest, weights, settings, options)
    run.save_model(model)
    rows = rows_of(manifest, "test")
    probabilities = model.predict(Batches(images, rows=rows, batch_size=64), verbose=0)
    write_predictions(run, manifest.iloc[rows], probabilities, classes)
    shared = {part: found["fraction"] for part, found in leakage(manifest).items()}
    extra = {"class_weights": dict(zip(classes, map(float, weights), strict=True)), "left_out": dataset.left_out, "shared_lesions": shared}
    extra["sensitivity"] = spread_of_sensitivity(labels[rows], probabilities, classes)
    write_metrics(run, options.seed, extra=extra)
    reporting.baseline_report(run, settings, classes)
    run.finish()
    return run.path


def _train_base(
    run: Run, model: keras.Model, images: np.ndarray, labels: np.ndarray, manifest: pd.DataFrame, weights: np.ndarray,
    settings: BaseSettings, options: BaselineOptions,
) -> None:  # fmt: skip
    optimizer = (
        keras.optimizers.Adam(settings.learning_rate)
        if settings.optimizer == "adam"
        else keras.optimizers.SGD(settings.learning_rate, momentum=0.9)
    )
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=device.jit_compile())
    augment = flips_and_rotations(settings.flip, settings.rotations) if settings.flip or settings.rotations > 1 else None
    rows = rows_of(manifest, "train")
    batches = Batches(
        images, labels, batch_size=min(settings.batch_size, len(rows)), seed=options.seed, shuffle=True, augment=augment, rows=rows,
        sample_weights=weights[labels].astype("float32"), drop_remainder=True,
    )  # fmt: skip
    fit(
        model, batches, run=run, stage="base", epochs=settings.epochs,
        validation=Batches(images, labels, batch_size=64, rows=rows_of(manifest, "validation")),
        monitor="val_accuracy", mode="max", select="last" if _from_scratch_and_short(model, settings, len(batches)) else "best",
        extra_callbacks=[StopOnNaN(run), *tensorboard(run, options)],
    )  # fmt: skip
    if len(batches) * settings.epochs < SHORT_RUN:
        # A process that finds the stage complete has drawn no epoch: the order and the augmentation must not depend on that.
        batches.epoch = settings.epochs
        recompute_batchnorm(model, (batches[index] for index in range(len(batches))))


def _from_scratch_and_short(model: keras.Model, settings: BaseSettings, steps: int) -> bool:
    """Whether validation during training means nothing, because moving statistics lag behind (MobileNetV2, momentum 0.999)."""
    slow = any(getattr(layer, "momentum", 0.0) > 0.99 for layer in all_layers(model))
    return slow and settings.weights == "none" and steps * settings.epochs < SHORT_RUN


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


def spread_of_sensitivity(labels: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]) -> dict[str, float]:
    """Sensitivity of each class that occurs, and `average` over them (Table 5.3, row 1)."""
    predicted = probabilities.argmax(axis=1)
    found = {name: float((predicted[labels == k] == k).mean()) for k, name in enumerate(classes) if (labels == k).any()}
    return {**found, "average": float(np.mean(list(found.values())))}
