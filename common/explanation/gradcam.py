"""Differentiable Grad-CAM, batched, on TensorFlow and JAX.

Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-Based Localization" (IJCV 2020),
eq. 1: a_k = mean over i, j of dy_c/dA_k[i, j], eq. 2: L_c = ReLU(sum over k of a_k A_k). y_c is the class score before the softmax.

Inside a loss: cut the model once with `split_model`, let `call` return the activations beside the predictions, and call
`class_gradients` and `map_from_gradients` (or `grad_cam`) in `compute_loss`. Only the head is differentiated for the map, and
the outer gradient runs through the map, second derivatives included. `fit` stays `fit` on both backends.

This is the one room, with `common/device.py`, that imports TensorFlow or JAX: each backend has its own gradient.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops
from keras.src.backend.common.stateless_scope import get_stateless_scope

from common.explanation.graph import logits_model as logits_model
from common.explanation.graph import run_graph
from common.explanation.graph import split_model as split_model
from common.explanation.graph import tapped_model as tapped_model

# A float16 gradient below 6e-8 is lost; this factor (a power of two, so exact) lifts the scores while they are differentiated.
_FLOAT16_SCALE = 256.0
# A map is constant when it varies by less than this share of its maximum: float32 rounding of a sum over some thousand channels.
_CONSTANT = 1e-6


def _gradient(function: Callable, inputs: Sequence) -> tuple[list, object]:
    """Gradients of `function(*inputs) -> (scalar, extra)` to every input, and `extra`. Differentiable in turn."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # persistent=False, and nothing but the inputs is watched: the head's weights cost nothing here.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for x in inputs:
                tape.watch(x)
            value, extra = function(*inputs)
        return list(tape.gradient(value, list(inputs), unconnected_gradients=tf.UnconnectedGradients.ZERO)), extra
    if backend == "jax":
        import jax

        gradients, extra = jax.grad(function, argnums=tuple(range(len(inputs))), has_aux=True)(*inputs)
        return list(gradients), extra
    raise RuntimeError(f"Grad-CAM runs on the tensorflow and jax backends, not on {backend!r}")


def _quiet_scope(variables: Sequence[keras.Variable]) -> keras.StatelessScope:
    """Reads `variables` at their present values and drops every update made inside: no moving statistics, seeds or added losses.

    Inside `fit` on JAX the present values are those of the trainer's own scope, which a nested scope would hide.
    """
    outer = get_stateless_scope()
    present = [(v, outer.get_current_value(v)) for v in variables] if outer is not None else []
    return keras.StatelessScope([(v, value) for v, value in present if value is not None], initialize_variables=False)


def _weighted_score(logits, class_weights):
    """sum over batch and classes of class_weights * logits, float32; images do not mix, so each keeps its own gradient."""
    return ops.sum(ops.cast(logits, "float32") * ops.cast(class_weights, "float32"))


def _scale(dtype: str) -> float:
    return _FLOAT16_SCALE if dtype == "float16" else 1.0


def class_gradients(head, activations, class_weights, *, training: bool = False, return_logits: bool = False):
    """dy/dA of the weighted class score y = sum_c class_weights[:, c] * logits[:, c].

    Args:
        head: from `split_model`, activations -> logits (batch, classes); any callable of Keras layers works.
        activations: (batch, h, w, channels), or the list that `body` gives when skip connections pass the cut; the gradient is
            taken to its first element.
        class_weights: (batch, classes), one-hot for one class.
        training: mode in which the head runs for the map; its moving statistics and seeds never change here.
        return_logits: also return the head's logits (batch, classes), so a loss need not run the head again.

    Returns gradients (batch, h, w, channels) float32 [, logits].
    """
    rest = list(activations[1:]) if isinstance(activations, (list, tuple)) else []
    watched = activations[0] if isinstance(activations, (list, tuple)) else activations
    watched = ops.convert_to_tensor(watched)
    scale = _scale(keras.backend.standardize_dtype(watched.dtype))

    def score(maps):
        logits = head([maps, *rest] if rest else maps, training=training)
        return _weighted_score(logits, class_weights) * scale, logits

    with _quiet_scope(getattr(head, "variables", ())):
        (gradients,), logits = _gradient(score, [watched])
    gradients = ops.cast(gradients, "float32") / scale
    return (gradients, logits) if return_logits else gradients


