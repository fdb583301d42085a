"""Small stand-ins: a classifier of a few thousand weights, and lesions as bright discs."""

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from feedback.isic import CLASSES


def small_classifier(classes: int = 3, size: int = 16, seed: int = 0) -> keras.Model:
    """Two convolutions with batch normalisation between, one dense layer with dropout, softmax; raw RGB 0..255 in."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="conv1")(x)
    x = keras.layers.BatchNormalization(name="normal")(x)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="conv2")(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(12, activation="relu", name="fc1")(x)
    x = keras.layers.Dropout(0.5, name="dropout_1")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax", name="predictions")(x), name="small")


@pytest.fixture
def make_classifier() -> Callable[[], keras.Model]:
    return small_classifier


@pytest.fixture
def classifier() -> keras.Model:
    return small_classifier()


@pytest.fixture(scope="session")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a finished base classifier of eight classes at 24 px, made of the small network, untrained."""
    folder = tmp_path_factory.mktemp("base") / "small-base"
    folder.mkdir()
    config = {
        "study": "feedback", "experiment": "baseline", "classes": list(CLASSES), "image_size": 24, "resize_filter": "nearest",
        "backbone": "small", "dataset": "sample-isic2019", "synthetic": True, "data_fingerprint": "0", "settings": {},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "finished.json").write_text("{}")
    small_classifier(8, 24).save(folder / "model.keras")
    return folder


@pytest.fixture(scope="session")
def lesions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """24 images `(24, 16, 16, 3)` uint8 of a disc on noise, labels by its colour, masks 0/255; the last two images have no mask."""
    rng = np.random.default_rng(0)
    images = rng.integers(60, 120, (24, 16, 16, 3)).astype("uint8")
    labels = np.arange(24, dtype="int32") % 3
    masks = np.zeros((24, 16, 16), "uint8")
    grid = np.arange(16)
    for index in range(24):
        row, column = rng.integers(4, 12, 2)
        inside = (grid[:, None] - row) ** 2 + (grid[None, :] - column) ** 2 <= 12
        images[index, inside, labels[index]] = 240
        masks[index, inside] = 255
    masks[-2:] = 0
    return images, labels, masks
