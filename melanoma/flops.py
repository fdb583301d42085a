"""Floating-point operations of a built model, counted layer by layer (Table 7): two a multiply-add, for one image forward.

Convolutions and dense layers are counted; normalisation, activations, pooling and resizing are below one per cent and are not. The printed
43.2 billion is one forward pass of ResNet50 at 512 px counted so, and 129.5 three times that, forward and backward (DEVIATIONS, FLOPs).
"""

import math

import keras

from common.explanation.graph import flatten, nodes
from melanoma.models import ImageStatistics

BILLION = 1e9


def flops(model: keras.Model) -> int:
    """Operations of one forward pass of one image; sub-models are followed, a layer used twice counts twice.

    Raises:
        ValueError: the model's input has no fixed height and width.
    """
    graph, _ = flatten(model)
    if any(size is None for tensor in graph.inputs for size in tensor.shape[1:]):
        raise ValueError(f"{model.name}: expected an input with a fixed size, not {[tuple(x.shape) for x in graph.inputs]}")
    return sum(_operations(node) for node in nodes(graph))


def _operations(node) -> int:
    layer, output = node.operation, node.outputs[0].shape[1:]
    if isinstance(layer, ImageStatistics):
        return flops(layer.inner)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return 2 * math.prod(layer.kernel_size) * math.prod(output)
    if isinstance(layer, keras.layers.Conv2DTranspose):
        channels = node.input_tensors[0].shape[-1]
        # Every input pixel is multiplied into kernel-size output pixels.
        return 2 * math.prod(node.input_tensors[0].shape[1:3]) * channels * math.prod(layer.kernel_size) * output[-1]
    if isinstance(layer, keras.layers.Conv2D):
        channels = node.input_tensors[0].shape[-1] // layer.groups
        return 2 * math.prod(layer.kernel_size) * channels * math.prod(output)
    if isinstance(layer, keras.layers.Dense):
        return 2 * node.input_tensors[0].shape[-1] * math.prod(output)
    return 0
