"""`python -m benchmarks.step FRAMEWORK NETWORK`: median seconds of a training step (batch 32, 112 px, 7 classes) in a process of its own.

FRAMEWORK is tensorflow or jax (this suite on that backend), tensorflow-bfloat16 (the same with `--precision mixed_bfloat16`) or torch
(the same network in plain PyTorch, cross-entropy, Adam with L2).
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

BATCH, PIXELS, CLASSES = 32, 112, 7
WARMUP, STEPS = 2, 7


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Images `(32, 112, 112, 3)` float32 0..255 and class numbers `(32,)` int32."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (BATCH, PIXELS, PIXELS, 3)).astype("float32"), rng.integers(0, CLASSES, BATCH).astype("int32")


def ours(network: str) -> Callable[[], Any]:
    """`train_on_batch` of the LMF study's classifier, from scratch, with cross-entropy."""
    from common.device import jit_compile
    from lmf.losses import Crossentropy
    from lmf.models import build_classifier, with_logits
    from lmf.optimizer import CoupledAdam

    model = with_logits(build_classifier(network, CLASSES, PIXELS))
    model.compile(CoupledAdam(), loss=Crossentropy(), jit_compile=jit_compile())
    images, labels = batch()
    return lambda: model.train_on_batch(images, labels)


def torchs(network: str) -> Callable[[], Any]:
    """The same step of the same network in plain PyTorch, whose first loss must be ours."""
    import torch

    from benchmarks.torch_network import TorchNetwork
    from lmf.models import build_classifier, with_logits

    model = with_logits(build_classifier(network, CLASSES, PIXELS))
    made = TorchNetwork(model, "logits", training=True)
    optimizer = torch.optim.Adam(made.model.parameters(), lr=1e-4, weight_decay=5e-4)
    images, labels = batch()
    x, y = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels.astype("int64"))
    mine = np.asarray(model(images, training=True))
    np.testing.assert_allclose(made.forward(made.model, x)[1].detach().numpy(), mine, rtol=1e-2, atol=1e-2 * np.abs(mine).max())

    def step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(made.forward(made.model, x)[1], y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main(framework: str, network: str) -> None:
    backend, _, half = framework.partition("-")
    os.environ["KERAS_BACKEND"] = "tensorflow" if backend == "torch" else backend
    if half:
        import keras

        keras.config.set_dtype_policy(f"mixed_{half}")
    step = torchs(network) if backend == "torch" else ours(network)
    times = []
    for index in range(WARMUP + STEPS):
        began = time.perf_counter()
        step()
        if index >= WARMUP:
            times.append(time.perf_counter() - began)
    print(statistics.median(times))


if __name__ == "__main__":
    main(*sys.argv[1:3])
