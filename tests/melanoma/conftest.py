"""A data set of a few coloured squares in ISIC 2018 Task 2's layout, written once a test process."""

import csv
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from tests.common.runs.here import run_here

SIDE = 40


def write_image(path: Path, seed: int, bright: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 130, (SIDE, SIDE, 3))
    image[10:30, 10:30] += 100 if bright else 20
    Image.fromarray(image.astype("uint8")).save(path, quality=95)


def write_mask(path: Path, filled: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((SIDE, SIDE), "uint8")
    if filled:
        mask[12:24, 12:24] = 255
    Image.fromarray(mask).save(path)


def write_isic(folder: Path, count: int = 40, validation: int = 0, indicators: tuple[str, ...] = ("globules", "streaks")) -> Path:
    """`count` training and `validation` official validation images; a third are melanomas, half have globules, a quarter streaks."""
    rows = []
    for index in range(count + validation):
        name, part = f"ISIC_{index:07d}", "Training" if index < count else "Validation"
        write_image(folder / f"ISIC2018_Task1-2_{part}_Input" / f"{name}.jpg", index, index % 3 == 0)
        for step, indicator in enumerate(indicators, start=1):
            write_mask(folder / f"ISIC2018_Task2_{part}_GroundTruth" / f"{name}_attribute_{indicator}.png", index % (2 * step) == 0)
        # Seven in ten are renamed in ISIC 2019, as in the real one.
        rows.append((name if index % 10 < 3 else f"{name}_downsampled", float(index % 3 == 0), float(index % 3 != 0)))
    with (folder / "ISIC_2019_Training_GroundTruth.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("image", "MEL", "NV"))
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="session")
def isic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty training images, no official validation set. Do not change it."""
    return write_isic(tmp_path_factory.mktemp("isic"))


def tiny_backbone(name: str, image_size: int, weights: object = None, pooling: object = None) -> keras.Model:
    """Four stages of three convolutions, strides 4 to 32: what a ResNet50 is to Bio-U-Net, traced in a second instead of half a minute."""
    x = inputs = keras.Input((image_size, image_size, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem")(x)
    for stage in range(4):
        for block in range(3):
            x = keras.layers.Conv2D(8, 3, strides=1 if block else 2, padding="same", name=f"s{stage}b{block}_conv")(x)
            x = keras.layers.BatchNormalization(name=f"s{stage}b{block}_bn")(x)
            x = keras.layers.ReLU(name=f"s{stage}b{block}")(x)
    return keras.Model(inputs, x, name="tiny")


@pytest.fixture(scope="module")
def tiny(request: pytest.FixtureRequest) -> Iterator[None]:
    """`mobilenetv2_035` is the tiny network in this module, grids run their cells in this process, and TensorFlow runs steps without
    tracing them, which takes longer than the few steps themselves. The slow tests run the real network, traced."""
    from melanoma import flops, models

    flops._measured.cache_clear()  # the tiny network bears real ones' names
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("common.runs.grid.run_cell", run_here)
        patch.setattr(models, "build_backbone", tiny_backbone)
        patch.setattr(
            models, "feature_taps", lambda name, model: tuple(tuple(f"s{stage}b{block}" for block in range(3)) for stage in range(4))
        )
        patch.setattr(models, "half_resolution", lambda name, model: "stem")
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.run_functions_eagerly(True)
            yield
            tf.config.run_functions_eagerly(False)
        else:
            yield
    flops._measured.cache_clear()


@pytest.fixture(scope="session")
def images_b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dataset B: sixteen images of its own and one that Dataset A has."""
    folder = tmp_path_factory.mktemp("b")
    for index in range(16):
        write_image(folder / f"ISIC_{9_000_000 + index}.jpg", 500 + index, index % 2 == 0)
    write_image(folder / "ISIC_0000001_downsampled.jpg", 1, False)
    return folder
