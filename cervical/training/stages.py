"""What every procedure does alike: open the run folder, train one stage, predict the test images, and write the outcome."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from cervical.config import CLASS_COSTS, CLASSES, Settings, Stage, StudyOptions, control_stage, effective, with_weights
from cervical.data import Cells, Part, load, prepare
from cervical.models import count_parameters
from cervical.paper import TABLE_NUMBERS, printed_accuracy, printed_classes
from common import device
from common.backbones import BACKBONES, batch_normalisations, recompute_batchnorm
from common.data.manifest import Dataset, class_names, fingerprint
from common.data.pipeline import Augment, Batches
from common.data.splits import leakage
from common.errors import UsageError
from common.metrics.outcome import write_metrics, write_predictions
from common.report.report import Printed, write_model_card, write_report
from common.runs import Run, fit
from common.runs.folder import RUNS

log = logging.getLogger(__name__)

# Runs of fewer steps end before batch normalisation's slow averages (momentum 0.999 in MobileNetV2) have forgotten their initial values.
SHORT_RUN = 5000
SHORT_MOMENTUM = 0.9
RECOMPUTED_BATCHES = 50

# Settings that decide a method's result; a run is known by them, so that `--costs` does not make another fine-tuned model, say.
_DATA = ("image_size", "resize_filter", "split", "split_seed", "copies", "copies_kind")
SHARED = ("reading", "backbone", "weights", "batch_size", "seed", *_DATA, "dropout")
FINETUNE = (*SHARED, "finetune", "pixels", "freeze", "dropout_everywhere", "views")
CONTRASTIVE = (*SHARED, "loss", "temperature", "margin", "encoder", "classifier", "contrastive_pixels", "classifier_views", "head_input")
RELEVANT = {
    "finetune": FINETUNE,
    "cost-sensitive": (*FINETUNE, "costs", "init"),
    "contrastive": (*CONTRASTIVE, "control"),
    "contrastive-control": CONTRASTIVE,
}

DATA_NOTES = {
    "sipakmed": ["SIPaKMeD (Plissiti et al. 2018): 4049 single cells cut from 966 Pap-smear images, five classes."],
    "sample": ["Cells drawn by a program in SIPaKMeD's layout."],
    "folders": ["Images given by the user, one folder a class."],
}


@dataclass(frozen=True)
class Job:
    """One run on its way: the folder, the settings, the options as given, and the data."""

    method: str
    run: Run
    settings: Settings
    options: StudyOptions
    cells: Cells

    @property
    def weights(self) -> str | None:
        """What `build_backbone` takes: None, "imagenet" or the path as given."""
        return None if self.settings.weights == "none" else self.settings.weights


@contextmanager
def nothing_half_written(run: Run) -> Iterator[None]:
    """Bad weights, costs or data that show before training starts leave nothing behind of a run that this process began."""
    try:
        yield
    except UsageError:
        run.abandon()
        raise


def resolve(method: str, options: StudyOptions, classes: Sequence[str]) -> Settings:
    """The effective settings of a method: reading, sample defaults, what was given, and the weights the method starts from."""
    settings = with_weights(effective(options), options, pretrained=method != "contrastive")
    if method == "cost-sensitive" and settings.costs == "printed" and getattr(options, "costs", None) is None and tuple(classes) != CLASSES:
        # Asked for by the reading, not by the user: the paper prints costs for SIPaKMeD's classes only.
        settings = replace(settings, costs="balanced")
    return settings


def identity(method: str, settings: Settings, options: StudyOptions, dataset: Dataset) -> dict[str, Any]:
    """The settings a run is known by and config.json shows. A weights file enters by its name, a file of costs by name and content."""
    values = asdict(settings)
    chosen: dict[str, Any] = {key: values[key] for key in RELEVANT[method]}
    chosen["weights"] = Path(settings.weights).name
    # Options that came later: without them a run keeps the name it had before.
    if not chosen.get("views"):
        chosen.pop("views", None)
    if method == "contrastive-control" or chosen.get("control"):
        # Derived, but by a rule that has changed once: a control trained otherwise is another run.
        chosen["control_stage"] = asdict(control_stage(settings))
    for stage in chosen.values():
        if isinstance(stage, dict) and stage.get("schedule") == "plateau":
            del stage["schedule"]
    if settings.costs not in CLASS_COSTS and "costs" in chosen:
        path = Path(settings.costs)
        chosen |= {"costs": path.name, "costs_content": path.read_text(encoding="utf-8", errors="replace")}
    chosen |= {"precision": options.precision, "dataset": dataset.name, "synthetic": dataset.synthetic, "limit": options.limit}
    return {**chosen, "classes": list(class_names(dataset.manifest))}


def default_run_dir(method: str, settings: Settings, options: StudyOptions, dataset: Dataset) -> Path:
    """`runs/cervical/<method>/<readable parts>-<hash of the settings and the data>`: what a grid shares with single runs."""
    parts = [dataset.name, settings.backbone]
    if method == "contrastive":
        parts.append(settings.loss)
    parts += [settings.split, settings.reading, f"seed{settings.seed}"]
    known = json.dumps([identity(method, settings, options, dataset), fingerprint(dataset)], sort_keys=True)
    return RUNS / "cervical" / method / "-".join([*parts, hashlib.sha256(known.encode()).hexdigest()[:8]])


def begin(method: str, options: StudyOptions) -> Job | Run:
    """Load the data and open the run. Returns the finished `Run` where there is nothing left to do, else the job with its arrays."""
    dataset = load(options)
    settings = resolve(method, options, class_names(dataset.manifest))
    folder = options.run_dir or default_run_dir(method, settings, options, dataset)
    # Before the folder is made: config.json tells the precision that Keras is set to.
    device.configure(settings.seed, options.precision)
    run = Run.open(
        "cervical",
        method,
        identity(method, settings, options, dataset),
        run_dir=folder,
        fingerprint=fingerprint(dataset),
        data_dir=dataset.data_dir,
        weights_file=weights_file(settings),
    )
    if run.finished:
        return run
    with nothing_half_written(run):
        cells = prepare(dataset, settings, options.cache_dir)
    write_manifest(run, cells)
    log.info(
        "%s: %d training images (%d copies each), %d validation, %d test; %s on %s",
        dataset.name,
        len(cells.train.rows),
        settings.copies,
        len(cells.validation.rows),
        len(cells.test.rows),
        BACKBONES[settings.backbone].title,
        device.describe()["machine"],
    )
    return Job(method, run, settings, options, cells)


def weights_file(settings: Settings) -> Path | None:
    """The file of initial weights, or None where they are random or Keras's download."""
    return None if settings.weights in ("none", "imagenet") else Path(settings.weights)


