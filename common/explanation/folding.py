"""A model's forward pass with each batch normalisation folded into the convolution before it: the same numbers, fewer passes over memory.

Score-CAM and LIME run a network in inference mode hundreds of times. There a normalisation is a factor and an offset for each
channel, so conv(x, W) * f + o = conv(x, W f) + o. The kernels are multiplied in the compiled function itself, from the present
weights, so nothing is copied or out of date; behind a convolution with a bias the backends fuse convolution, bias and ReLU.
"""

from collections import Counter

import keras
from keras import ops

from common.explanation.graph import nodes, run_graph

_PLAIN = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def foldable(graph: keras.Model) -> dict[int, keras.layers.BatchNormalization]:
    """Normalisation layers that follow a convolution directly and alone, by the id of that convolution.

    graph: a functional model without sub-models. Convolutions with an activation, shared layers, normalisation kept in training mode,
    other axes than the channels and reduced precision are left as they are.
    """
    order = nodes(graph)
    uses = Counter(id(x) for node in order for x in node.input_tensors)
    calls = Counter(id(node.operation) for node in order)
    outputs = {id(x) for x in graph.outputs}
    makers = {id(node.outputs[0]): node.operation for node in order}
    found = {}
    for node in order:
        norm = node.operation
        if type(norm) is not keras.layers.BatchNormalization or calls[id(norm)] > 1 or node.arguments.kwargs.get("training"):
            continue
        source = node.input_tensors[0]
        conv = makers.get(id(source))
        if (
            type(conv) in _PLAIN
            and calls[id(conv)] == 1
            and uses[id(source)] == 1
            and id(source) not in outputs
            and conv.activation is keras.activations.linear  # type: ignore[union-attr]
            and conv.data_format == "channels_last"  # type: ignore[union-attr]
            and conv.compute_dtype == norm.compute_dtype == "float32"  # type: ignore[union-attr]
            and norm.axis in (-1, 3)
        ):
            found[id(conv)] = norm
    return found


def _folded(conv, norm, x):
    factor = ops.rsqrt(norm.moving_variance + norm.epsilon)
    if norm.scale:
        factor = factor * norm.gamma
    offset = -norm.moving_mean * factor
    if norm.center:
        offset = offset + norm.beta
    if conv.use_bias:
        offset = offset + conv.bias * factor
    options = {"strides": conv.strides, "padding": conv.padding, "dilation_rate": conv.dilation_rate, "data_format": conv.data_format}
    if isinstance(conv, keras.layers.DepthwiseConv2D):
        # Kernel (h, w, channels, multiplier); output channels run multiplier fastest.
        kernel = conv.kernel * ops.reshape(factor, conv.kernel.shape[2:])
        return ops.add(ops.depthwise_conv(x, kernel, **options), offset)
    return ops.add(ops.conv(x, conv.kernel * factor, **options), offset)


def folded_forward(graph: keras.Model):
    """`function(images)` that gives the first output of `graph` (functional, without sub-models) in inference mode."""
    pairs = foldable(graph)
    skipped = {id(norm) for norm in pairs.values()}

    def forward(images):
        def call(node, args, kwargs):
            operation = node.operation
            if id(operation) in pairs:
                return _folded(operation, pairs[id(operation)], args[0])
            if id(operation) in skipped:
                return args[0]
            if getattr(operation, "_call_has_training_arg", False) and kwargs.get("training") is None:
                kwargs = {**kwargs, "training": False}
            return operation(*args, **kwargs)

        return run_graph(graph, [ops.cast(images, graph.inputs[0].dtype)], call)[0]

    return forward
