"""The melanoma study: the SimCLR loss against lightly's, twelve heatmaps of a batch against tf-keras-vis, memory of a segmentation step,
seconds an image of `predict` with five masks.

Each comparison first checks that both sides give the same numbers.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.bench_explanation import double_precision
from benchmarks.pairs import interleaved, row, skipped

TEMPERATURE, DIMENSIONS = 0.5, 128  # A.3, §4.2
BATCH, SIZE, BACKBONE = 8, 224, "mobilenetv2_035"
PAPER_BACKBONE = "resnet50"  # A.2
INDICATORS = 5


def main() -> list[dict[str, Any]]:
    """All measures; prints one line each."""
    rows = [simclr_loss(batch) for batch in (24, 512)]
    found = importlib.util.find_spec("tf_keras_vis")
    rows.append(twelve_maps() if found else skipped("twelve heatmaps of a batch of 8 against tf-keras-vis", "tf-keras-vis"))
    return [*rows, segmentation_memory(), predicted_masks()]


def simclr_loss(batch: int) -> dict[str, Any]:
    """Loss and gradient of two views `(batch, 128)`: ours compiled, the peer in PyTorch."""
    name = f"SimCLR loss and gradient, batch {batch}"
    peer = torch_peer()
    if peer is None:
        return skipped(name, "lightly (or pytorch-metric-learning)")
    package, make = peer
    views = np.random.default_rng(0).normal(size=(2, batch, DIMENSIONS)).astype("float32")
    ours, theirs = own_gradient(*views), make(*views)
    for mine, other in zip(ours(), theirs(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)
    calls = 50 if batch < 100 else 1  # the package lists all pairs of views: seconds a call
    times = interleaved(lambda: [ours() for _ in range(calls)], lambda: [theirs() for _ in range(calls)])
    detail = f"ours {1e6 * times.ours / calls:.0f} us, {package} {1e6 * times.peer / calls:.0f} us"
    return row(f"{name}, against {package}", times.ratio, 1.0, detail=detail)


def own_gradient(first: np.ndarray, second: np.ndarray) -> Callable[[], tuple[np.ndarray, ...]]:
    """A compiled call: (loss, gradient of the first view, gradient of the second)."""
    import keras

    from melanoma.losses import SimCLRLoss

    loss, z = SimCLRLoss(TEMPERATURE), [keras.ops.convert_to_tensor(view) for view in (first, second)]
    if keras.backend.backend() == "jax":
        import jax

        both = jax.jit(jax.value_and_grad(lambda a, b: loss(a, b), argnums=(0, 1)))

        def call() -> tuple[np.ndarray, ...]:
            value, gradients = both(*z)
            return (np.asarray(value), *map(np.asarray, gradients))

        return call
    import tensorflow as tf

    @tf.function(autograph=False)
    def both(a, b):
        with tf.GradientTape() as tape:
            tape.watch((a, b))
            value = loss(a, b)
        return value, *tape.gradient(value, (a, b))

    return lambda: tuple(each.numpy() for each in both(*z))


def torch_peer() -> tuple[str, Callable] | None:
    """(package, maker of a call like ours); None where PyTorch or both packages are missing."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    try:
        # lightly needs a torchvision built for the very same PyTorch: without one it is an ImportError, with another a RuntimeError.
        from lightly.loss import NTXentLoss

        package, loss = "lightly", NTXentLoss(temperature=TEMPERATURE)
    except (ImportError, RuntimeError):
        if importlib.util.find_spec("pytorch_metric_learning") is None:
            return None
        from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss

        package, loss = "pytorch-metric-learning", SelfSupervisedLoss(NTXentLoss(temperature=TEMPERATURE))

    def make(first: np.ndarray, second: np.ndarray) -> Callable[[], tuple[np.ndarray, ...]]:
        a, b = (torch.tensor(view, requires_grad=True) for view in (first, second))

        def call() -> tuple[np.ndarray, ...]:
            value = loss(a, b)
            gradients = torch.autograd.grad(value, (a, b))
            return (value.detach().numpy(), *(each.numpy() for each in gradients))

        return call

    return package, make


