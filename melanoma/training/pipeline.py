"""The four subnetworks, one after the other, and their test."""

import logging
from pathlib import Path

import keras
import numpy as np
from keras import ops

from common import device
from common.data.pipeline import Batches
from common.runs.fitting import fit
from common.runs.folder import Run
from melanoma import models
from melanoma.experiments.base import CLASSES
from melanoma.experiments.train import BioUNetSettings
from melanoma.training import heatmaps
from melanoma.training.evaluation import Localisation, judged, tested, write_results, write_trivial
from melanoma.training.indicator import Networks, Task, assign, make_task, train_task
from melanoma.training.inputs import Inputs, open_run
from melanoma.training.optimiser import adam
from melanoma.training.pretraining import ENCODER, origin, pretrain
from melanoma.training.probes import features_of, fit_logistic, set_logistic, set_output

log = logging.getLogger(__name__)

SHARED = "shared"  # the task of the shared design
NETWORKS = "networks"  # folder of a run: each task's classifier, snapshot and U-Net


def starting_encoder(inputs: Inputs, run_dir: Path | None) -> Path | None:
    """Encoder weights that subnetwork 1 leaves to the others, trained first where they are missing; None where it has no part."""
    settings = inputs.settings
    if not settings.simclr or settings.order == "interleaved":
        return None
    if settings.pretrained is not None:
        return settings.pretrained / ENCODER
    run = pretrain(inputs, run_dir / "pretrain" if run_dir is not None else None)
    if not run.finished:
        run.finish()
    return run.path / ENCODER


def train(inputs: Inputs, run_dir: Path | None = None) -> Run:
    """Subnetworks 1 to 4, predictions and metrics; a finished run is returned as it is. Report and figures come after."""
    run = open_run(inputs, "train", run_dir, **origin(inputs))
    if run.finished:
        return run
    try:
        fill(run, inputs, run_dir)
    except BaseException:
        run.release()  # in a notebook the process goes on
        raise
    return run


def fill(run: Run, inputs: Inputs, run_dir: Path | None) -> None:
    """Everything that `train` leaves in an opened run folder."""
    settings = inputs.settings
    run.write_csv("manifest.csv", inputs.manifest)
    weights = starting_encoder(inputs, run_dir)
    device.configure(settings.seed, settings.precision, settings.devices)
    dataset_b = inputs.images_b if settings.simclr and settings.order == "interleaved" else None
    test = tested(inputs)

    tasks = [make_task(inputs, group) for group in heatmaps.groups_of(settings, inputs.indicators)]
    networks: Networks | None = None
    shape, encoders, tables, found = (), [], [], Localisation(inputs)
    for task in tasks:
        log.info("%s: draws %s, predicts %s", task.name, ", ".join(task.indicators) or "nothing", ", ".join(task.outputs))
        if networks is None or shape != (len(task.indicators), len(task.outputs)):
            networks, shape = Networks(inputs, task, weights), (len(task.indicators), len(task.outputs))
            write_trivial(run, inputs, networks.encoder)
        train_task(run, networks, task, dataset_b)
        localise(networks, task, found)
        tables.append(judged(inputs, task.outputs, networks.classifier.predict(test, verbose=0)))
        keep_networks(run, networks, task)
        encoders.append([ops.convert_to_numpy(v) for v in networks.encoder.variables])
    assert networks is not None

    final, both = final_classifier(run, inputs, networks, tasks, encoders)
    run.save_model(final)
    outputs, drawn = {task.name: list(task.outputs) for task in tasks}, {task.name: list(task.indicators) for task in tasks}
    write_results(run, inputs, both.predict(test, verbose=0)[1], found, tables, outputs=outputs, drawn=drawn)


def keep_networks(run: Run, networks: Networks, task: Task) -> None:
    """Leave what `predict` needs to draw: the classifier, the snapshot that makes the heatmaps, the U-Net that reads them."""
    if networks.segmenter is None or networks.snapshot is None:
        return
    for name, model in (("classifier", networks.classifier), ("snapshot", networks.snapshot), ("unet", networks.segmenter)):
        run.save_model(model, f"{NETWORKS}/{task.name}-{name}.keras")