def normalise_map(raw):
    """Maps (batch, h, w) divided by their own maximum, 0..1; constant and empty maps become zeros, with zero gradient, never NaN."""
    highest = ops.max(raw, axis=(1, 2), keepdims=True)
    lowest = ops.min(raw, axis=(1, 2), keepdims=True)
    varies = highest - lowest > _CONSTANT * ops.abs(highest)
    # The inner `where` keeps the division, and its gradient, finite where the outer one discards it.
    divisor = ops.where(varies, highest, ops.ones_like(highest))
    return ops.where(varies, raw / divisor, ops.zeros_like(raw))


def map_from_gradients(activations, gradients, *, differentiate_weights: bool = True, normalise: bool = True):
    """Eqs. 1 and 2: ReLU(sum_k a_k A_k) with a_k the mean gradient of channel k; (batch, h, w) float32.

    `differentiate_weights=False` takes the a_k as constants, so an outer gradient runs through the activations only (the
    feedback thesis computes them on a copy of the model); `normalise=False` leaves the map undivided.
    """
    weights = ops.mean(gradients, axis=(1, 2), keepdims=True)
    if not differentiate_weights:
        weights = ops.stop_gradient(weights)
    raw = ops.relu(ops.sum(weights * ops.cast(activations, "float32"), axis=-1))
    return normalise_map(raw) if normalise else raw


def grad_cam(body, head, images, class_weights, *, differentiate_weights: bool = True, training: bool = False, normalise: bool = True):
    """Grad-CAM maps (batch, h, w) in 0..1 at the cut between `body` and `head` (see `split_model`), not upsampled.

    images (batch, H, W, 3), class_weights (batch, classes), one-hot for one class. Each map is divided by its own maximum;
    constant or empty maps are zeros. Differentiable with respect to the weights and images, through a_k as well unless
    `differentiate_weights=False`.
    """
    activations = body(images, training=training)
    gradients = class_gradients(head, activations, class_weights, training=training)
    first = activations[0] if isinstance(activations, (list, tuple)) else activations
    return map_from_gradients(first, gradients, differentiate_weights=differentiate_weights, normalise=normalise)


