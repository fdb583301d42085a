"""Folded normalisation: the same output, read from the present weights, and left alone where it would not be the same."""

import keras
import numpy as np
import pytest

from common.explanation.folding import foldable, folded_forward
from tests.common.explanation import nets


def randomise(model: keras.Model) -> None:
    rng = np.random.default_rng(0)
    for v in model.variables:
        if "norm" in v.path:
            v.assign(rng.uniform(0.5, 1.5, v.shape))


def network(**norm_options) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm1", **norm_options)(x)
    x = keras.layers.ReLU(6.0)(x)
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, bias_initializer="ones", name="depthwise")(x)
    x = keras.layers.BatchNormalization(name="norm2", **norm_options)(x)
    x = keras.layers.Dropout(0.5)(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(x)))
    randomise(model)
    return model


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}, {"epsilon": 0.1}])
def test_same_output_as_the_model(options):
    model = network(**options)
    assert {layer.name for layer in foldable(model).values()} == {"norm1", "norm2"}
    x = nets.images(3, size=12) / 255
    forward = folded_forward(model)
    np.testing.assert_allclose(np.asarray(forward(x)), np.asarray(model(x, training=False)), atol=1e-5)
    before = np.asarray(forward(x))
    for v in model.trainable_variables:
        v.assign(v.value * 0.5)
    np.testing.assert_allclose(np.asarray(forward(x)), np.asarray(model(x, training=False)), atol=1e-5)
    assert np.abs(np.asarray(forward(x)) - before).max() > 1e-3


def branching() -> keras.Model:
    """Four normalisation layers that must stay: behind an activation, beside another use, shared, kept in training mode."""
    inputs = keras.Input((8, 8, 3))
    a = keras.layers.BatchNormalization(name="norm_after_relu")(keras.layers.Conv2D(3, 1, activation="relu")(inputs))
    used_twice = keras.layers.Conv2D(3, 1)(a)
    b = keras.layers.Add()([used_twice, keras.layers.BatchNormalization(name="norm_beside")(used_twice)])
    shared = keras.layers.BatchNormalization(name="norm_shared")
    c = keras.layers.Add()([shared(keras.layers.Conv2D(3, 1)(b)), shared(keras.layers.Conv2D(3, 1)(b))])
    d = keras.layers.BatchNormalization(name="norm_training")(keras.layers.Conv2D(3, 1)(c), training=True)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(d))


def test_left_alone_where_folding_would_change_the_output():
    model = branching()
    randomise(model)
    assert foldable(model) == {}
    half = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 1, dtype="mixed_float16"), keras.layers.BatchNormalization()])
    from common.explanation.graph import flatten

    assert foldable(flatten(half)[0]) == {}