def twelve_maps() -> dict[str, Any]:
    """The twelve heatmaps of eight images, as subnetwork 3 asks for them, against twelve calls of the package on the same batch."""
    import keras
    from tf_keras_vis.gradcam import Gradcam

    from common.backbones import batch_normalisations, build_backbone
    from melanoma.models import heatmap_layers
    from melanoma.training.heatmaps import HeatmapMaker

    def parts() -> tuple[np.ndarray, HeatmapMaker, Callable[..., list[np.ndarray]]]:
        keras.utils.set_random_seed(0)
        # The package cannot look into nested models, so the classifier is flat here.
        network = keras.applications.MobileNetV2(input_shape=(SIZE, SIZE, 3), alpha=0.35, weights=None, include_top=False)
        for layer in batch_normalisations(network):
            layer.momentum = 0.0
        logits = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(network.output))
        model = keras.Model(network.input, logits)
        images = np.random.default_rng(0).normal(0, 1, (BATCH, SIZE, SIZE, 3)).astype(keras.config.floatx())
        model(images, training=True)
        visual = Gradcam(model, clone=False)

        def package(expand: bool = True) -> list[np.ndarray]:
            options = {"seek_penultimate_conv_layer": False, "expand_cam": expand, "normalize_cam": expand}
            return [np.asarray(visual(lambda output: output[:, 0], images, penultimate_layer=name, **options)) for name in layers]

        return images, HeatmapMaker(model, layers), package

    layers = heatmap_layers(build_backbone(BACKBONE, SIZE), BACKBONE)
    # In float32 two right ways differ by 1e-2 in a network of random weights: see there.
    with double_precision():
        images, maker, package = parts()
        for ours, theirs in zip(maker(images, np.array([1, 0], "float32")), package(expand=False), strict=True):
            highest = theirs.max(axis=(1, 2), keepdims=True)
            np.testing.assert_allclose(ours, theirs / np.where(highest > 0, highest, 1), atol=1e-4)
    images, maker, package = parts()
    weights = np.array([1, 0], "float32")
    times = interleaved(lambda: maker(images, weights), package)
    detail = f"{BATCH} images at {SIZE} px: {times.ours:.3f} s, {times.peer:.2f} s"
    return row("twelve heatmaps of a batch of 8 against tf-keras-vis", times.ratio, 50, detail=detail)


STEP = f"""
import re
import numpy as np
from common.cli import prepare_environment
prepare_environment()
from common import device
from melanoma import models
from melanoma.losses import SoftDiceLoss
encoder = models.build_encoder("{PAPER_BACKBONE}", {SIZE})
segmenter = models.build_segmenter(encoder, "{PAPER_BACKBONE}")
segmenter.compile("adam", SoftDiceLoss(), jit_compile=device.jit_compile())
maps = [np.random.rand({BATCH}, {SIZE} // stride, {SIZE} // stride, 3).astype("float32") for stride in models.STRIDES]
mask = np.ones(({BATCH}, {SIZE}, {SIZE}, 1), "float32")
def peak():
    # Not getrusage: its figure begins with the memory of the process that started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before = peak()
for _ in range(2):
    segmenter.train_on_batch(maps, mask)
print(before, peak())
"""


def segmentation_memory() -> dict[str, Any]:
    """Peak memory of a segmentation step at 224 px, batch 8, in a process of its own."""
    ended = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, check=True)
    before, peak = map(float, ended.stdout.split()[-2:])
    detail = f"{PAPER_BACKBONE}, {before:.0f} MiB of it before the step (libraries, network)"
    return row("peak memory of a segmentation step, 224 px, batch 8", peak, 3 * 1024, "MiB", at_most=True, detail=detail)


def predicted_masks(images: int = 16) -> dict[str, Any]:
    """Diagnosis, five masks and a sheet of an image by a run of the sample with the small network; libraries and compiling not counted."""
    from melanoma.drawing import Drawer, draw

    with tempfile.TemporaryDirectory() as name:
        run, pictures = Path(name) / "run", Path(name) / "pictures"
        short = ["--no-simclr", "--classifier-epochs", "1", "--segmentation-epochs", "1", "--head-epochs", "1", "--limit", "60"]
        where = ["--run-dir", str(run), "--cache-dir", str(Path(name) / "cache")]
        subprocess.run([sys.executable, "-m", "melanoma", "train", *short, *where], check=True, capture_output=True)
        rng = np.random.default_rng(0)
        pictures.mkdir()
        files = [pictures / f"{number:02d}.png" for number in range(images)]
        for path in files:
            Image.fromarray(rng.integers(0, 256, (450, 600, 3), dtype=np.uint8)).save(path)
        drawer = Drawer(run)
        draw(drawer, files, Path(name) / "first")
        began = time.perf_counter()
        draw(drawer, files, Path(name) / "second")
        seconds = (time.perf_counter() - began) / images
        assert len(list((Path(name) / "second").glob("00_*.png"))) == INDICATORS + 1
    return row(
        "an image of `melanoma predict` with five masks", seconds, 1, "s", at_most=True, detail=f"{BACKBONE} at 96 px, {images} images"
    )
