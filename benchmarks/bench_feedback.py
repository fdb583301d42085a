"""A tuning step with Grad-CAM inside, against the thesis's plan in PyTorch (deep copy, second pass, image by image) and our plain step."""

from __future__ import annotations

import copy
import ctypes
import functools
import gc
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from benchmarks.bench_explanation import double_precision
from benchmarks.pairs import interleaved, row, skipped
from benchmarks.torch_network import TorchNetwork
from common.backbones import keep_batchnorm_frozen, preprocess_layer, recompute_batchnorm
from common.device import jit_compile
from feedback.models import SelfExplaining, build_classifier, skincare_vgg16

SIDE, BATCH, WEIGHT = 96, 16, 0.3
LAYER = "out_relu"  # the last convolution, as in the thesis: what follows is dense


def main() -> list[dict[str, Any]]:
    """At least 2.5 times the thesis's plan, at most 1.25 times our plain step, no second copy in memory; VGG16's seconds an image."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, SIDE, SIDE, 3)).astype("float32")
    labels, masks = rng.integers(0, 8, BATCH).astype("int32"), _discs(rng)
    rows = []
    name = f"tuning step, batch {BATCH}, {SIDE} px, against the thesis's plan"
    model = tuned(network())
    if importlib.util.find_spec("torch") is None:
        rows.append(skipped(name, "torch"))
    else:
        peer = ThesisPlan(network(), LAYER)
        check_equal(images, labels, masks)
        check_timed_pair(images, labels, masks)
        times = interleaved(lambda: step(model, images, labels, masks), lambda: peer.step(images, labels, masks))
        detail = f"ours {1e3 * times.ours:.0f} ms, PyTorch {1e3 * times.peer:.0f} ms; loss and gradients equal "
        detail += "to 1e-5: of this pair in float64, of a small network in float32 too"
        rows.append(row(name, times.ratio, 2.5, detail=detail))
    plain = network()
    keep_batchnorm_frozen(plain)
    plain.compile(keras.optimizers.SGD(1e-4), loss="sparse_categorical_crossentropy", jit_compile=jit_compile())
    times = interleaved(
        lambda: step(model, images, labels, masks), lambda: plain.train_on_batch(images, labels), pairs=11, warmup=2
    )  # fmt: skip
    detail = f"{1e3 * times.ours:.0f} ms and {1e3 * times.peer:.0f} ms"
    rows.append(row("tuning step over our plain step", 1 / times.ratio, 1.25, at_most=True, detail=detail))
    balanced = tuned_balanced(network())
    anchor = np.full((BATCH, 8), 0.125, "float32")
    wanted = {"label": labels, "mask": masks, "anchor": anchor}
    times = interleaved(
        lambda: balanced.train_on_batch(images, wanted), lambda: plain.train_on_batch(images, labels), pairs=11, warmup=2
    )  # fmt: skip
    detail = f"{1e3 * times.ours:.0f} ms and {1e3 * times.peer:.0f} ms; the gradient of each term by itself"
    rows.append(row("step with an anchor and two normalised terms, the same", 1 / times.ratio, 1.6, at_most=True, detail=detail))
    rows += memory_rows()
    rows.append(vgg16_row())
    return rows


def network() -> keras.Model:
    """MobileNetV2 0.35 with two dense layers, no dropout (both plans draw different units otherwise), the same weights at every call."""
    keras.utils.set_random_seed(0)
    model = build_classifier("mobilenetv2_035", SIDE, 8, head="average", units=64, dropout=0.0)
    # Untrained and without statistics the activations fade to 1e-7, and the maps would be rounding errors.
    images = np.random.default_rng(1).integers(0, 256, (BATCH, SIDE, SIDE, 3)).astype("float32")
    recompute_batchnorm(model, [images])
    return model


def tuned(classifier: keras.Model, layer: str = LAYER) -> SelfExplaining:
    """Our model, compiled; constant channel weights, as the thesis has them."""
    model = SelfExplaining(classifier, explanation_weight=WEIGHT, layers=(layer,))
    model.compile(keras.optimizers.SGD(1e-4), jit_compile=jit_compile())
    return model


def tuned_balanced(classifier: keras.Model) -> SelfExplaining:
    """The balanced recipe's model, compiled: both terms' gradients of known size, and the anchor."""
    model = SelfExplaining(
        classifier, explanation_weight=0.5, classification_weight=1.0, normalise_terms=True, anchor_weight=1.0, differentiate_weights=True,
        layers=(LAYER,),
    )  # fmt: skip
    model.compile(keras.optimizers.SGD(1e-4), jit_compile=jit_compile())
    return model


def step(model: SelfExplaining, images: np.ndarray, labels: np.ndarray, masks: np.ndarray) -> float:
    """One step; its loss."""
    return float(model.train_on_batch(images, {"label": labels, "mask": masks}, return_dict=True)["loss"])


def small_network() -> keras.Model:
    """Three convolutions and two dense layers. In fifty layers some ReLU's input lies within rounding of zero, where each library takes
    another side, and the gradients of equal networks differ by a hundredth; here they can be compared."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = preprocess_layer("tf")(inputs)
    for number, filters in enumerate((8, 16, 24)):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = keras.layers.ReLU(name=f"relu{number}")(x)
    x = keras.layers.Dense(16, activation="relu", name="fc1")(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, keras.layers.Dense(8, activation="softmax", name="predictions")(x))


