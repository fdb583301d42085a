"""A run folder with a tiny classifier, images of bright discs beside it, and sessions over them. No Gradio, no browser."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from feedback.experiments.serve import ServeSettings
from feedback.experiments.simulate import SimulateSettings
from feedback.page import replay, serve
from feedback.page.model import CAREFUL, Learning, ReplaySet, TunedModel
from feedback.page.session import CorrectionSession

CLASSES = ("BKL", "MEL", "NV")
SIDE = 48


def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Image `(36, 48, 3)` uint8 of a disc on noise and its region; the colour of the disc is the class `number % 3`."""
    rng = np.random.default_rng(number)
    image = rng.integers(60, 120, (36, SIDE, 3)).astype("uint8")
    rows, columns = np.ogrid[:36, :SIDE]
    region = (rows - rng.integers(10, 26)) ** 2 + (columns - rng.integers(12, 36)) ** 2 <= 64
    image[region, number % 3] = 240
    return image, region


def tiny_classifier() -> keras.Model:
    """A network whose first three channels find red, green and blue discs: a little right, and with maps that lie on something."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="conv1")(x)
    x = keras.layers.BatchNormalization(name="normal")(x)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="conv2")(x)
    x = keras.layers.Dropout(0.3, name="dropout_1")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="predictions")(x), name="tiny")
    first, second, last = (model.get_layer(name) for name in ("conv1", "conv2", "predictions"))
    colours, passed, scores = (keras.ops.convert_to_numpy(layer.kernel).copy() for layer in (first, second, last))
    for channel in range(3):
        colours[..., channel] = -1 / 9
        colours[:, :, channel, channel] = 2 / 9
        passed[..., channel] = 0.1 * passed[..., channel]
        passed[1, 1, channel, channel] += 1
        scores[channel, channel] += 2
    for layer, values in ((first, colours), (second, passed), (last, scores)):
        layer.kernel.assign(values)
    return model


@pytest.fixture(scope="session")
def base_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run as `feedback baseline` leaves it; its images are in `images/` beside it."""
    root = tmp_path_factory.mktemp("page")
    run, images = root / "run", root / "images"
    run.mkdir()
    images.mkdir()
    for number in range(12):
        Image.fromarray(draw(number)[0]).save(images / f"ISIC_{number:07d}.png")
    names = [f"ISIC_{number:07d}.png" for number in range(12)]
    table = {"image": names, "label": [CLASSES[k % 3] for k in range(12)], "group": names, "split": ["validation"] * 9 + ["train"] * 3}
    pd.DataFrame(table).to_csv(run / "manifest.csv", index=False)
    tiny_classifier().save(run / "model.keras")
    config = {
        "classes": CLASSES, "image_size": 16, "resize_filter": "bilinear", "synthetic": True, "settings": {}, "study": "feedback",
        "data_fingerprint": "", "dataset": "discs",
    }  # fmt: skip
    (run / "config.json").write_text(json.dumps(config))
    (run / "finished.json").write_text("{}")
    (run / "local.json").write_text(json.dumps({"data_dir": str(images)}))
    return run


@pytest.fixture(scope="session")
def compiled_models() -> dict[Any, TunedModel]:
    return {}


@pytest.fixture
def reuse(compiled_models: dict[Any, TunedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes seconds, so tests share models: one for sessions and one for replays, with the loaded weights put in each time."""

    def sharing(use: str) -> Callable[..., TunedModel]:
        def make(classifier: keras.Model, settings: SimulateSettings, learning: Learning, replayed: ReplaySet | None) -> TunedModel:
            key = use, settings.layer, replace(learning, learning_rate=0.0, steps=0), replayed is None
            if key not in compiled_models:
                compiled_models[key] = TunedModel(classifier, settings, learning, replayed)
            found = compiled_models[key]
            found.learning, found.replay = learning, replayed
            found.set_weights([keras.ops.convert_to_numpy(weight) for weight in classifier.weights])
            found.model.optimizer.learning_rate.assign(learning.learning_rate * (1.0 if replayed is not None else CAREFUL))
            return found

        return make

    monkeypatch.setattr(serve, "TunedModel", sharing("session"))
    monkeypatch.setattr(replay, "TunedModel", sharing("replay"))


@pytest.fixture
def start(base_run: Path, tmp_path: Path, reuse: None) -> Iterator[Callable[..., CorrectionSession]]:
    """`start(log="log", **options)` opens a session; it is closed when the test ends."""
    opened: list[CorrectionSession] = []

    def function(log: str = "log", images: Path | None = None, **options: Any) -> CorrectionSession:
        given = {"steps": 2, "learning_rate": 0.1, "guard_share": 1.0, "images": images or base_run.parent / "images", **options}
        opened.append(serve.open_session(ServeSettings(run=base_run, log=tmp_path / log, **given)))
        return opened[-1]

    yield function
    for session in opened:
        session.close()
