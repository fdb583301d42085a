"""The four subnetworks, one after the other, and their test."""

import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import ops

from common import device
from common.data.pipeline import Batches
from common.metrics.outcome import write_metrics
from common.runs import Run, fit
from melanoma import data, models
from melanoma.config import CLASSES, STUDY, Settings
from melanoma.training import heatmaps
from melanoma.training.indicator import Networks, Task, assign, make_task, train_task
from melanoma.training.inputs import Inputs
from melanoma.training.pretraining import ENCODER, adam, diagnose, origin, pretrain
from melanoma.training.probes import features_of, set_logistic
from melanoma.training.scores import score_maps, summary
from melanoma.training.shown import SHOWN, shown_rows, write_arrays

log = logging.getLogger(__name__)


def open_run(inputs: Inputs, experiment: str, run_dir: Path | None, **more: Any) -> Run:
    """The run folder of one experiment on Dataset A."""
    return Run.open(
        STUDY,
        experiment,
        {**inputs.settings.as_dict(), "classes": CLASSES, "synthetic": inputs.dataset.synthetic, **more},
        run_dir=run_dir,
        name_parts=inputs.name_parts(),
        fingerprint=inputs.fingerprint,
        data_dir=inputs.dataset.data_dir,
    )


def starting_encoder(inputs: Inputs, run_dir: Path | None) -> Path | None:
    """Encoder weights that subnetwork 1 leaves to the others, trained first where they are missing; None where it has no part."""
    settings, options = inputs.settings, inputs.options
    if not settings.simclr or settings.order == "interleaved":
        return None
    pretrained = getattr(options, "pretrained", None)
    if pretrained is None:
        pretrained = pretrain(inputs, run_dir / "pretrain" if run_dir is not None else None).path
    return pretrained / ENCODER


def seen_of_b(inputs: Inputs) -> dict[str, Any]:
    """What a run's settings say of Dataset B and of the pre-training; nothing where SimCLR has no part."""
    if not inputs.settings.simclr:
        return {}
    if inputs.settings.order == "interleaved":
        return {"dataset_b": inputs.facts_b}
    return origin(inputs, getattr(inputs.options, "pretrained", None))


def train(inputs: Inputs, run_dir: Path | None = None) -> Run:
    """Subnetworks 1 to 4, predictions and metrics; a finished run is returned as it is. Report and figures come after."""
    run = open_run(inputs, "train", run_dir, **seen_of_b(inputs))
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
    run.write_csv("manifest.csv", inputs.manifest[["image", "label", "group", "split"]])
    weights = starting_encoder(inputs, run_dir)
    device.configure(settings.seed, settings.precision)
    dataset_b = inputs.images_b if settings.simclr and settings.order == "interleaved" else None

    tasks = [make_task(inputs, group) for group in heatmaps.groups_of(settings)]
    networks: Networks | None = None
    shape, encoders, tables, shown = (), [], [], {}
    for task in tasks:
        log.info("%s: draws %s, predicts %s", task.name, ", ".join(task.indicators) or "nothing", ", ".join(task.outputs))
        if networks is None or shape != (len(task.indicators), len(task.outputs)):
            networks, shape = Networks(inputs, task, weights), (len(task.indicators), len(task.outputs))
        train_task(run, networks, task, dataset_b)
        found, kept = localise(inputs, networks, task)
        tables.append(found)
        shown |= kept
        encoders.append([ops.convert_to_numpy(v) for v in networks.encoder.variables])
    assert networks is not None
    localisation = pd.concat(tables, ignore_index=True)
    run.write_csv("localisation.csv", localisation)
    write_arrays(run, shown)

    final, both = final_classifier(run, inputs, networks, tasks, encoders)
    run.save_model(final)
    extra = diagnose(run, inputs, both) | {
        "localisation": summary(localisation, settings.seed),
        "outputs": {task.name: list(task.outputs) for task in tasks},
        "indicators": indicator_counts(inputs),
    }
    write_metrics(run, settings.seed, extra=extra)


