"""The LMF loss and its gradient beside the same formula in plain PyTorch; a training step with LMF beside one with cross-entropy."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks.pairs import interleaved, row, skipped
from common.device import jit_compile
from lmf.losses import LOSSES, Crossentropy, ImbalanceLoss, LMFLoss, build_loss
from lmf.models import build_classifier, with_logits
from lmf.optimizer import CoupledAdam

COUNTS = [607, 2327, 1836, 167, 3166, 9013, 440, 177]  # ISIC 2019's training images, Table 5
CLASSES_7 = [229, 360, 769, 81, 779, 4693, 100]  # HAM10000's
CALLS = 200


def main() -> list[dict[str, Any]]:
    """At least as fast as PyTorch at batches of 32 and 1024 with 8 classes; each loss's training step at most 3 % slower
    than cross-entropy's at batches of 32 and 256 with 7.

    Without XLA both ways to call it are measured: each evaluation a call of its own, and all in one graph, as in a training step.
    """
    rows = []
    for batch in (32, 1024):
        name = f"LMF loss and gradient, batch {batch}, against PyTorch"
        if importlib.util.find_spec("torch") is None:
            rows.append(skipped(name, "torch"))
            continue
        rng = np.random.default_rng(0)
        logits, labels = rng.normal(0, 3, (batch, len(COUNTS))).astype("float32"), rng.integers(0, len(COUNTS), batch)
        peer = torch_gradient(logits, labels, 1.0, 2.0)
        loss, tensorflow = LMFLoss(COUNTS, 1.0, 2.0), keras.backend.backend() == "tensorflow"
        # Training on a CPU compiles without XLA (common/device.py); on JAX both are one.
        for xla in (True, False) if tensorflow else (True,):
            ours = gradient(loss, logits, labels, xla)
            same(ours, peer)
            times = interleaved(lambda call=ours: repeat(call), lambda call=peer: repeat(call))
            detail = f"ours {1e6 * times.ours / CALLS:.0f} us, PyTorch {1e6 * times.peer / CALLS:.0f} us"
            if not xla:
                # What no loss can go below: a tf.function that hands its arguments back.
                nothing = empty_call(logits, labels)
                empty = interleaved(lambda call=nothing: repeat(call), lambda call=peer: repeat(call))
                detail += f"; an empty call {1e6 * empty.ours / CALLS:.0f} us"
            rows.append(row(f"{name}{'' if xla else ', without XLA'}", times.ratio, 1.0, detail=detail))
        if tensorflow:
            ours = gradients_in_one_graph(loss, logits, labels)
            same(ours, peer)
            times = interleaved(ours, lambda call=peer: repeat(call))
            detail = f"ours {1e6 * times.ours / CALLS:.0f} us, PyTorch {1e6 * times.peer / CALLS:.0f} us"
            rows.append(row(f"{name}, without XLA, {CALLS} in one graph", times.ratio, 1.0, detail=detail))
    for batch, pairs in ((32, 11), (256, 5)):
        plain = training_step(Crossentropy(CLASSES_7), batch)
        for name in LOSSES:
            if name != "cce":
                times = interleaved(training_step(build_loss(name, CLASSES_7), batch), plain, pairs=pairs, warmup=2)
                detail = f"MobileNetV2 0.35, 96 px: {1e3 * times.ours:.0f} ms and {1e3 * times.peer:.0f} ms"
                title = f"training step with {name}, batch {batch}, over one with cross-entropy"
                rows.append(row(title, 1 / times.ratio, 1.03, at_most=True, detail=detail))
    return rows


def same(ours: Callable[[], Any], peer: Callable[[], Any]) -> None:
    """Raises AssertionError unless both give the same loss and gradient."""
    for mine, theirs in zip(ours(), peer(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-7)


def repeat(call: Callable[[], Any]) -> None:
    for _ in range(CALLS):
        call()


def gradient(loss: ImbalanceLoss, logits: np.ndarray, labels: np.ndarray, xla: bool) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """A compiled call that gives the loss and its gradient `(batch, classes)` as NumPy arrays, on the active backend.

    xla: of TensorFlow. Without it, starting so small a graph takes longer than running it (`empty_call`).
    """
    z, y = keras.ops.convert_to_tensor(logits), keras.ops.convert_to_tensor(labels, "int32")
    if keras.backend.backend() == "jax":
        import jax

        both = jax.jit(jax.value_and_grad(lambda values, truth: loss(truth, values)))
        return lambda: tuple(np.asarray(each) for each in both(z, y))
    import tensorflow as tf

    @tf.function(autograph=False, jit_compile=xla)
    def both(values, truth):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            value = loss(truth, values)
        return value, tape.gradient(value, values)

    return lambda: tuple(each.numpy() for each in both(z, y))


def gradients_in_one_graph(loss: ImbalanceLoss, logits: np.ndarray, labels: np.ndarray) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """One call of TensorFlow that computes loss and gradient `CALLS` times, one after another, and gives the last ones as NumPy arrays.

    This is what the loss adds to a training step, which starts one graph for the whole network; PyTorch, which has no graph, pays for
    each operation's call in its training step too. The steps of size 0 between the evaluations, and the loop itself, count as ours; they
    keep TensorFlow from computing all of them once.
    """
    import tensorflow as tf

    y, none = tf.constant(labels, "int32"), tf.constant(0.0)

    @tf.function(autograph=False)
    def all_of_them(values, truth, step):
        def body(index, here, *_):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(here)
                value = loss(truth, here)
            slope = tape.gradient(value, here)
            return index + 1, here - step * slope, value, slope

        start = (0, values, tf.constant(0.0), tf.zeros_like(values))
        return tf.while_loop(lambda index, *_: index < CALLS, body, start, parallel_iterations=1)[2:]

    z = tf.constant(logits)
    return lambda: tuple(each.numpy() for each in all_of_them(z, y, none))


def empty_call(logits: np.ndarray, labels: np.ndarray) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """A tf.function of the same arguments, without XLA, that computes nothing."""
    import tensorflow as tf

    z, y = tf.constant(logits), tf.constant(labels, "int32")

    @tf.function(autograph=False)
    def nothing(values, truth):
        return tf.identity(values), tf.identity(truth)

    return lambda: tuple(each.numpy() for each in nothing(z, y))


def torch_gradient(logits: np.ndarray, labels: np.ndarray, alpha: float, beta: float) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """Eq. 8 in plain PyTorch, from the formula: alpha * LDAM (eq. 5) + beta * alpha-balanced focal loss (eq. 7), batch means."""
    import torch
    from torch.nn.functional import cross_entropy, log_softmax

    counts = torch.tensor(COUNTS, dtype=torch.float32)
    margins = 0.5 * (counts.min() / counts) ** 0.25
    y = torch.from_numpy(labels)

    def call() -> tuple[np.ndarray, np.ndarray]:
        z = torch.from_numpy(logits).requires_grad_(True)
        margin = margins[y]
        shifted = z - torch.zeros_like(z).scatter_(1, y[:, None], margin[:, None])
        log_p = log_softmax(z, dim=1).gather(1, y[:, None])[:, 0]
        focal = -(margin * (1 - log_p.exp()) ** 1.5 * log_p).mean()
        value = alpha * cross_entropy(shifted, y) + beta * focal
        value.backward()
        return value.detach().numpy(), z.grad.numpy()

    return call


def training_step(loss: ImbalanceLoss, batch: int) -> Callable[[], Any]:
    """`train_on_batch` of the study's own network with `loss`."""
    keras.utils.set_random_seed(0)
    model = with_logits(build_classifier("mobilenetv2_035", len(CLASSES_7), 96))
    model.compile(CoupledAdam(), loss=loss, jit_compile=jit_compile())
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, 96, 96, 3)).astype("float32")
    labels = rng.integers(0, len(CLASSES_7), batch).astype("int32")
    return lambda: model.train_on_batch(images, labels)
