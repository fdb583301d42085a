"""Which layers of a network end its blocks: against the networks' own numbering, and on graphs drawn for it."""

import keras
import pytest

from common import backbones
from common.errors import UsageError
from melanoma import taps

# The last three blocks of each stage by the block numbers of the networks' papers (ResNet: He et al. 2016, table 1; DenseNet: Huang et al.
# 2017, table 1; EfficientNetV2-S: Tan and Le 2021, table 4), in Keras's names.
BLOCKS = {
    "resnet50": [(f"conv{s}_block{{}}_out", n) for s, n in ((2, 3), (3, 4), (4, 6), (5, 3))],
    "resnet101": [(f"conv{s}_block{{}}_out", n) for s, n in ((2, 3), (3, 4), (4, 23), (5, 3))],
    "densenet121": [(f"conv{s}_block{{}}_concat", n) for s, n in ((2, 6), (3, 12), (4, 24), (5, 16))],
    "efficientnetv2s": [("block2{}_add", "bcd"), ("block3{}_add", "bcd"), ("block5{}_add", "ghi"), ("block6{}_add", "mno")],
}
STEMS = {"resnet50": "conv1_relu", "resnet101": "conv1_relu", "densenet121": "conv1_relu", "efficientnetv2s": "block1b_add"}


@pytest.mark.parametrize("name", BLOCKS)
def test_the_graph_gives_the_last_three_numbered_blocks(name: str) -> None:
    model = backbones.build_backbone(name, 64)
    expected = tuple(
        tuple(pattern.format(block) for block in (range(blocks - 2, blocks + 1) if isinstance(blocks, int) else blocks))
        for pattern, blocks in BLOCKS[name]
    )
    assert taps.feature_taps(name, model) == expected
    assert taps.half_resolution(name, model) == STEMS[name]


@pytest.mark.parametrize("name", ["mobilenetv2_035", "mobilenet", "mobilenetv3small", "resnet50v2", "efficientnetb0", "convnexttiny"])
def test_taps_are_three_maps_of_each_of_four_strides_in_the_order_of_the_network(name: str) -> None:
    model = backbones.build_backbone(name, 64)
    places = {operation.name: place for place, operation in enumerate(model.operations)}
    found = taps.feature_taps(name, model)
    for stage, stride in zip(found, taps.STRIDES, strict=True):
        assert len(set(stage)) == 3
        for layer in stage:
            assert tuple(taps.tensor(model, layer).shape[1:3]) == (64 // stride, 64 // stride), layer
    order = [places[layer] for stage in found for layer in stage]
    assert order == sorted(order)


def test_convnext_adds_without_layers_and_has_no_half_resolution() -> None:
    model = backbones.build_backbone("convnexttiny", 64)
    found = [taps.tensor(model, layer) for stage in taps.feature_taps("convnexttiny", model) for layer in stage]
    assert [int(tensor.shape[-1]) for tensor in found] == [96] * 3 + [192] * 3 + [384] * 3 + [768] * 3
    assert all(type(tensor._keras_history.operation).__name__ == "Add" for tensor in found)
    assert taps.half_resolution("convnexttiny", model) is None


@pytest.mark.parametrize("name", ["vgg16", "xception"])
def test_network_without_four_stages_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"--backbone {name}: has no four stages"):
        taps.feature_taps(name, backbones.build_backbone(name, 96))


def _branchy(stages: int = 4) -> keras.Model:
    """Half-resolution stem, then stages of: strided convolution, one residual block, one block whose branch is left open."""
    x = inputs = keras.Input((64, 64, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(x)
    for stage in range(stages):
        x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name=f"s{stage}_down")(x)
        x = keras.layers.BatchNormalization(name=f"s{stage}_down_bn")(x)
        y = keras.layers.Conv2D(4, 3, padding="same", name=f"s{stage}_a1")(x)
        y = keras.layers.Add(name=f"s{stage}_inner")([y, keras.layers.Conv2D(4, 1, name=f"s{stage}_gate")(y)])
        x = keras.layers.Add(name=f"s{stage}_add")([x, y])
        x = keras.layers.ReLU(name=f"s{stage}_out")(x)
    return keras.Model(inputs, x)


def test_a_merge_inside_a_branch_ends_no_block_and_short_stages_are_filled_up() -> None:
    """Two outputs everything passes through (the strided convolution, normalised; the sum, activated) and one from inside the block."""
    assert taps.feature_taps("branchy", _branchy()) == tuple((f"s{s}_down_bn", f"s{s}_inner", f"s{s}_out") for s in range(4))
    assert taps.half_resolution("branchy", _branchy()) == "stem"


def test_a_network_of_three_stages_is_refused() -> None:
    with pytest.raises(UsageError, match="no four stages"):
        taps.feature_taps("short", _branchy(3))
