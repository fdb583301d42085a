"""The supervised contrastive loss beside pytorch-metric-learning's, and the seconds an epoch of each network takes."""

from __future__ import annotations

import importlib.util
import time
from typing import Any

import keras
import numpy as np

from benchmarks.pairs import interleaved, row, skipped
from cervical.losses import SupConLoss
from common import device
from common.backbones import BACKBONES, build_backbone, preprocess_layer

IMAGES, SIZE, BATCH = 18123, 110, 32


def main() -> list[dict[str, Any]]:
    """All measures of the cervical study."""
    return [*supcon(), *epochs()]


def supcon(dimension: int = 128, temperature: float = 0.1) -> list[dict[str, Any]]:
    """SupCon, forward and backward: at least 1.2 times the peer at batch 64, 2.5 times at batch 1024. Values and gradients first."""
    name = "SupCon forward + backward against pytorch-metric-learning"
    for package in ("torch", "pytorch_metric_learning"):
        if importlib.util.find_spec(package) is None:
            return [skipped(name, package)]
    import tensorflow as tf
    import torch
    from pytorch_metric_learning.losses import SupConLoss as PeerLoss

    torch.set_num_threads(tf.config.threading.get_intra_op_parallelism_threads() or torch.get_num_threads())
    ours, peer, rows = SupConLoss(temperature), PeerLoss(temperature), []

    @tf.function
    def step(labels: Any, embeddings: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            value = ours(labels, embeddings)
        return value, tape.gradient(value, embeddings)

    for batch, target in ((64, 1.2), (1024, 2.5)):
        rng = np.random.default_rng(batch)
        x, y = rng.normal(size=(batch, dimension)).astype("float32"), rng.integers(0, 5, batch)
        tf_x, tf_y, torch_y = tf.constant(x), tf.constant(y), torch.tensor(y)

        def peer_step(x: Any = x, y: Any = torch_y) -> tuple[Any, Any]:
            embeddings = torch.tensor(x, requires_grad=True)
            value = peer(embeddings, y)
            value.backward()
            return value.detach().numpy(), embeddings.grad.numpy()

        def our_step(x: Any = tf_x, y: Any = tf_y) -> tuple[Any, Any]:
            value, gradient = step(y, x)
            return value.numpy(), gradient.numpy()

        (a, da), (b, db) = our_step(), peer_step()
        np.testing.assert_allclose(a, b, rtol=1e-4)
        np.testing.assert_allclose(da, db, atol=1e-5)
        # Many calls a measure: one at batch 64 takes less than a millisecond.
        repeats = 200 if batch == 64 else 10
        times = interleaved(lambda s=our_step, n=repeats: [s() for _ in range(n)], lambda s=peer_step, n=repeats: [s() for _ in range(n)])
        rows.append(row(f"{name}, batch {batch}, d {dimension}", times.ratio, target, detail=f"ours {times.ours / repeats * 1e3:.2f} ms"))
    return rows


def epochs() -> list[dict[str, Any]]:
    """Images a second and seconds an epoch of the paper's 18,123 images at 110 px, for each network, all layers trained."""
    rows = []
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (BATCH, SIZE, SIZE, 3)).astype("float32")
    y = rng.integers(0, 5, BATCH)
    for name in ("mobilenetv2_035", "mobilenetv2", "resnet50", "densenet169", "vgg16", "vgg19"):
        device.configure(0)
        base = build_backbone(name, SIZE, pooling="avg")
        inputs = keras.Input((SIZE, SIZE, 3))
        model = keras.Model(inputs, keras.layers.Dense(5, activation="softmax")(base(preprocess_layer(name)(inputs))))
        model.compile("adam", "sparse_categorical_crossentropy", jit_compile=device.jit_compile())
        model.train_on_batch(x, y)
        steps = []
        for _ in range(3):
            began = time.perf_counter()
            model.train_on_batch(x, y)
            steps.append(time.perf_counter() - began)
        rate = BATCH / sorted(steps)[1]
        print(f"  {BACKBONES[name].title:<20} {rate:7.1f} images/s  {IMAGES / rate:8.0f} s an epoch of {IMAGES} images", flush=True)
        rows.append(
            {"name": f"{name} seconds an epoch", "value": IMAGES / rate, "unit": "s", "met": None, "detail": f"{rate:.1f} images/s"}
        )
    return rows