def layer_gradients(taps, images, class_weights, *, training: bool = False):
    """Feature maps of several layers, their gradients and the logits, from one forward and one backward pass.

    `taps` comes from `tapped_model`. Zeros are added to every tapped map and the score is differentiated to those zeros, which
    gives dy/dA for all layers at once, also where one layer feeds the next.
    Returns (list of activations, list of gradients, logits); maps (batch, h, w, channels) float32.
    """
    images = ops.convert_to_tensor(images)
    positions = {id(symbol): index for index, symbol in reversed(list(enumerate(taps.outputs[:-1])))}
    shapes = [tuple(x.shape[1:]) for x in taps.outputs[:-1]]
    if any(size is None for shape in shapes for size in shape):
        spec = taps.compute_output_spec(keras.KerasTensor(tuple(images.shape), dtype=taps.inputs[0].dtype))
        shapes = [tuple(x.shape[1:]) for x in keras.tree.flatten(spec)[:-1]]
    dtypes = [keras.backend.standardize_dtype(x.dtype) for x in taps.outputs[:-1]]
    scale = _scale("float16" if "float16" in dtypes else "float32")
    batch = ops.shape(images)[0]
    zeros = [ops.zeros((batch, *shape), dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]

    def score(*additions):
        def call(node, args, kwargs):
            operation = node.operation
            if getattr(operation, "_call_has_training_arg", False) and kwargs.get("training") is None:
                kwargs = {**kwargs, "training": training}
            outputs = operation(*args, **kwargs)
            index = positions.get(id(node.outputs[0]))
            return outputs if index is None else ops.add(outputs, additions[index])

        *maps, logits = run_graph(taps, [ops.cast(images, taps.inputs[0].dtype)], call)
        return _weighted_score(logits, class_weights) * scale, (maps, logits)

    with _quiet_scope(taps.variables):
        gradients, (maps, logits) = _gradient(score, zeros)
    # The same layer asked for twice is one tap: its gradient is read from the first place.
    gradients = [gradients[positions[id(symbol)]] for symbol in taps.outputs[:-1]]
    return [ops.cast(x, "float32") for x in maps], [ops.cast(g, "float32") / scale for g in gradients], logits


def image_gradient(model, images, class_weights, *, training: bool = False):
    """Gradient (batch, H, W, 3), float32, of sum_c class_weights[:, c] * output[:, c] with respect to the images.

    `model` is differentiated as it is: pass `logits_model(model)` for the score before the softmax. For virtual adversarial
    training the gradient of KL(p || softmax(logits(x))) is the one with class_weights = softmax(logits(x)) - p.
    """
    images = ops.cast(ops.convert_to_tensor(images), "float32")

    def score(x):
        return _weighted_score(model(x, training=training), class_weights), ()

    with _quiet_scope(getattr(model, "variables", ())):
        (gradients,), _ = _gradient(score, [images])
    return gradients


def term_gradients(values: Sequence, function: Callable, variables: Sequence, state: Sequence) -> list[list]:
    """The gradient of each term of a loss by itself, from inside `compute_loss`: one array for each of `variables`, without gradient.

    Args:
        values: the terms of this step, scalars; TensorFlow's graphs differentiate them as they are, without a second forward pass.
        function: computes the terms from the weights, for backends that cannot differentiate values they have.
        variables: that train. state: all variables that `function` reads.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        sources, none = [v.value for v in variables], tf.UnconnectedGradients.ZERO
        if not tf.executing_eagerly():
            return [[ops.stop_gradient(g) for g in tf.gradients(value, sources, unconnected_gradients=none)] for value in values]
        with tf.GradientTape(persistent=True) as tape:
            values = function()
        return [[ops.stop_gradient(g) for g in tape.gradient(value, sources, unconnected_gradients=none)] for value in values]
    import jax

    def term(present, index):
        known = {id(v): (v, v.value) for v in state} | {id(v): (v, x) for v, x in zip(variables, present, strict=True)}
        with keras.StatelessScope(list(known.values()), initialize_variables=False):
            return function()[index]

    # Without the stop, the outer gradient would run through these too. To XLA the same forward pass is computed once.
    present = [ops.stop_gradient(v.value) for v in variables]
    return [[ops.stop_gradient(g) for g in jax.grad(term)(present, index)] for index in range(len(values))]


def compiled(function: Callable, *models) -> Callable:
    """`function(*arrays)` compiled for the active backend; it may call `models`, whose weights are read afresh at each call.

    One trace for each set of input shapes, exactly these: with TensorFlow's `reduce_retracing` the program would depend on the shapes
    that the process saw before, and a resumed run would round otherwise than a whole one. No XLA on TensorFlow: on a CPU it is slower
    (measured).
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    if keras.backend.backend() == "jax":
        import jax

        variables = list({id(v): v for model in models for v in model.variables}.values())

        @jax.jit
        def pure(values, *arguments):
            # Variables are arguments: read directly they would be baked into the program as constants.
            with keras.StatelessScope(list(zip(variables, values, strict=True)), initialize_variables=False):
                return function(*arguments)

        return lambda *arguments: pure([v.value for v in variables], *arguments)
    return function


def in_batches(function: Callable, size: int, *arrays: np.ndarray) -> list[np.ndarray]:
    """`function` of `size` rows of the arrays at a time: each of its outputs `(n, …)`, in NumPy, in its dtype.

    The last batch is filled up with its last row, whose outputs are dropped: another shape would be compiled anew.
    """
    parts = []
    for start in range(0, len(arrays[0]), size):
        batch = [each[start : start + size] for each in arrays]
        count = len(batch[0])
        filled = [np.concatenate([each, np.repeat(each[-1:], size - count, axis=0)]) if count < size else each for each in batch]
        parts.append([ops.convert_to_numpy(each)[:count] for each in keras.tree.flatten(function(*filled))])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
