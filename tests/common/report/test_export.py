"""An exported model gives the run's probabilities from uint8 pixels, in another program where there is one."""

import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.commands.export import COMMAND, ExportOptions
from common.errors import UsageError
from common.explanation.cams import gradcam
from common.report import export as exporting
from common.report.export import export_command, run_exported
from common.runs.outcome import write_predictions

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a small network whose pixels are scaled inside, with its five test images."""
    path = tmp_path_factory.mktemp("export")
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(image)
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(x))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax", kernel_initializer="normal")(x))
    run = path / "run"
    run.mkdir()
    model.save(run / "model.keras")
    (path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    names = [f"{number}.png" for number in range(5)]
    for name, each in zip(names, pixels, strict=True):
        Image.fromarray(each).save(path / "images" / name)
    config = {"study": "cervical", "experiment": "finetune", "classes": CLASSES, "image_size": 16, "resize_filter": "bilinear"}
    (run / "config.json").write_text(json.dumps({**config, "dataset": "sample", "synthetic": True}))
    (run / "model_card.md").write_text("# card\n")
    found = model.predict(pixels.astype("float32"), verbose=0)
    write_predictions(run, pd.DataFrame({"image": names, "label": ["a", "b", "c", "a", "b"]}), found, CLASSES)
    return path


def pixels_of(path: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path / "images" / f"{number}.png")) for number in range(5)])


@pytest.mark.parametrize(("format", "package"), [("keras", None), ("saved_model", None), ("litert", "ai_edge_litert"), ("onnx", "tf2onnx")])
def test_probabilities_are_the_runs_own(trained: Path, tmp_path: Path, format: str, package: str | None) -> None:
    if package:
        pytest.importorskip(package, reason=f"{package} is not installed (requirements-export.txt)")
    if keras.backend.backend() != "tensorflow" and format != "keras":
        pytest.skip("exports need TensorFlow")
    options = ExportOptions(run=trained / "run", format=format, output=tmp_path / "out", data_dir=trained / "images")  # type: ignore[arg-type]
    folder = export_command(options)
    model = keras.saving.load_model(trained / "run" / "model.keras", compile=False)
    expected = np.asarray(model.predict_on_batch(pixels_of(trained).astype("float32")))
    found, maps = run_exported(folder / exporting.FILES[format], format, pixels_of(trained))
    assert np.abs(found - expected).max() < 1e-5 and maps is None
    facts = json.loads((folder / "classes.json").read_text())
    assert facts["classes"] == list(CLASSES) and facts["largest_difference"] < 1e-5 and facts["compared_on"] == 5
    assert (folder / "model_card.md").read_text() == "# card\n"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow")
@pytest.mark.parametrize(("format", "package"), [("saved_model", "tensorflow"), ("litert", "ai_edge_litert")])
def test_the_map_inside_is_grad_cam_of_the_predicted_class(trained: Path, tmp_path: Path, format: str, package: str) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed (requirements-export.txt)")
    out = tmp_path / "out"
    export_command(ExportOptions(run=trained / "run", format=format, with_map=True, output=out, data_dir=trained / "images"))  # type: ignore[arg-type]
    found, maps = run_exported(out / exporting.FILES[format], format, pixels_of(trained))
    model = keras.saving.load_model(trained / "run" / "model.keras", compile=False)
    expected = gradcam(model, pixels_of(trained).astype("float32"), found.argmax(axis=1), upsample=False)
    assert maps is not None and maps.shape == (5, 14, 14)
    np.testing.assert_allclose(maps, expected, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow")
def test_a_map_that_the_format_cannot_hold_is_one_line_and_leaves_nothing(trained: Path, tmp_path: Path) -> None:
    """The ONNX converter (1.17) reshapes the gradient of an average to one axis too few."""
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed (requirements-export.txt)")
    options = ExportOptions(run=trained / "run", format="onnx", with_map=True, output=tmp_path / "out", data_dir=trained / "images")
    with pytest.raises(UsageError, match="--format onnx: this network cannot be exported to it with its map inside"):
        export_command(options)
    assert not list(tmp_path.iterdir())


def test_a_difference_stops_the_export_and_leaves_nothing(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "run_exported", lambda path, format, images: (np.full((5, 3), 1 / 3), None))
    with pytest.raises(UsageError, match="its probabilities differ by .* expected at most 0.0001"):
        export_command(ExportOptions(run=trained / "run", format="keras", output=tmp_path / "out", data_dir=trained / "images"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "keras", "--with-map"], "--with-map: --format keras cannot hold it"),
        (["--layer", "conv"], "--layer: has no effect here: there is no map without --with-map"),
        (["--images", "0"], "--images 0: expected between 1 and 10000"),
        (["--output", "{images}"], "exists already; expected a new folder"),
        (["--with-map", "--layer", "nothing"], "nothing"),
    ],
)
def test_wrong_options_are_one_line(trained: Path, words: list[str], said: str) -> None:
    from common.cli import parse

    with pytest.raises(UsageError, match=said):
        words = [word.format(images=trained / "images") for word in words]
        export_command(parse(COMMAND, [str(trained / "run"), "--data-dir", str(trained / "images"), *words]))


def test_a_network_that_the_format_cannot_hold_is_one_line(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def converter(*_: object, **__: object) -> None:
        raise OSError("op Strange is not supported\nand more")

    monkeypatch.setattr(keras.Model, "export", converter)
    with pytest.raises(UsageError, match=r"this network cannot be exported to it \(op Strange is not supported\)$"):
        export_command(ExportOptions(run=trained / "run", output=tmp_path / "out", data_dir=trained / "images"))
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="--format onnx: the package tf2onnx is not installed; install requirements-export.txt"):
        ExportOptions(run=trained / "run", format="onnx").check_paths()
