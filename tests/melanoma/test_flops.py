"""Operations counted by hand, and the paper's 43.2 billion."""

import keras
import pytest

from melanoma.flops import BILLION, flops


def test_layers_by_hand() -> None:
    x = inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(x)  # 2 * 9 * 3 * 8*8*4 = 13824
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)  # 2 * 9 * 8*8*4 = 4608
    x = keras.layers.Conv2DTranspose(2, 2, strides=2)(x)  # 2 * 8*8*4 * 4 * 2 = 4096
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(5)(x)  # 2 * 2 * 5 = 20
    assert flops(keras.Model(inputs, x)) == 13824 + 4608 + 4096 + 20


def test_sub_models_are_followed_and_a_layer_used_twice_counts_twice() -> None:
    inner_input = keras.Input((4,))
    inner = keras.Model(inner_input, keras.layers.Dense(3)(inner_input))  # 24
    inputs = keras.Input((4,))
    outer = keras.Model(inputs, keras.layers.Add()([inner(inputs), inner(inputs)]))
    assert flops(outer) == 48


def test_an_open_size_is_refused() -> None:
    inputs = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match="fixed size"):
        flops(keras.Model(inputs, keras.layers.Conv2D(1, 1)(inputs)))


def test_resnet50_at_512_is_the_printed_43_2_billion() -> None:
    """Table 7: a multiply-add counted as two, one forward pass. torchvision strides in the 3x3 convolution, Keras in the 1x1 before it, and
    saves 6 % so."""
    model = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(512, 512, 3))
    assert flops(model) / BILLION == pytest.approx(43.2, rel=0.08)
