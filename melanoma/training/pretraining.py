"""Subnetwork 1 (§4.2): SimCLR on Dataset B, and how good its embeddings are on Dataset A.

A finished run holds `encoder.weights.h5` for the later stages, and, like every run, a classifier: the linear probe on the frozen encoder.
"""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import ops

from common import device
from common.backbones import recompute_batchnorm
from common.data.pipeline import Batches
from common.errors import UsageError
from common.metrics.outcome import write_metrics, write_predictions
from common.report.plots import save
from common.report.report import write_model_card, write_report
from common.report.tables import interval_text, number
from common.runs import Run, fit
from common.runs.files import plain
from common.runs.reading import RunFolder
from melanoma import data, figures, intervals, models
from melanoma.config import CLASSES, STUDY, Settings
from melanoma.losses import PairedViewsLoss
from melanoma.training.inputs import Inputs
from melanoma.training.probes import embedding_quality

log = logging.getLogger(__name__)

ENCODER = "encoder.weights.h5"
SHORT = 500  # steps
# Settings that make a pre-training what it is; the others belong to later stages and must not ask for another one.
_OWN = (
    "reading", "dataset", "split", "limit", "seed", "backbone", "weights", "image_size", "resize_filter", "normalise", "precision",
    "learning_rate", "weight_decay", "temperature", "projection", "pretrain_batch", "pretrain_epochs",
)  # fmt: skip


def adam(settings: Settings) -> keras.optimizers.Adam:
    """A.2: Adam with the same hyper-parameters in every stage; the weight decay is decoupled (DEVIATIONS)."""
    return keras.optimizers.Adam(settings.learning_rate, weight_decay=settings.weight_decay or None)


def own_settings(inputs: Inputs) -> dict[str, Any]:
    """What a pre-training records as its settings: all that changes its weights, Dataset B included."""
    own = {name: value for name, value in inputs.settings.as_dict().items() if name in _OWN}
    own["weights"] = Path(own["weights"]).name  # of a file, as `Run.open` writes it
    return plain({**own, "classes": CLASSES, "dataset_b": inputs.facts_b, "synthetic": inputs.dataset.synthetic})


def identity(settings: dict[str, Any], data_fingerprint: str) -> str:
    """Eight letters that tell one pre-training from another, from its settings and Dataset A's fingerprint."""
    return hashlib.sha256(json.dumps([settings, data_fingerprint], sort_keys=True).encode()).hexdigest()[:8]


def origin(inputs: Inputs, pretrained: Path | None) -> dict[str, Any]:
    """What a run records of the pre-training it begins from: {"dataset_b", "pretrained"}; the finished run's, or the one to be made.

    Raises:
        UsageError: `pretrained` is another kind of run, or of another network or scaling.
    """
    if pretrained is None:
        return {"dataset_b": inputs.facts_b, "pretrained": identity(own_settings(inputs), inputs.fingerprint)}
    config = RunFolder.of(pretrained).read_json("config.json")
    settings = config["settings"]
    if (config.get("study"), config.get("experiment")) != (STUDY, "pretrain"):
        raise UsageError(f"--pretrained {pretrained}: is no run of `melanoma pretrain`")
    for name in ("backbone", "normalise"):
        if settings[name] != getattr(inputs.settings, name):
            raise UsageError(f"--pretrained {pretrained}: its {name} is {settings[name]}, this run's {getattr(inputs.settings, name)}")
    return {"dataset_b": settings["dataset_b"], "pretrained": identity(settings, config["data_fingerprint"])}


def pretrain(inputs: Inputs, run_dir: Any = None) -> Run:
    """Train subnetwork 1, or return the run that is finished already."""
    settings = inputs.settings
    overlap = inputs.dataset_b[1]
    run = Run.open(
        STUDY,
        "pretrain",
        own_settings(inputs),
        run_dir=run_dir,
        name_parts=inputs.name_parts(),
        fingerprint=inputs.fingerprint,
        data_dir=inputs.dataset.data_dir,
        weights_file=Path(settings.weights),
    )
    if run.finished:
        return run
    device.configure(settings.seed, settings.precision)
    run.write_csv("manifest.csv", inputs.manifest[["image", "label", "group", "split"]])
    encoder = models.build_encoder(settings.backbone, settings.image_size, settings.weights)
    normalise = models.normalisation(settings.normalise, settings.backbone)
    probe = models.build_final([encoder], normalise)
    both = models.with_features(probe)
    before = embedding_quality(both, inputs)
    history = train_simclr(run, inputs, encoder, normalise)
    after = embedding_quality(both, inputs)
    save_weights(encoder, run.path / ENCODER)
    quality = {"before": before, "after": after}
    run.write_json("embedding_quality.json", quality)

    run.save_model(probe)
    write_metrics(run, settings.seed, extra=diagnose(run, inputs, both) | {"embedding_quality": quality, "dataset_b": overlap})
    _report(run, inputs, overlap, quality, history)
    run.finish()
    return run