def localise(networks: Networks, task: Task, found: Localisation) -> None:
    """The test images' maps and masks.

    "gradcam": the encoder's last map, the paper's final localisation (A.3). "unet_mask": what the decoder draws from the snapshot's twelve,
    which are the ones shown.
    """
    inputs, target, drawn = networks.inputs, networks.settings.target, None
    if networks.segmenter is not None:
        weights, follow = heatmaps.target_weights(task.outputs, task.indicators, target)
        parts = [found.rows[start : start + 256] for start in range(0, len(found.rows), 256)]
        drawn = np.concatenate([networks.draw(heatmaps.twelve(networks.maker, inputs, rows, weights, follow)) for rows in parts])
    # The plain classifier's one map is held against every indicator (Table 2).
    for index, name in enumerate(task.indicators or inputs.indicators):
        own = [name] if name in task.indicators else []
        weights, follow = heatmaps.target_weights(task.outputs, own, target if own else "auto")
        found.add("gradcam", name, networks.classifier_maps(inputs.images[found.rows], weights, follow)[-1])
        if drawn is not None:
            found.add("unet_mask", name, drawn[..., index])
        # What the U-Net reads: the snapshot's. Without a U-Net the maker is the classifier's own.
        twelve = networks.maker(inputs.images[found.shown(name)], weights, follow)
        found.arrays |= {f"{name}/heatmap_{number:02d}": each for number, each in enumerate(twelve, start=1)}


def final_classifier(
    run: Run, inputs: Inputs, networks: Networks, tasks: list[Task], encoders: list[list[np.ndarray]]
) -> tuple[keras.Model, keras.Model]:
    """Subnetwork 4: the frozen encoders' features, concatenated, under a softmax layer that is trained alone.

    With `head` "l2" it is a logistic regression with a penalty, for every row. Otherwise the plain classifier f_Res keeps its own head,
    written as a two-way softmax. Returns the classifier, and the same with its features.
    """
    settings = inputs.settings
    final = models.build_final(frozen_encoders(settings, encoders), networks.normalise)
    both = models.with_features(final)
    if settings.head == "l2":
        train = inputs.rows("train")
        set_logistic(final, *fit_logistic(features_of(both, inputs, train), inputs.melanoma[train], settings.class_weights))
        return final, both
    if tasks[0].name == "classifier":
        set_output(final, networks.classifier.get_layer("logits"))
        return final, both
    rows = {part: inputs.rows(part, diagnosed=True) for part in ("train", "validation")}
    features = {part: features_of(both, inputs, chosen) for part, chosen in rows.items()}
    targets = {part: 1 - inputs.melanoma[chosen].astype("int32") for part, chosen in rows.items()}  # class 0 is melanoma
    final.get_layer("predictions").set_weights(train_head(run, settings, features, targets))
    return final, both


def train_head(run: Run, settings: BioUNetSettings, features: dict[str, np.ndarray], targets: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Kernel `(d, classes)` and bias of a softmax layer on raw features.

    It is trained on standardised ones, since the encoders' features differ in size, and folded back. A feature that hardly varies over the
    training images has nothing to teach and gets the weight 0: divided by its deviation it would drown the others on new images.
    """
    mean, deviation = features["train"].mean(axis=0), features["train"].std(axis=0)
    factor = np.where(deviation > 1e-3 * deviation.mean(), 1 / np.maximum(deviation, 1e-12), 0.0).astype("float32")
    scaled = {part: (values - mean) * factor for part, values in features.items()}
    inside = keras.Input((len(mean),), name="features")
    layer = keras.layers.Dense(len(CLASSES), activation="softmax", name="predictions", dtype="float32")
    head = keras.Model(inside, layer(inside), name="head")
    head.compile(adam(settings), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=device.jit_compile())
    weights = None
    if settings.class_weights:
        share = np.bincount(targets["train"], minlength=len(CLASSES)) / len(targets["train"])
        weights = (1 / len(CLASSES) / share)[targets["train"]].astype("float32")
    train, batch = np.arange(len(targets["train"])), settings.classifier_batch
    fit(
        head,
        Batches(scaled["train"], targets["train"], rows=train, batch_size=batch, seed=settings.seed, shuffle=True, sample_weights=weights),
        run=run,
        stage="head",
        epochs=settings.head_epochs,
        select="best",
        patience=settings.patience,
        validation=Batches(scaled["validation"], targets["validation"], batch_size=64),
    )
    kernel, bias = (ops.convert_to_numpy(v) for v in layer.weights)
    folded = kernel * factor[:, None]
    return [folded, bias - mean @ folded]


def frozen_encoders(settings: BioUNetSettings, values: list[list[np.ndarray]]) -> list[keras.Model]:
    """One encoder for each set of weights, built without a download."""
    encoders = []
    for index, weights in enumerate(values):
        encoder = models.build_encoder(settings.backbone, settings.image_size)
        assign(encoder.variables, weights)
        encoder.name, encoder.trainable = f"encoder_{index}", False
        for layer in encoder.layers if len(values) > 1 else ():
            layer.name = f"{encoder.name}_{layer.name}"  # `explain` lays the encoders out in one graph, where a name may occur once
        encoders.append(encoder)
    return encoders