def write_manifest(run: Run, cells: Cells) -> None:
    """manifest.csv: image, label, group, split."""
    run.write_csv("manifest.csv", cells.manifest[["image", "label", "group", "split"]])


def batches(part: Part, settings: Settings, *, shuffle: bool = False, augment: Augment | None = None) -> Batches:
    """Batches of images and integer labels; the order and the augmentation are functions of (seed, epoch, batch)."""
    return Batches(
        part.images, part.labels, rows=part.rows, batch_size=settings.batch_size, seed=settings.seed, shuffle=shuffle, augment=augment
    )


def evaluation_batches(part: Part, settings: Settings, most: int = 256) -> Batches | None:
    """Batches of validation images, all of one size where their number has a divisor for it: one compilation, and the same mean loss.

    None where there are no images.
    """
    number = len(part.rows)
    if not number:
        return None
    size = next((size for size in range(min(most, number), 15, -1) if number % size == 0), settings.batch_size)
    return Batches(part.images, part.labels, rows=part.rows, batch_size=size)


def compile_model(model: keras.Model, stage: Stage, loss: Any, metrics: Sequence[Any] = ()) -> None:
    """Adam, the only optimiser of the study, at the stage's learning rate."""
    optimizer = keras.optimizers.Adam(stage.learning_rate)
    model.compile(optimizer, loss, metrics=list(metrics), jit_compile=device.jit_compile())


def accuracy() -> keras.metrics.Metric:
    return keras.metrics.SparseCategoricalAccuracy(name="accuracy")


def train_stage(job: Job, model: keras.Model, name: str, stage: Stage, train: Batches, validation: Batches | None) -> pd.DataFrame:
    """Fit one stage, resumable. In short runs the moving statistics of batch normalisation follow faster, and are recomputed at the end.

    Without that a validation loss during the run, and everything after it, would be that of the initial statistics. How fast they follow
    must be settled beforehand, by the steps planned; whether they are recomputed, by the steps done (an early end may come soon).

    Raises:
        UsageError: an epoch is to be chosen on validation images, and there are none.
    """
    monitor = stage.monitor
    if monitor is not None and monitor.startswith("val_") and validation is None:
        raise UsageError("the split has no validation images to choose an epoch by; expected more images")
    if stage.epochs * len(train) < SHORT_RUN:
        for layer in batch_normalisations(model):
            if layer.trainable:
                layer.momentum = min(layer.momentum, SHORT_MOMENTUM)
    plateau = monitor is not None and stage.schedule == "plateau"
    history = fit(
        model,
        train,
        run=job.run,
        stage=name,
        epochs=stage.epochs,
        validation=validation,
        monitor=monitor or "loss",
        select="best" if monitor is not None and stage.keep == "best" else "last",
        patience=stage.patience if plateau else None,
        reduce_lr={
            "monitor": monitor,
            "factor": stage.reduce_factor,
            "patience": stage.reduce_patience,
            "min_lr": stage.min_learning_rate,
        }
        if plateau
        else None,
        schedule=partial(cosine, stage) if stage.schedule == "cosine" else None,
        extra_callbacks=tensorboard(job),
    )
    if is_short(history, train):
        # The same batches whether `fit` has just ended or an earlier process finished it.
        train.epoch = 0
        recompute_batchnorm(model, (train[index] for index in range(len(train))), RECOMPUTED_BATCHES)
    return history


