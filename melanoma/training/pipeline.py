"""The four subnetworks, one after the other, and their test."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import ops

from common import device
from common.data.images import cached_images
from common.data.pipeline import Batches
from common.evaluation.metrics import auc
from common.evaluation.outcome import write_metrics, write_predictions
from common.runs import Run, fit
from melanoma import data, models
from melanoma.config import CLASSES, STUDY
from melanoma.training import heatmaps
from melanoma.training.indicator import Networks, Task, make_task, train_task
from melanoma.training.inputs import Inputs
from melanoma.training.pretraining import ENCODER, adam, pretrain
from melanoma.training.probes import pooled_features, set_logistic
from melanoma.training.scores import score_maps, summary
from melanoma.training.shown import shown_rows, write_arrays

log = logging.getLogger(__name__)

SHOWN = 3  # test images an indicator whose maps are kept for the sheets


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


def train(inputs: Inputs, run_dir: Path | None = None) -> Run:
    """Subnetworks 1 to 4, predictions and metrics; a finished run is returned as it is. Report and figures come after."""
    settings = inputs.settings
    run = open_run(inputs, "train", run_dir)
    if run.finished:
        return run
    run.write_csv("manifest.csv", inputs.manifest[["image", "label", "group", "split"]])
    weights = starting_encoder(inputs, run_dir)
    device.configure(settings.seed, settings.precision)
    dataset_b = interleaved_images(inputs)

    tasks = [make_task(inputs, group) for group in heatmaps.groups_of(settings)]
    networks: Networks | None = None
    shape, encoders, tables, shown = (), [], [], {}
    for task in tasks:
        log.info("%s: draws %s, predicts %s", task.name, ", ".join(task.indicators) or "nothing", ", ".join(task.outputs))
        if networks is None or shape != (len(task.indicators), len(task.outputs)):
            networks, shape = Networks(inputs, task, weights), (len(task.indicators), len(task.outputs))
            makers = Makers.of(networks)
        train_task(run, networks, task, dataset_b)
        found, kept = localise(inputs, networks, makers, task)
        tables.append(found)
        shown |= kept
        encoders.append([ops.convert_to_numpy(v) for v in networks.encoder.variables])
    assert networks is not None
    localisation = pd.concat(tables, ignore_index=True)
    run.write_csv("localisation.csv", localisation)
    write_arrays(run, shown)

    final = final_classifier(run, inputs, networks, tasks, encoders)
    run.save_model(final)
    test = inputs.rows("test", diagnosed=True)
    probabilities = final.predict(Batches(inputs.images, rows=test, batch_size=64), verbose=0)
    write_predictions(run, inputs.manifest.iloc[test], probabilities, CLASSES)
    extra = {
        "melanoma_auc": auc(inputs.melanoma[test], probabilities[:, 0]),
        "localisation": summary(localisation, settings.seed),
        "outputs": {task.name: list(task.outputs) for task in tasks},
    }
    write_metrics(run, settings.seed, extra=extra)
    return run


def interleaved_images(inputs: Inputs) -> np.ndarray | None:
    """Dataset B's images where Algorithm 1's loop needs them, else None."""
    settings = inputs.settings
    if settings.order != "interleaved" or not settings.simclr:
        return None
    dataset_b, _ = data.unlabelled(inputs.options, inputs.dataset)
    return cached_images(dataset_b, settings.image_size, settings.resize_filter, inputs.options.cache_dir, progress=True)


@dataclass(frozen=True)
class Makers:
    """Compiled map makers of one set of networks: the scored last map, and the twelve of the trained encoder for the sheets."""

    last: heatmaps.HeatmapMaker
    twelve: heatmaps.HeatmapMaker

    @classmethod
    def of(cls, networks: Networks) -> "Makers":
        s = networks.settings
        return cls(heatmaps.last_maker(networks.classifier, s), heatmaps.twelve_maker(networks.classifier, s))


def localise(inputs: Inputs, networks: Networks, makers: Makers, task: Task) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Scores of the test images' maps and masks, and the arrays that the sheets show.

    "gradcam": the encoder's last map, the paper's final localisation (A.3). "unet_mask": what the decoder draws from the snapshot's twelve.
    """
    settings, test = inputs.settings, inputs.rows("test")
    tables, shown = [], {}
    drawn = None
    if networks.segmenter is not None:
        weights, follow = heatmaps.target_weights(task.outputs, task.indicators, settings.target)

        def draw(rows: np.ndarray) -> np.ndarray:
            maps = heatmaps.twelve(networks.maker, inputs, rows, weights, follow)
            stages = [stage.astype("float32") for stage in maps]
            return networks.segmenter.predict(stages, batch_size=settings.segmentation_batch, verbose=0)

        drawn = np.concatenate([draw(test[start : start + 256]) for start in range(0, len(test), 256)])
    # The plain classifier's one map is held against every indicator (Table 2).
    for index, name in enumerate(task.indicators or settings.indicators):
        own = [name] if name in task.indicators else []
        weights, follow = heatmaps.target_weights(task.outputs, own, settings.target if own else "auto")
        maps = makers.last(inputs.images[test], weights, follow)[0]
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
        twelve = makers.twelve(inputs.images[chosen], weights, follow)
        shown |= {f"{name}/heatmap_{number:02d}": each for number, each in enumerate(twelve, start=1)}
        if drawn is not None:
            shown[f"{name}/unet_mask"] = drawn[places, ..., index]
    return pd.concat(tables, ignore_index=True), shown


