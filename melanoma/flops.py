"""The built networks in numbers: floating-point operations layer by layer (Table 7; two a multiply-add, one image forward), sizes (fig. 6).

Convolutions and dense layers are counted; normalisation, activations, pooling and resizing are below one per cent and are not. The printed
43.2 billion is one forward pass of ResNet50 at 512 px counted so, and 129.5 three times that, forward and backward (DEVIATIONS, FLOPs).
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import keras

from common.explanation.graph import flatten, nodes
from melanoma import models

BILLION = 1e9
INDICATORS = 5
PAPER = {"backbone": "resnet50", "image_size": 512, "normalise": "image", "projection": 128}  # A.2, A.3
Boxes = list[tuple[str, Sequence[tuple[str, str]]]]


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
    if isinstance(layer, models.ImageStatistics):
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


def measured(settings: Mapping[str, Any]) -> tuple[dict[str, tuple[str, float]], Boxes]:
    """Rows of Table 7, title -> (its key, billions), and the boxes of fig. 6, of the networks of a run's settings.

    The training rows are three forward passes (backward is about two). Boxes: a line per subnetwork of (name, height x width x channels).
    """
    return _measured(*(settings[key] for key in PAPER))


@cache
def _measured(name: str, size: int, normalise: str, projection: int) -> tuple[dict[str, tuple[str, float]], Boxes]:
    """By the values of `PAPER`'s keys; a ResNet50's networks take seconds to build."""
    encoder, scale = models.build_encoder(name, size), models.normalisation(normalise, name)
    built = {
        "simclr": models.build_simclr(encoder, scale, projection, 0),
        "classifier": models.build_classifier(encoder, scale, 1),
        "segmentation": models.build_segmenter(encoder, name),
        "encoder": encoder,
    }
    return _counted(built), _sizes(built, name, projection)


def _counted(built: dict[str, keras.Model]) -> dict[str, tuple[str, float]]:
    forward = {name: flops(model) / BILLION for name, model in built.items()}
    # Both views pass the encoder as one batch, which the graph counts once.
    rows = {
        "subnetwork 1, SimCLR, one view forward": ("simclr", forward["simclr"]),
        "subnetwork 2, classifier, forward": ("", forward["classifier"]),
        "subnetwork 2, forward and backward": ("classifier", 3 * forward["classifier"]),
        "subnetwork 3, U-Net, forward": ("", forward["segmentation"]),
        "subnetwork 3, forward and backward": ("segmentation", 3 * forward["segmentation"]),
    }
    total = forward["simclr"] + 3 * forward["classifier"] + 3 * forward["segmentation"]
    rows["total of the printed kind (1 + 2 + 3 as above)"] = ("total", total)
    rows[f"subnetwork 4, {INDICATORS} encoders, forward"] = ("", INDICATORS * forward["encoder"])
    return rows


def _sizes(built: dict[str, keras.Model], backbone: str, projection: int) -> Boxes:
    encoder, segmenter = built["encoder"], built["segmentation"]

    def shape(tensor) -> str:
        return " x ".join(str(side) for side in tensor.shape[1:])

    stages = [(f"stage {number}", shape(skip)) for number, skip in enumerate(models.skips(encoder, backbone)[1:], 1)]
    image, pooled = shape(encoder.input), str(encoder.output.shape[-1])
    ups = [(f"decoder {level}", shape(segmenter.get_layer(f"decoder{level}_relu2").output)) for level in range(1, 6)]
    views = [("two views", f"2 x {image}"), *stages, ("pool", f"2 x {pooled}"), ("projection", f"2 x {projection}")]
    heatmaps = [(f"stage {number}", f"{size.rsplit(' x ', 1)[0]} x 3") for number, (_, size) in enumerate(stages, 1)]
    adapted = [(title, shape(segmenter.get_layer(name).output)) for title, name in (("12 heatmaps", "heatmaps"), ("adapter", "adapter"))]
    return [
        ("Subnetwork 1, SimCLR", views),
        ("Subnetwork 2, classifier", [("image", image), *stages, ("pool", pooled), ("indicator", "1")]),
        ("Heatmaps (Grad-CAM)", heatmaps),
        ("Subnetwork 3, U-Net", [*adapted, *stages, *ups, ("mask", shape(segmenter.output))]),
        ("Subnetwork 4, classifier", [("image", image), (f"{INDICATORS} encoders", f"{INDICATORS} x {pooled}"), ("softmax", "2")]),
    ]