def cosine(stage: Stage, epoch: int) -> float:
    """Learning rate of an epoch (0-based): half a cosine from the stage's rate down to 0 after the last epoch."""
    return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / stage.epochs))


def tensorboard(job: Job) -> list[keras.callbacks.Callback]:
    """The TensorBoard callback when asked for; that its packages are there was checked with the options."""
    return [keras.callbacks.TensorBoard(str(job.run.path / "tensorboard"))] if job.options.tensorboard else []


def conclude(
    job: Job,
    model: keras.Model,
    title: str,
    notes: Sequence[str] = (),
    cost_matrix: np.ndarray | None = None,
    extra: dict[str, Any] | None = None,
    controls: dict[str, Path] | None = None,
) -> None:
    """Predict the test images; write predictions, metrics, model, figures, report and card; mark the run as finished."""
    cells, settings, run = job.cells, job.settings, job.run
    probabilities = predict(model, cells.test)
    write_predictions(run, cells.test_rows, probabilities, cells.classes)
    shared = leakage(cells.manifest)
    total, trainable = count_parameters(model)
    right = predict(model, cells.validation).argmax(axis=1) == cells.validation.labels[cells.validation.rows]
    measured: dict[str, Any] = {"validation_accuracy": float(right.mean()) if len(right) else None}
    measured |= {"leakage": {name: {key: shared[name][key] for key in ("images", "shared", "fraction")} for name in shared}}
    write_metrics(run, settings.seed, cost_matrix, {**measured, "parameters": total, "trainable_parameters": trainable, **(extra or {})})
    run.save_model(model)
    everything = [*standard_notes(job, shared), *notes]
    write_report(run, title, printed_numbers(job), everything, controls)
    write_model_card(run, title, "Sorting single Pap-smear cells into the classes below.", DATA_NOTES[cells.dataset.name], everything[:1])
    run.finish()


def outputs(model: keras.Model, part: Part, batch_size: int = 128) -> np.ndarray:
    """The model's output `(n, …)` for the part's images, in the order of its rows.

    The last batch is filled up with repeated rows, so that a backend that compiles by shape compiles once.
    """
    if not len(part.rows):
        return np.zeros((0, model.output_shape[-1]), dtype="float32")
    batch_size = min(batch_size, len(part.rows))
    filled = np.pad(part.rows, (0, -len(part.rows) % batch_size), mode="edge")
    return model.predict(Batches(part.images, rows=filled, batch_size=batch_size), verbose=0)[: len(part.rows)]


def predict(model: keras.Model, part: Part) -> np.ndarray:
    """Probabilities `(n, K)` float64 of the part's images, rows summing to 1."""
    found = outputs(model, part).astype("float64")
    return found / found.sum(axis=1, keepdims=True)


def printed_numbers(job: Job) -> dict[str, Printed]:
    """The printed cells of this method and network, where the data set's classes are the paper's; none beside one's own costs.

    Table II is of a weight for each class, inverse to its frequency: a cost matrix, or other weights, is another method.
    """
    if job.method not in TABLE_NUMBERS or job.cells.dataset.name == "folders":
        return {}
    if job.method == "cost-sensitive" and job.settings.costs not in CLASS_COSTS:
        return {}
    source, backbone = TABLE_NUMBERS[job.method], job.settings.backbone
    accuracy = printed_accuracy(job.method, backbone)
    numbers = {} if accuracy is None else {"accuracy": Printed(accuracy, source)}
    for name, cells in printed_classes(job.method, backbone).items():
        if name in job.cells.classes:
            numbers |= {f"per_class.{name}.{score}": Printed(value, source) for score, value in cells.items()}
    return numbers


def standard_notes(job: Job, shared: dict[str, dict]) -> list[str]:
    """What a reader must know of any run: leakage, freezing, batch normalisation."""
    test = shared["test"]
    group = "slide" if job.cells.dataset.name != "folders" else "group"
    notes = [
        f"{test['shared']} of the {test['images']} test images ({test['fraction']:.0%}) share their {group} with a training image"
        + (": the accuracy is that of new images of known slides, not of new slides." if test["shared"] else ".")
    ]
    if job.options.limit is not None:
        notes.append(f"Only {job.options.limit} images were used (--limit): a smoke run.")
    if job.settings.copies != 6:
        notes.append(f"{job.settings.copies} augmented copies of each training image; the paper made 6.")
    return notes


def is_short(history: pd.DataFrame, train: Batches) -> bool:
    """Whether a stage ended before batch normalisation's slow averages could follow: by the steps done, not by those planned."""
    return len(history) * len(train) < SHORT_RUN


def short_run_note(history: pd.DataFrame, train: Batches, stage: Stage) -> list[str]:
    """A note for runs whose batch-normalisation statistics were recomputed."""
    if not is_short(history, train):
        return []
    planned = stage.epochs * len(train)
    faster = f"it averaged with momentum {SHORT_MOMENTUM}, and " if planned < SHORT_RUN else ""
    return [
        f"A short run ({len(history) * len(train)} steps of at most {planned}): where batch normalisation is trained, {faster}"
        "its statistics were recomputed on training images before evaluation."
    ]
