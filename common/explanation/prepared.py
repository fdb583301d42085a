"""What every explainer needs first: checked images, class weights, and functions that are compiled once for each model."""

import weakref
from collections.abc import Callable, Iterable

import keras
import numpy as np
from keras import ops

from common import device
from common.errors import UsageError
from common.explanation import gradcam as g
from common.explanation.folding import folded_forward
from common.explanation.graph import flatten

# Images in one forward pass. Small batches stay in the processor's cache (measured: 4 to 16 beat 32 on a CPU); a GPU wants more.
CPU_CHUNK, GPU_CHUNK = 8, 128
# Everything prepared for a model (cuts, compiled functions) lives as long as the model, so a hundred explanations cost one trace.
_PREPARED: "weakref.WeakKeyDictionary[keras.Model, dict]" = weakref.WeakKeyDictionary()


def prepared(model: keras.Model, key, make: Callable[[], object]):
    """`make()` once for each model and key. What it returns must not refer to `model` itself, or the model would never be freed."""
    store = _PREPARED.setdefault(model, {})
    if key not in store:
        store[key] = make()
    return store[key]


def check_images(model: keras.Model, images) -> np.ndarray:
    """Images as float32 (batch, H, W, 3); `UsageError` when their size is not the model's."""
    images = np.asarray(images)
    if images.ndim != 4:
        raise UsageError(f"images must be (batch, height, width, channels), not {images.shape}")
    expected = model.input_shape[1:]
    if any(e is not None and e != s for e, s in zip(expected, images.shape[1:], strict=True)):
        raise UsageError(f"images are {_size(images.shape[1:])}, the model takes {_size(expected)}: resize them first")
    return images.astype("float32", copy=False)


def _size(shape) -> str:
    return " x ".join("any" if s is None else str(s) for s in shape)


def class_numbers(model: keras.Model, classes, count: int) -> np.ndarray:
    """Class numbers (count,) from one int or (count,); `UsageError` outside the model's classes."""
    total = int(model.output_shape[-1])
    numbers = np.asarray(classes, int)
    if numbers.ndim and len(numbers) != count:
        raise UsageError(f"{len(numbers)} class numbers for {count} images")
    for number in numbers.flat:
        if not 0 <= number < total:
            raise UsageError(f"class number {number}: the model has {total} classes, 0 to {total - 1}")
    return np.broadcast_to(numbers, (count,))


def class_weights(model: keras.Model, classes, count: int) -> np.ndarray:
    """One-hot rows (count, classes), float32."""
    return np.eye(int(model.output_shape[-1]), dtype="float32")[class_numbers(model, classes, count)]


def chunk_size() -> int:
    """Images in one forward pass on this machine."""
    return GPU_CHUNK if device.accelerator() is not None else CPU_CHUNK


def probabilities(model: keras.Model, images: Iterable[np.ndarray], chunk: int | None = None) -> np.ndarray:
    """The model's output (n, classes), float32, for a stream of images (H, W, 3): never more than one chunk of them in memory.

    One compiled function for each model; the last chunk is filled up, because another shape would be traced anew.
    """

    def make():
        flat, _ = flatten(model)
        # A model of its own on the same layers: one without sub-models is its own flat form, and as its own key would never be freed.
        graph = keras.Model(flat.input, flat.output)
        return g.compiled(folded_forward(graph), graph)

    run = prepared(model, "probabilities", make)
    chunk = chunk or chunk_size()
    results, batch, count = [], None, 0

    def flush():
        results.append(ops.convert_to_numpy(ops.cast(run(batch), "float32"))[:count])

    for image in images:
        if batch is None:
            batch = np.zeros((chunk, *image.shape), "float32")
        elif count == chunk:
            flush()
            count = 0
        batch[count] = image
        count += 1
    if count:
        flush()
    return np.concatenate(results) if results else np.zeros((0, int(model.output_shape[-1])), "float32")
