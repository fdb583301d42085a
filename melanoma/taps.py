"""Where a network of four stages is tapped: twelve heatmap layers and the U-Net's skips (melanoma paper, sections 4.2 and 5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from common.errors import UsageError
from common.explanation.graph import nodes

STRIDES = (4, 8, 16, 32)  # input side / map side, one a stage
# Written down for the network of the suite's own small runs: stride 4 has two blocks only, and the second one's depthwise activation makes
# the third map; what the graph's rule would take there belongs to the next stage's first block.
_MOBILENETV2 = (
    ("block_1_project_BN", "block_2_depthwise_relu", "block_2_add"),
    ("block_3_project_BN", "block_4_add", "block_5_add"),
    ("block_10_project_BN", "block_11_add", "block_12_add"),
    ("block_14_add", "block_15_add", "out_relu"),
)
_NAMED = {"mobilenetv2": _MOBILENETV2, "mobilenetv2_035": _MOBILENETV2}
_STEM = dict.fromkeys(_NAMED, "expanded_conv_project_BN")
_MERGES = ("Add", "Concatenate", "Average", "Maximum")
_POINTWISE = ("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Relu", "Relu6", "Silu", "Gelu", "HardSwish", "Dropout")
_NORMALISES = ("BatchNormalization", "LayerNormalization", "GroupNormalization")
_FEATURES = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Sequential", *_NORMALISES, *_POINTWISE, *_MERGES)


def feature_taps(name: str, model: keras.Model) -> tuple[tuple[str, str, str], ...]:
    """Names of the last three blocks of each of a network's four stages (strides 4, 8, 16, 32), early to late.

    Twelve in all: the heatmaps of Bio-U-Net (melanoma paper, section 4.2), and its U-Net's skips (the last of each stage). They are
    found in the graph: a block ends where branches merge and everything passes through one tensor, with the activation that follows at
    once. A stage of fewer than three such blocks is filled up with the convolutions, normalised and activated, that everything passes
    through, and then with those inside its blocks, the last ones first. MobileNetV2's are written down.

    Args:
        name: key of `common.backbones.BACKBONES`, or anything else.
        model: the built network, from images to its last feature map. The names are those of its layers, or of its operations where it
            adds tensors without a layer (ConvNeXt).

    Raises:
        UsageError: a network whose maps do not come at an exact 4th, 8th, 16th and 32nd of its input with three maps each (VGG,
            Inception, Xception).
    """
    return _NAMED[name] if name in _NAMED else _found(name, model)


def half_resolution(name: str, model: keras.Model) -> str | None:
    """Name of the last feature map at half the input's side, the U-Net's finest skip; None in a network whose first step is coarser."""
    if name in _STEM:
        return _STEM[name]
    found = [step.name for step in _steps(model) if step.stride == 2 and step.passage and step.kind in _FEATURES]
    return found[-1] if found else None


def tensor(model: keras.Model, name: str) -> Any:
    """The symbolic output of a layer or operation of `model`, `(batch, h, w, channels)`."""
    return next(operation for operation in model.operations if operation.name == name).output


class _Step:
    """One operation of a network: its name, kind, stride (None if not an exact one) and whether everything passes through its output."""

    def __init__(self, node: Any, side: int, passage: bool) -> None:
        shape = node.outputs[0].shape
        self.name, self.kind, self.passage = node.operation.name, type(node.operation).__name__, passage
        exact = len(shape) == 4 and shape[1] and shape[1] == shape[2] and side % shape[1] == 0
        self.stride = side // shape[1] if exact else None


def _steps(model: keras.Model) -> list[_Step]:
    order = nodes(model)
    last_use = {id(x): place for place, node in enumerate(order) for x in node.input_tensors}
    last_use |= {id(x): len(order) for x in model.outputs}
    waiting = {id(x) for x in model.inputs}
    steps = []
    for place, node in enumerate(order):
        waiting = {x for x in waiting if last_use.get(x, -1) > place} | {id(x) for x in node.outputs}
        steps.append(_Step(node, int(model.input_shape[1]), waiting == {id(node.outputs[0])}))
    return steps


def _found(name: str, model: keras.Model) -> tuple[tuple[str, str, str], ...]:
    steps = _steps(model)
    stages = []
    for stride in STRIDES:
        ends = _ends(steps, stride)
        if len(ends) < 3:
            raise UsageError(
                f"--backbone {name}: has no four stages of three blocks at exact strides of 4, 8, 16 and 32; expected resnet50, "
                "densenet121, mobilenetv2_035 or similar"
            )
        first, second, third = (steps[place].name for place in ends)
        stages.append((first, second, third))
    return tuple(stages)


def _ends(steps: Sequence[_Step], stride: int) -> list[int]:
    """Places of a stage's last three block ends, in order; fewer where the stage has fewer feature maps."""
    merges, convolutions, inner = [], [], []
    for place, step in enumerate(steps):
        if step.stride != stride:
            continue
        follower = steps[place + 1] if place + 1 < len(steps) else None
        continues = follower is not None and follower.stride == stride and follower.passage
        if step.kind in _MERGES and step.passage:
            merges.append(place + 1 if continues and follower is not None and follower.kind in _POINTWISE else place)
        elif step.kind in _FEATURES and place not in merges:
            if not step.passage:
                inner.append(place)
            elif not (continues and follower is not None and follower.kind in _NORMALISES + _POINTWISE):
                convolutions.append(place)
    chosen: list[int] = []
    for group in (merges, convolutions, inner):
        chosen += group[::-1][: 3 - len(chosen)]
    return sorted(chosen)