def final_classifier(run: Run, inputs: Inputs, networks: Networks, tasks: list[Task], encoders: list[list[np.ndarray]]) -> keras.Model:
    """Subnetwork 4: the frozen encoders' features, concatenated, under a softmax layer that is trained alone.

    The plain classifier f_Res keeps its own head, written as a two-way softmax.
    """
    settings = inputs.settings
    final = models.build_final(frozen_encoders(settings, encoders), networks.normalise)
    if tasks[0].name == "classifier":
        kernel, bias = (ops.convert_to_numpy(v) for v in networks.classifier.get_layer("logits").weights)
        set_logistic(final, kernel[:, 0], float(bias[0]))
        return final
    parts = {
        part: np.concatenate([pooled_features(encoder, networks.normalise, inputs, rows) for encoder in encoder_models(final)], axis=1)
        for part, rows in (("train", inputs.rows("train")), ("validation", inputs.rows("validation", diagnosed=True)))
    }
    targets = {part: 1 - inputs.melanoma[inputs.rows(part, diagnosed=True)].astype("int32") for part in parts}  # class 0 is melanoma
    features = keras.Input((parts["train"].shape[1],), name="features")
    # Features of different encoders have different sizes; this layer is folded into the saved model's weights below.
    scaling = keras.layers.Normalization(name="scaling")
    scaling.adapt(parts["train"])
    head = keras.layers.Dense(len(CLASSES), activation="softmax", name="predictions", dtype="float32")
    model = keras.Model(features, head(scaling(features)), name="head")
    model.compile(adam(settings), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=device.jit_compile())
    weights = None
    if settings.class_weights:
        share = np.bincount(targets["train"], minlength=2) / len(targets["train"])
        weights = (0.5 / share)[targets["train"]].astype("float32")
    fit(
        model,
        Batches(parts["train"], targets["train"], batch_size=settings.classifier_batch, seed=settings.seed, shuffle=True, sample_weights=weights),
        run=run, stage="head", epochs=settings.head_epochs, select="best", patience=settings.patience,
        validation=Batches(parts["validation"], targets["validation"], batch_size=64),
    )  # fmt: skip
    kernel, bias = (ops.convert_to_numpy(v) for v in head.weights)
    mean, deviation = ops.convert_to_numpy(scaling.mean)[0], np.sqrt(ops.convert_to_numpy(scaling.variance)[0])
    folded = kernel / np.maximum(deviation, 1e-7)[:, None]
    final.get_layer("predictions").set_weights([folded, bias - mean @ folded])
    return final


def frozen_encoders(settings: Any, values: list[list[np.ndarray]]) -> list[keras.Model]:
    """One encoder for each set of weights, built without a download."""
    encoders = []
    for index, weights in enumerate(values):
        encoder = models.build_encoder(settings.backbone, settings.image_size)
        for variable, value in zip(encoder.variables, weights, strict=True):
            variable.assign(value)
        encoder.name = f"encoder_{index}"
        encoders.append(encoder)
    return encoders


def encoder_models(final: keras.Model) -> list[keras.Model]:
    """The encoders inside a final classifier, in order."""
    return [layer for layer in final.layers if isinstance(layer, keras.Model)]
