"""Small models for the explanation tests: flat, nested, with a skip connection, raw 0..255 images in, softmax out."""

import keras
import numpy as np

SIZE, CLASSES = 16, 3


def images(count: int = 3, size: int = SIZE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, (count, size, size, 3)).astype("float32")


def one_hot(*classes: int, count: int = CLASSES) -> np.ndarray:
    return np.eye(count, dtype="float32")[list(classes)]


def flat(seed: int = 0, activation: str = "relu", end: str = "dense") -> keras.Model:
    """Two convolutions with a skip connection around the second, pooling, a third, and a softmax written in one of three ways."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIZE, SIZE, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    first = keras.layers.Conv2D(6, 3, padding="same", activation=activation, name="conv1")(x)
    second = keras.layers.Conv2D(6, 3, padding="same", activation=activation, name="conv2")(first)
    x = keras.layers.Add(name="add")([first, second])
    x = keras.layers.AveragePooling2D(2)(x)
    x = keras.layers.Conv2D(5, 3, activation=activation, name="conv3")(x)
    return keras.Model(inputs, _classifier(x, end), name="flat")


def _classifier(x, end: str):
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dense(8, activation="tanh", name="hidden")(x)
    if end == "dense":
        return keras.layers.Dense(CLASSES, activation="softmax", name="predictions", dtype="float32")(x)
    logits = keras.layers.Dense(CLASSES, name="logits", dtype="float32")(x)
    return keras.layers.Softmax(name="predictions", dtype="float32")(logits) if end == "layer" else keras.ops.softmax(logits)


def nested(seed: int = 0, activation: str = "relu") -> keras.Model:
    """A backbone as a sub-model with a frozen normalisation layer, preprocessing before it, dropout behind it."""
    keras.utils.set_random_seed(seed)
    inner_in = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="stem")(inner_in)
    x = keras.layers.BatchNormalization(name="norm", trainable=False)(x)
    x = keras.layers.Activation(activation, name="stem_relu")(x)
    y = keras.layers.Conv2D(6, 3, padding="same", activation=activation, name="branch")(x)
    backbone = keras.Model(inner_in, keras.layers.Add(name="sum")([x, y]), name="backbone")
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 255.0, name="scale")(inputs)
    x = backbone(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.5, name="dropout")(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, activation="softmax", name="predictions")(x), name="nested")
