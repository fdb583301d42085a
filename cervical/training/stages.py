"""What every procedure does alike: open the run, train one stage, predict."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from cervical.data import Cells, Part, load_for_training, prepare
from cervical.experiments.base import CellTraining, Stage, kinds_of
from common import device
from common.backbones import BACKBONES, RecomputeBatchnorm, batch_normalisations, recompute_batchnorm
from common.data.dataset import Dataset, class_names
from common.data.fingerprint import contents, fingerprint
from common.data.pipeline import Augment, Batches
from common.errors import UsageError
from common.runs.fitting import fit
from common.runs.folder import Run, run_path
from common.settings import recipe

log = logging.getLogger(__name__)

# Runs of fewer steps end before batch normalisation's slow averages (momentum 0.999 in MobileNetV2) have forgotten their initial values.
SHORT_RUN = 5000
SHORT_MOMENTUM = 0.9
RECOMPUTED_BATCHES = 20


@dataclass(frozen=True)
class Job:
    """One run on its way: the folder, the settings and the data."""

    run: Run
    settings: Any
    """The command's settings, a `CellTraining`."""
    cells: Cells


def run_settings(settings: CellTraining, dataset: Dataset) -> dict[str, Any]:
    """The recipe and the seed: what a run is known by and config.json shows."""
    content: dict[str, Any] = {"classes": list(class_names(dataset.manifest)), "synthetic": dataset.synthetic}
    if settings.split == "grouped" and "field" in dataset.manifest and (dataset.manifest["field"] != dataset.manifest["group"]).any():
        content["same_cells"] = "on one side"  # an earlier grouped split of these settings did not know of them
    if hasattr(settings, "frozen_layers"):
        content["freeze"] = settings.frozen_layers(settings.backbone)  # "paper" and the number it stands for are the same training
    return {**recipe(settings, **content), "seed": settings.seed}


def name_parts(settings: CellTraining) -> list[str]:
    """The readable beginning of the run folder's name."""
    loss = [settings.loss] if hasattr(settings, "loss") else []
    return [settings.dataset, settings.backbone, *loss, settings.split, settings.reading, f"seed{settings.seed}"]


def default_run_dir(experiment: str, settings: CellTraining, dataset: Dataset) -> Path:
    """Where the run lies when no folder is named: what grids share with single runs."""
    known = run_settings(settings, dataset)
    return run_path("cervical", experiment, known, name_parts=name_parts(settings), fingerprint=fingerprint(dataset, masks=False))


def decision_files(settings: CellTraining, classes: Sequence[str]) -> tuple[np.ndarray | None, Mapping[str, Sequence[str]] | None]:
    """Costs of mistakes and kinds of classes: from the files given, kinds of SIPaKMeD's classes by themselves."""
    from common.report.decision import read_costs, read_kinds  # with the reports: not needed for a training without these files

    costs = read_costs(settings.decision_costs, classes, "--decision-costs") if settings.decision_costs is not None else None
    if settings.kinds is not None:
        return costs, read_kinds(settings.kinds, classes)
    return costs, kinds_of(classes)


def begin(experiment: str, settings: CellTraining) -> Job | Run:
    """Load the data and open the run. Returns the finished `Run` where there is nothing left to do, else the job with its arrays."""
    dataset = load_for_training(settings)
    if settings.decision_costs is not None or settings.kinds is not None:
        decision_files(settings, class_names(dataset.manifest))  # a bad file is told before the training, not after it
    # Before the folder is made: config.json tells the precision that Keras is set to.
    device.configure(settings.seed, settings.precision, settings.devices)
    run = Run.open(
        "cervical",
        experiment,
        run_settings(settings, dataset),
        run_dir=settings.run_dir,
        name_parts=name_parts(settings),
        fingerprint=fingerprint(dataset, masks=False),
        data_dir=dataset.data_dir,
        files=contents(dataset, masks=False),
        log_to=settings.log,
    )
    return run if run.finished else arrays(run, settings, dataset)


def arrays(run: Run, settings: CellTraining, dataset: Dataset) -> Job:
    """The job with its images split, decoded and copied."""
    cells = prepare(dataset, settings)
    write_manifest(run, cells)
    counts = f"{len(cells.train.rows)} training images ({settings.copies} copies each), {len(cells.validation.rows)} validation"
    machine = device.describe()["machine"]
    network = BACKBONES[settings.backbone].title
    log.info("%s: %s, %d test; %s on %s", dataset.name, counts, len(cells.test.rows), network, machine)
    return Job(run, settings, cells)