def check_equal(images: np.ndarray, labels: np.ndarray, masks: np.ndarray) -> None:
    """Loss and gradients of both plans agree to 1e-5 of a small network in float32; AssertionError otherwise."""
    compare_plans(ThesisPlan(small_network(), "relu2"), tuned(small_network(), "relu2"), images, labels, masks)


def check_timed_pair(images: np.ndarray, labels: np.ndarray, masks: np.ndarray) -> None:
    """Loss and gradients of the two plans that are timed agree to 1e-5 of the largest gradient, in float64; AssertionError otherwise.

    In float32 fifty layers of rounding lift values over ReLU6's edges and switch whole paths on or off (`double_precision`).
    """
    with double_precision():
        peer, model = ThesisPlan(network(), LAYER), tuned(network())
        peer.model.double()  # the last layer is float32 by itself
        compare_plans(peer, model, images.astype("float64"), labels, masks)


def compare_plans(peer: ThesisPlan, model: SelfExplaining, images: np.ndarray, labels: np.ndarray, masks: np.ndarray) -> None:
    """One step of each; AssertionError unless the losses agree to 1e-5 and the gradients to 1e-5 of the largest, but of 1 at least."""
    model.optimizer.learning_rate = 1.0  # then the change of a weight is its gradient
    before = {v.path: ops.convert_to_numpy(v) for v in model.classifier.trainable_variables}
    loss = step(model, images, labels, masks)
    expected_loss, expected = peer.gradients(images, labels, masks)
    np.testing.assert_allclose(loss, expected_loss, atol=1e-5)
    tolerance = 1e-5 * max(1.0, *(float(np.abs(gradient).max()) for gradient in expected.values()))
    for variable in model.classifier.trainable_variables:
        change = before[variable.path] - ops.convert_to_numpy(variable)
        np.testing.assert_allclose(change, expected[variable.path], rtol=0, atol=tolerance, err_msg=variable.path)


def memory_rows() -> list[dict[str, Any]]:
    """Growth of the resident memory over the first three steps (Linux), each plan in a process of its own, of a network whose weights
    outweigh its maps. Compiling is in it, for the plain step as for ours."""
    kinds = ["plain", "tuned", *(["thesis"] if importlib.util.find_spec("torch") else [])]
    grown = {kind: _grown(kind) for kind in kinds}
    weights = 4e-6 * wide_network().count_params()
    detail = ", ".join(f"{kind} {value:.0f} MB" for kind, value in grown.items()) + f"; the weights alone {weights:.0f} MB"
    extra = (grown["tuned"] - grown["plain"]) / weights
    rows = [row("memory of a step beyond the plain step's, in copies of the model", extra, 0.5, at_most=True, detail=detail)]
    if "thesis" in grown:
        name = "the thesis's plan, the same, in copies of the model more than ours"
        rows.append(row(name, (grown["thesis"] - grown["tuned"]) / weights, 0.5, detail="it deep-copies the model"))
    return rows