def diagnose(run: Run, inputs: Inputs, both: keras.Model) -> dict[str, Any]:
    """Write predictions.csv of the test images that have a diagnosis; returns {"melanoma_auc", "melanoma_auc_interval"}.

    both: raw images -> [features, probabilities] (`models.with_features`).
    """
    test = inputs.rows("test", diagnosed=True)
    probabilities = both.predict(Batches(inputs.images, rows=test, batch_size=64), verbose=0)[1]
    found = intervals.from_predictions(write_predictions(run, inputs.manifest.iloc[test], probabilities, CLASSES))
    between = intervals.interval([found], intervals.auc_of, inputs.settings.seed)[0]
    return {"melanoma_auc": intervals.auc_of(found.rows), "melanoma_auc_interval": between}


def train_simclr(run: Run, inputs: Inputs, encoder: keras.Model, normalise: keras.layers.Layer) -> pd.DataFrame:
    """The SimCLR stage: trains `encoder` in place, returns its history with `alignment` and `uniformity` an epoch."""
    settings = inputs.settings
    images = inputs.images_b
    simclr = models.build_simclr(encoder, normalise, settings.projection, settings.seed)
    loss = PairedViewsLoss(settings.temperature)
    simclr.compile(adam(settings), loss, metrics=[alignment, uniformity], jit_compile=device.jit_compile())
    batch = min(settings.pretrain_batch, len(images))
    batches = simclr_batches(images, batch, settings.seed)
    history = fit(simclr, batches, run=run, stage="simclr", epochs=settings.pretrain_epochs, select="last")
    settle_batchnorm(encoder, normalise, batches, len(history) * len(batches))
    return history


def save_weights(model: keras.Model, path: Path) -> None:
    """Keras insists on the ending `.weights.h5`, so the temporary name differs at its beginning."""
    temporary = path.with_name(f"tmp-{os.getpid()}-{path.name}")
    try:
        model.save_weights(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def settle_batchnorm(encoder: keras.Model, normalise: keras.layers.Layer, batches: Batches, steps: int) -> bool:
    """After a short training, the encoder's batch-normalisation statistics again as plain averages over `batches`; whether that was done.

    With momentum 0.9 the initial values are gone after some fifty steps, so longer trainings need none of it.
    """
    if steps >= SHORT:
        return False
    images = keras.Input(encoder.input_shape[1:])
    batches.epoch = 0
    return recompute_batchnorm(keras.Model(images, encoder(normalise(images))), (batches[i] for i in range(len(batches)))) > 0


def simclr_batches(images: np.ndarray, batch: int, seed: int) -> Batches:
    """Dataset B in full batches (a rest would have fewer negatives); the targets are not used."""
    return Batches(images, np.zeros(len(images), "float32"), batch_size=batch, seed=seed, shuffle=True, drop_remainder=True)


def alignment(_: Any, pairs: Any) -> Any:
    """Mean ||z1 - z2||² of an image's two views, embeddings `(batch, 2, d)` brought to unit length (Wang & Isola 2020); lower is better."""
    z = _unit(pairs)
    return ops.mean(ops.sum(ops.square(z[:, 0] - z[:, 1]), axis=-1))


def uniformity(_: Any, pairs: Any) -> Any:
    """log mean exp(-2 ||z_i - z_j||²) over different images' first views (Wang & Isola 2020); lower is better, -4 is the least possible."""
    z = _unit(pairs)[:, 0]
    count = ops.shape(z)[0]
    kernel = ops.exp(-2 * (2 - 2 * ops.matmul(z, ops.transpose(z))))
    others = ops.cast(count * (count - 1), "float32")
    return ops.log((ops.sum(kernel) - ops.sum(ops.diagonal(kernel))) / ops.maximum(others, 1.0))


def _unit(pairs: Any) -> Any:
    pairs = ops.cast(pairs, "float32")
    return pairs / ops.sqrt(ops.sum(ops.square(pairs), axis=-1, keepdims=True) + 1e-12)


def _report(run: Run, inputs: Inputs, overlap: dict[str, int], quality: dict, history: pd.DataFrame) -> None:
    last = history.iloc[-1]
    notes = [
        "The accuracy above is a linear probe's: a logistic regression on the frozen encoder's features. The paper prints none.",
        f"k-NN (20 neighbours, cosine) and linear probe on {quality['after']['n']} test images, before and after SimCLR, with the 95 % "
        "interval after it: "
        + "; ".join(
            f"{name}: {number(quality['before'][name], 3)} -> {number(quality['after'][name], 3)} "
            f"{interval_text(quality['after'][f'{name}_interval'])}"
            for name in ("knn_accuracy", "knn_auc", "probe_accuracy", "probe_auc")
        ),
        data.overlap_note(overlap),
        f"Last epoch, within training batches: alignment {last['alignment']:.3f}, uniformity {last['uniformity']:.3f} (lower is better).",
        data.split_note(inputs.manifest, inputs.settings.split),
    ]
    save(figures.embedding_curves(history, synthetic=inputs.dataset.synthetic), run.path / "figures" / "simclr.png")
    title = "Subnetwork 1: SimCLR, judged by a linear probe"
    write_report(run, title, notes=notes)
    write_model_card(run, title)
