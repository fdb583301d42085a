"""A new last layer on a frozen network: features once, then a classifier on classes made equal (Kang et al. 2020, cRT; SMOTE)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from common import device
from common.data.images import read_image, resize
from common.data.pipeline import Batches
from common.errors import UsageError
from common.metrics.classification import class_indices
from common.metrics.tail import part_scores
from common.report.predict import load_model
from common.report.report import write_model_card, write_report
from common.runs.finished import FoundRun
from common.runs.fitting import fit
from common.runs.folder import Run
from common.runs.outcome import write_metrics, write_predictions
from common.runs.reading import RunFolder, data_dir_of, run_files
from common.settings import recipe
from lmf.experiments.retrain import RetrainSettings
from lmf.losses import Crossentropy, log_priors
from lmf.models import shift_logits
from lmf.optimizer import MacroF1
from lmf.sampling import SampledBatches

CHUNK = 128


def retrain(settings: RetrainSettings) -> Path:
    """A run folder with the same network and another last layer (or shifted logits); returns its path.

    Raises:
        UsageError: the run is no finished `lmf train`, its images are gone, or a class has too few training images for SMOTE.
    """
    folder = RunFolder.existing(settings.run)
    source = FoundRun.of(folder.path)
    if source.study != "lmf" or source.experiment != "train":
        raise UsageError(f"{folder.path}: expected a run of `lmf train`, got one of {source.study} {source.experiment}")
    manifest = folder.read_table("manifest.csv", dtype=str, keep_default_na=False)
    classes: list[str] = list(source.config["classes"])
    root = data_dir_of(folder, settings.data_dir)
    chosen = {key: value for key, value in recipe(settings).items() if key != "backend"}
    run = Run.open(
        "lmf",
        "retrain",
        {**source.config["settings"], "retrain": chosen},
        run_dir=settings.run_dir,
        name_parts=(str(source.config.get("dataset")), str(source.value("loss")), settings.how, f"seed{source.seed}"),
        fingerprint=source.fingerprint,
        data_dir=root,
        log_to=settings.log,
    )
    if run.finished:
        return run.path
    device.configure(source.seed, "float32")
    run.write_csv("manifest.csv", manifest)
    model = load_model(folder)
    size, method = int(source.config["image_size"]), source.config.get("resize_filter") or "bilinear"
    features = features_of(model, run_files(folder, root, manifest["image"]), size, method)
    labels = class_indices(manifest["label"], classes).astype("int32")
    rows = {part: np.flatnonzero(manifest["split"] == part) for part in ("train", "validation", "test")}

    counts = np.bincount(labels[rows["train"]], minlength=len(classes)).tolist()
    last = model.get_layer("logits")
    head = keras.Sequential([keras.Input(features.shape[1:]), type(last).from_config(last.get_config())])
    if settings.how == "adjust":
        head.set_weights(last.get_weights())
        shift_logits(head, -settings.tau * log_priors(counts))
    else:
        train_head(head, run, settings, features, labels, rows, classes, source.seed)
    last.set_weights(head.get_weights())
    run.save_model(model)
    # The model ends in a softmax of float32 logits; so do these.
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(head.predict(features[rows["test"]], verbose=0)))
    table = write_predictions(run, manifest.iloc[rows["test"]], probabilities, classes)
    write_metrics(run, source.seed, extra=part_scores(table["label"], table["predicted"], classes, counts))
    title = f"{settings.how} on the frozen network of {source.name}"
    note = f"Only the last layer was trained, on features of {folder.path.name}; kept is the epoch with the best validation macro F1."
    if settings.how == "adjust":
        note = f"Nothing was trained: the log shares of the training classes times {settings.tau:g} were taken from the logits."
    write_report(run, title, notes=[note])
    write_model_card(run, title, limits=[note])
    run.finish()
    return run.path


def features_of(model: keras.Model, files: Sequence[Path], size: int, method: str) -> np.ndarray:
    """What the layer "logits" sees of each image: `(n, d)` float32."""
    inside = keras.Model(model.input, model.get_layer("logits").input)

    def batches() -> Iterator[np.ndarray]:
        for start in range(0, len(files), CHUNK):
            yield np.stack([resize(read_image(path), size, method) for path in files[start : start + CHUNK]]).astype("float32")

    return np.concatenate([np.asarray(inside.predict_on_batch(images), dtype="float32") for images in batches()])


def train_head(
    head: keras.Model,
    run: Run,
    settings: RetrainSettings,
    features: np.ndarray,
    labels: np.ndarray,
    rows: dict[str, np.ndarray],
    classes: Sequence[str],
    seed: int,
) -> None:
    """Train the layer features `(n, d)` -> logits with cross-entropy; kept is the epoch with the best validation macro F1."""
    head.compile(
        optimizer=keras.optimizers.Adam(settings.learning_rate),
        loss=Crossentropy(),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy"), MacroF1(len(classes))],
        jit_compile=device.jit_compile(),
    )
    fit(
        head,
        training_batches(settings, features, labels, rows["train"], classes, seed),
        run=run,
        stage="head",
        epochs=settings.epochs,
        validation=Batches(features, labels, rows=rows["validation"], batch_size=1024),
        monitor="val_macro_f1",
        mode="max",
        select="best",
        schedule=lambda epoch: settings.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs)),
    )


def training_batches(
    settings: RetrainSettings, features: np.ndarray, labels: np.ndarray, rows: np.ndarray, classes: Sequence[str], seed: int
) -> Batches:
    """The training features as `settings.how` makes them equal."""
    if settings.how == "smote":
        made, names = smote(features[rows], labels[rows], classes, seed)
        return Batches(made, names, batch_size=min(settings.batch_size, len(made)), seed=seed, shuffle=True)
    sampler = {"crt": "balanced", "oversample": "oversample", "undersample": "undersample"}[settings.how]
    options = {"rows": rows, "seed": seed, "sampler": sampler}
    return SampledBatches(features, labels, batch_size=min(settings.batch_size, len(rows)), **options)


def smote(features: np.ndarray, labels: np.ndarray, classes: Sequence[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and class numbers with new ones between neighbours of the rarer classes, until all have as many as the largest.

    Five neighbours, or as many as the rarest class has. UsageError for a class with one training image, which has no neighbour.
    """
    from imblearn.over_sampling import SMOTE

    counts = pd.Series(labels).value_counts()
    if counts.min() < 2:
        raise UsageError(f"--how smote: the class {classes[counts.idxmin()]} has one training image; expected at least 2 of each class")
    made, names = SMOTE(k_neighbors=min(5, int(counts.min()) - 1), random_state=seed).fit_resample(features, labels)
    return np.asarray(made, dtype="float32"), np.asarray(names, dtype="int32")