def baselines(job: Job, network: keras.Model) -> None:
    """Predictions of the largest class and of a logistic probe on the network, which must have its initial weights."""
    from common.runs.baselines import write_baselines

    cells = job.cells
    write_baselines(job.run, network, cells.test.images, cells.test.labels, cells.manifest, cells.classes, job.settings.seed)


def write_manifest(run: Run, cells: Cells) -> None:
    """manifest.csv: image, label, group, field and masks where there are some, split."""
    more = [name for name in cells.manifest if name == "field" or str(name).startswith("mask_")]
    run.write_csv("manifest.csv", cells.manifest[["image", "label", "group", *more, "split"]])


def batches(part: Part, settings: CellTraining, *, shuffle: bool = False, augment: Augment | None = None, smallest: int = 1) -> Batches:
    """Batches of images and integer labels; the order and the augmentation are functions of (seed, epoch, batch)."""
    return Batches(
        part.images,
        part.labels,
        rows=part.rows,
        batch_size=settings.batch_size,
        seed=settings.seed,
        shuffle=shuffle,
        augment=augment,
        smallest=smallest,
    )


def evaluation_batches(part: Part, settings: CellTraining, most: int = 256) -> Batches | None:
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
    """Fit one stage, resumable. In short runs the moving statistics of batch normalisation follow faster, and are recomputed.

    Without that a validation loss during the run, and everything after it, would be that of the initial statistics. They are recomputed
    before each validation that decides something, so that an epoch is chosen by the model that is kept; otherwise at the end.

    Raises:
        UsageError: an epoch is to be chosen on validation images, and there are none.
    """
    if stage.looks_at_validation and validation is None:
        raise UsageError("the split has no validation images to choose an epoch by; expected more images")
    if stage.epochs * len(train) <= SHORT_RUN:
        for layer in batch_normalisations(model):
            if layer.trainable:
                layer.momentum = min(layer.momentum, SHORT_MOMENTUM)
    rule = {"factor": stage.reduce_factor, "patience": stage.reduce_patience, "min_lr": stage.min_learning_rate}
    plateau = stage.schedule == "plateau"

    def recompute(epoch: int) -> bool:
        short = (epoch + 1) * len(train) <= SHORT_RUN
        return short and (stage.looks_at_validation or epoch + 1 == stage.epochs)

    history = fit(
        model,
        train,
        run=job.run,
        stage=name,
        epochs=stage.epochs,
        validation=validation,
        monitor=stage.monitor,
        select=stage.keep,
        patience=stage.patience if plateau else None,
        reduce_lr={"monitor": stage.monitor, **rule} if plateau else None,
        schedule=partial(cosine, stage) if stage.schedule == "cosine" else None,
        extra_callbacks=[RecomputeBatchnorm(partial(first_batches, train), recompute, RECOMPUTED_BATCHES)],
    )
    if is_short(history, train) and (validation is None or not stage.looks_at_validation and len(history) < stage.epochs):
        recompute_batchnorm(model, first_batches(train), RECOMPUTED_BATCHES)
    return history


def first_batches(train: Batches) -> Iterator[Any]:
    """The batches of the first epoch, whatever epoch `train` is in: the same ones for a resumed run as for an unbroken one."""
    again = copy(train)
    again.epoch = 0
    return (again[index] for index in range(len(again)))


def cosine(stage: Stage, epoch: int) -> float:
    """Learning rate of an epoch (0-based): half a cosine from the stage's rate down to 0 after the last epoch."""
    return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / stage.epochs))


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


def is_short(history: pd.DataFrame, train: Batches) -> bool:
    """Whether a stage ended before batch normalisation's slow averages could follow: by the steps done, not by those planned."""
    return len(history) * len(train) <= SHORT_RUN


def short_run_note(history: pd.DataFrame, train: Batches, stage: Stage) -> list[str]:
    """A note for runs whose batch-normalisation statistics were recomputed."""
    if not is_short(history, train):
        return []
    planned = stage.epochs * len(train)
    faster = f"it averaged with momentum {SHORT_MOMENTUM}, and " if planned <= SHORT_RUN else ""
    return [
        f"A short run ({len(history) * len(train)} steps of at most {planned}): where batch normalisation is trained, {faster}"
        "its statistics were recomputed on training images, before each validation that decided something or else at the end."
    ]
