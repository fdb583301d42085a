"""Subnetwork 1 (§4.2): SimCLR on Dataset B, and how good its embeddings are on Dataset A.

A finished run holds `encoder.weights.h5` for the later stages, and, like every run, a classifier: the linear probe on the frozen encoder.
"""

import logging
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import ops

from common import device
from common.backbones import RecomputeBatchnorm
from common.data.dermoscopy import image_id
from common.data.pipeline import Batches
from common.errors import UsageError
from common.runs.files import atomic, plain
from common.runs.fitting import fit
from common.runs.folder import Run
from common.runs.reading import RunFolder
from melanoma import models
from melanoma.experiments.base import STUDY
from melanoma.experiments.pretrain import own
from melanoma.losses import PairedViewsLoss
from melanoma.training.evaluation import tested, write_results
from melanoma.training.inputs import Inputs, open_run
from melanoma.training.optimiser import adam
from melanoma.training.probes import embedding_quality

log = logging.getLogger(__name__)

ENCODER = "encoder.weights.h5"
SEEN = "dataset_b.csv"  # the images that a pre-training has seen
SHORT = 500  # steps


def origin(inputs: Inputs) -> dict[str, Any]:
    """What a run's recipe says of Dataset B and of its pre-training: {"dataset_b", "pretraining"}, given or to be made; {} without SimCLR.

    The pre-training counts by its own recipe, so that a run that makes its own and one that is given it are the same run.

    Raises:
        UsageError: `--pretrained` is another kind of run, of another network, scaling or first weights, has seen images of this data set,
            or does not say which it has seen.
    """
    settings = inputs.settings
    if settings.order == "interleaved":
        simclr = {name: getattr(settings, name) for name in ("temperature", "projection", "pretrain_batch")}
        return {"dataset_b": inputs.facts_b, "pretraining": simclr} if settings.simclr else {}
    if not settings.simclr:
        return {}
    if settings.pretrained is None:
        return {"dataset_b": inputs.facts_b, "pretraining": _without_seed(plain(inputs.recipe(own(settings), dataset_b=inputs.facts_b)))}
    return given(inputs, settings.pretrained)


def given(inputs: Inputs, pretrained: Path) -> dict[str, Any]:
    """`origin` of a run that is given its pre-training."""
    folder = RunFolder.of(pretrained)
    config = folder.read_json("config.json")
    theirs = config["settings"]
    if (config.get("study"), config.get("experiment")) != (STUDY, "pretrain"):
        raise UsageError(f"--pretrained {pretrained}: is no run of `melanoma pretrain`")
    ours = plain(inputs.recipe(inputs.settings))
    for name in ("backbone", "normalise", "weights", "weights_sha256"):  # whose weights the encoder began from stands in the recipe
        if theirs.get(name) != ours.get(name):
            raise UsageError(f"--pretrained {pretrained}: its {name} is {theirs.get(name)}, this run's {ours.get(name)}")
    if not folder.has(SEEN):
        raise UsageError(f"--pretrained {pretrained}: does not say which images it has seen ({SEEN} is missing); pre-train again")
    images = {image_id(name) for name in inputs.manifest["image"]}
    both = sorted(images & {image_id(name) for name in folder.read_table(SEEN, dtype=str)["image"]})
    if both:
        raise UsageError(
            f"--pretrained {pretrained}: it has seen {len(both)} of this data set's {len(images)} images ({', '.join(both[:3])}); expected "
            "a pre-training on other images"
        )
    return {"dataset_b": theirs["dataset_b"], "pretraining": _without_seed(theirs)}


def _without_seed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in ("seed", "fold", "dataset_b", "classes", "synthetic")}


def pretrain(inputs: Inputs, run_dir: Path | None = None) -> Run:
    """Train subnetwork 1 for these inputs, or return the run that is finished already; report and figures come after."""
    settings = inputs.settings
    run = open_run(inputs, "pretrain", run_dir, own(settings), dataset_b=inputs.facts_b)
    if run.finished:
        return run
    device.configure(settings.seed, settings.precision, settings.devices)
    run.write_csv("manifest.csv", inputs.manifest)
    run.write_csv(SEEN, inputs.dataset_b[0].manifest[["image"]])
    encoder = models.build_encoder(settings.backbone, settings.image_size, settings.weights)
    normalise = models.normalisation(settings.normalise, settings.backbone)
    probe = models.build_final([encoder], normalise)
    both = models.with_features(probe)
    before = embedding_quality(both, inputs)
    train_simclr(run, inputs, encoder, normalise)
    after = embedding_quality(both, inputs)
    with atomic(run.path / ENCODER) as temporary:
        encoder.save_weights(temporary)
    quality = {"before": before, "after": after}
    run.write_json("embedding_quality.json", quality)
    run.save_model(probe)
    write_results(run, inputs, both.predict(tested(inputs), verbose=0)[1], embedding_quality=quality, dataset_b=inputs.dataset_b[1])
    return run


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
    statistics = settled(encoder, normalise, batches)
    statistics.on_epoch_begin(len(history) - 1)
    statistics.on_test_begin()  # nothing is validated: once, of the epoch that is kept
    return history


def settled(encoder: keras.Model, normalise: keras.layers.Layer, batches: Batches) -> RecomputeBatchnorm:
    """Callback that makes the encoder's batch-normalisation statistics plain averages over `batches` before each validation of a short
    training. With momentum 0.9 the initial values are gone after some fifty steps, so longer ones need none of it.
    """
    images, first = keras.Input(encoder.input_shape[1:]), copy(batches)
    first.epoch = 0
    network = keras.Model(images, encoder(normalise(images)))
    return RecomputeBatchnorm(
        lambda: (first[i] for i in range(len(first))), lambda epoch: (epoch + 1) * len(first) < SHORT, network=network
    )


def simclr_batches(images: np.ndarray, batch: int, seed: int) -> Batches:
    """Dataset B in full batches (a rest would have fewer negatives); the targets are not used."""
    return Batches(images, np.zeros(len(images), "float32"), batch_size=batch, seed=seed, shuffle=True, drop_remainder=True)


def alignment(_: Any, pairs: Any) -> Any:
    """Mean ||z1 - z2||² of an image's two views, embeddings `(batch, 2, d)` brought to unit length (Wang & Isola 2020); lower is better."""
    z = _unit(pairs)
    return ops.mean(ops.sum(ops.square(z[:, 0] - z[:, 1]), axis=-1))


def uniformity(_: Any, pairs: Any) -> Any:
    """log mean exp(-2 ||z_i - z_j||²) over different images' first views (Wang & Isola 2020); lower is better, of n images -4 n / (n - 1)
    is the least possible."""
    z = _unit(pairs)[:, 0]
    count = ops.shape(z)[0]
    kernel = ops.exp(-2 * (2 - 2 * ops.matmul(z, ops.transpose(z))))
    others = ops.cast(count * (count - 1), "float32")
    return ops.log((ops.sum(kernel) - ops.sum(ops.diagonal(kernel))) / ops.maximum(others, 1.0))


def _unit(pairs: Any) -> Any:
    pairs = ops.cast(pairs, "float32")
    return pairs / ops.sqrt(ops.sum(ops.square(pairs), axis=-1, keepdims=True) + 1e-12)
