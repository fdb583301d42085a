"""`python -m benchmarks.step FRAMEWORK NETWORK`: median seconds of a training step (batch 32, 112 px, 7 classes) in a process of its own.

FRAMEWORK is tensorflow or jax (this suite on that backend) or torch (torchvision's network, cross-entropy, Adam with L2).
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
TORCH_NAMES = {"mobilenetv2": "mobilenet_v2", "resnet50": "resnet50"}


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
    """The same step in plain PyTorch."""
    import torch
    import torchvision

    model = getattr(torchvision.models, TORCH_NAMES[network])(num_classes=CLASSES).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=5e-4)
    images, labels = batch()
    x, y = torch.from_numpy(images.transpose(0, 3, 1, 2) / 127.5 - 1), torch.from_numpy(labels.astype("int64"))

    def step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main(framework: str, network: str) -> None:
    if framework != "torch":
        os.environ["KERAS_BACKEND"] = framework
    step = torchs(network) if framework == "torch" else ours(network)
    times = []
    for index in range(WARMUP + STEPS):
        began = time.perf_counter()
        step()
        if index >= WARMUP:
            times.append(time.perf_counter() - began)
    print(statistics.median(times))


if __name__ == "__main__":
    main(*sys.argv[1:3])