def _grown(kind: str) -> float:
    done = subprocess.run([sys.executable, "-m", "benchmarks.bench_feedback", kind], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def measure_memory(kind: str) -> float:
    """MB by which this process's peak rises over three steps: "plain" or "tuned" (ours), or "thesis" (PyTorch). Gradients are in all."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, SIDE, SIDE, 3)).astype("float32")
    labels, masks = rng.integers(0, 8, 2).astype("int32"), _discs(rng)[:2]
    model = wide_network()
    if kind == "plain":
        model.compile(keras.optimizers.SGD(1e-4), loss="sparse_categorical_crossentropy", jit_compile=jit_compile())
        one = functools.partial(model.train_on_batch, images, labels)
    elif kind == "tuned":
        one = functools.partial(step, tuned(model, "relu2"), images, labels, masks)
    else:
        one = functools.partial(ThesisPlan(model, "relu2").step, images, labels, masks)
    gc.collect()
    # What building left free in the process would hide a copy: give it back as far as the library lets go of it (the gradients, as large
    # as the weights, fill what is left in every plan), then let the kernel forget the peak so far.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _memory("VmRSS")
    for _ in range(3):
        one()
    return _memory("VmHWM") - before


def _memory(name: str) -> float:
    """MB: VmRSS, what this process holds now, or VmHWM, the most it held."""
    (line,) = [line for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if line.startswith(name)]
    return int(line.split()[1]) / 1024


def wide_network() -> keras.Model:
    """`small_network` with a dense part of 33 million weights, as the thesis's network has most of its weights there."""
    small = small_network()
    x = small.get_layer("relu2").output
    x = keras.layers.GlobalAveragePooling2D()(x)
    for number in (1, 2):
        x = keras.layers.Dense(5760, activation="relu", name=f"wide{number}")(x)
    return keras.Model(small.input, keras.layers.Dense(8, activation="softmax", name="predictions")(x))


def vgg16_row() -> dict[str, Any]:
    """Seconds an image of Skin Care VGG16 at 227 px, batch 1, beside the thesis's 3.4 to 7.8 on its GPU (262 to 554 minutes an epoch)."""
    keras.utils.set_random_seed(0)
    model = tuned(skincare_vgg16(), "block5_conv3")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 227, 227, 3)).astype("float32")
    mask = np.zeros((1, 227, 227), "uint8")
    mask[:, 60:160, 60:160] = 255
    label = np.array([1], "int32")
    times = interleaved(lambda: step(model, image, label, mask), lambda: None, pairs=7)
    return row("Skin Care VGG16, 227 px: seconds an image", times.ours, 3.4, "s", at_most=True, detail="thesis: 3.4 to 7.8 on a GTX Titan")


def _discs(rng: np.random.Generator) -> np.ndarray:
    grid = np.arange(SIDE)
    centres = rng.integers(30, 66, (BATCH, 2))
    return np.stack([((grid[:, None] - r) ** 2 + (grid[None] - c) ** 2 < 400).astype("uint8") * 255 for r, c in centres])


class ThesisPlan(TorchNetwork):
    """Algorithm 2 of the thesis in PyTorch: for each image a deep copy of the model, a pass through it for the a_k, and a second pass.

    The network is our Keras one layer for layer, with its weights, so that loss and gradients can be compared.
    """

    def __init__(self, network: keras.Model, layer: str) -> None:
        super().__init__(network, layer)
        self.optimizer = self.torch.optim.SGD(self.model.parameters(), 1e-4)

    def step(self, images: np.ndarray, labels: np.ndarray, masks: np.ndarray) -> float:
        self.optimizer.zero_grad()
        loss = self._accumulate(images, labels, masks)
        self.optimizer.step()
        return loss

    def gradients(self, images: np.ndarray, labels: np.ndarray, masks: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        """Loss, and gradients under the Keras variables' paths in their shapes."""
        self.optimizer.zero_grad()
        loss = self._accumulate(images, labels, masks)
        found = dict(self.model.named_parameters())
        result = {}
        for path, (name, axes) in self.names.items():
            gradient = found[name].grad
            result[path] = np.zeros((), "float32") if gradient is None else gradient.permute(axes).numpy() if axes else gradient.numpy()
        return loss, result

    def _accumulate(self, images: np.ndarray, labels: np.ndarray, masks: np.ndarray) -> float:
        torch = self.torch
        total = 0.0
        for image, label, mask in zip(images, labels, masks, strict=True):
            x = torch.from_numpy(image).permute(2, 0, 1)[None]
            y = torch.from_numpy((mask / np.float32(255))[None, None])
            duplicate = copy.deepcopy(self.model)
            activations, logits = self.forward(duplicate, x)
            (slopes,) = torch.autograd.grad(logits[0, int(label)], activations)
            alpha = slopes.mean(dim=(2, 3), keepdim=True)
            activations, logits = self.forward(self.model, x)
            saliency = torch.relu((alpha * activations).sum(dim=1, keepdim=True))
            peak = saliency.max()
            saliency = saliency / peak if peak > 0 else saliency
            saliency = torch.nn.functional.interpolate(saliency, size=mask.shape, mode="bilinear", align_corners=False)
            shown = torch.sigmoid(20 * (saliency - 0.5))
            both = (y * shown).sum()
            jaccard = both / (y.sum() + shown.sum() - both)
            crossentropy = torch.nn.functional.cross_entropy(logits, torch.tensor([int(label)]))
            loss = ((1 - WEIGHT) * crossentropy + WEIGHT * (1 - jaccard) ** 2) / len(images)
            loss.backward()
            total += float(loss.detach())
        return total


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(measure_memory(sys.argv[1]))
    else:
        main()