def indicator_counts(inputs: Inputs) -> dict[str, dict[str, int]]:
    """Table 1: images with and without each indicator, the official validation images not counted."""
    counted = ~inputs.manifest["image"].map(data.is_official_validation).to_numpy(dtype=bool)
    return {
        name: {"with": int(inputs.present[name][counted].sum()), "without": int((~inputs.present[name][counted]).sum())}
        for name in inputs.settings.indicators
    }


def localise(inputs: Inputs, networks: Networks, task: Task) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Scores of the test images' maps and masks, and the arrays that the sheets show.

    "gradcam": the encoder's last map, the paper's final localisation (A.3). "unet_mask": what the decoder draws from the snapshot's twelve.
    """
    settings, test = inputs.settings, inputs.localised()
    tables, shown = [], {}
    drawn = None
    if networks.segmenter is not None:
        weights, follow = heatmaps.target_weights(task.outputs, task.indicators, settings.target)

        def draw(rows: np.ndarray) -> np.ndarray:
            return networks.draw(heatmaps.twelve(networks.maker, inputs, rows, weights, follow))

        drawn = np.concatenate([draw(test[start : start + 256]) for start in range(0, len(test), 256)])
    # The plain classifier's one map is held against every indicator (Table 2).
    for index, name in enumerate(task.indicators or settings.indicators):
        own = [name] if name in task.indicators else []
        weights, follow = heatmaps.target_weights(task.outputs, own, settings.target if own else "auto")
        twelve = networks.classifier_maps(inputs.images[test], weights, follow)
        maps = twelve[-1]
        tables.append(score_maps(inputs, "gradcam", name, test, maps))
        if drawn is not None:
            tables.append(score_maps(inputs, "unet_mask", name, test, drawn[..., index]))
        chosen = shown_rows(inputs, name, SHOWN)
        places = np.searchsorted(test, chosen)
        shown |= {
            f"{name}/rows": chosen,
            f"{name}/images": inputs.images[chosen],
            f"{name}/masks": inputs.masks(name)[chosen],
            f"{name}/gradcam": maps[places],
        }
        shown |= {f"{name}/heatmap_{number:02d}": each[places] for number, each in enumerate(twelve, start=1)}
        if drawn is not None:
            shown[f"{name}/unet_mask"] = drawn[places, ..., index]
    return pd.concat(tables, ignore_index=True), shown


def final_classifier(
    run: Run, inputs: Inputs, networks: Networks, tasks: list[Task], encoders: list[list[np.ndarray]]
) -> tuple[keras.Model, keras.Model]:
    """Subnetwork 4: the frozen encoders' features, concatenated, under a softmax layer that is trained alone.

    The plain classifier f_Res keeps its own head, written as a two-way softmax. Returns the classifier, and the same with its features.
    """
    settings = inputs.settings
    final = models.build_final(frozen_encoders(settings, encoders), networks.normalise)
    both = models.with_features(final)
    if tasks[0].name == "classifier":
        kernel, bias = (ops.convert_to_numpy(v) for v in networks.classifier.get_layer("logits").weights)
        set_logistic(final, kernel[:, 0], float(bias[0]))
        return final, both
    rows = {part: inputs.rows(part, diagnosed=True) for part in ("train", "validation")}
    features = {part: features_of(both, inputs, chosen) for part, chosen in rows.items()}
    targets = {part: 1 - inputs.melanoma[chosen].astype("int32") for part, chosen in rows.items()}  # class 0 is melanoma
    final.get_layer("predictions").set_weights(train_head(run, settings, features, targets))
    return final, both


def train_head(run: Run, settings: Settings, features: dict[str, np.ndarray], targets: dict[str, np.ndarray]) -> list[np.ndarray]:
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


def frozen_encoders(settings: Settings, values: list[list[np.ndarray]]) -> list[keras.Model]:
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
