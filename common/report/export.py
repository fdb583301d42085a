"""`export RUN`: the run's model for other programs, with its preprocessing inside and its probabilities checked."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from common.commands.export import ExportOptions
from common.errors import UsageError
from common.explanation.gradcam import grad_cam, split_model
from common.report.pictures import input_of, pictures
from common.report.predict import load_model
from common.runs.outcome import read_predictions
from common.runs.reading import RunFolder, run_files

log = logging.getLogger(__name__)

LARGEST_DIFFERENCE = 1e-4
FILES = {"saved_model": "model", "litert": "model.tflite", "onnx": "model.onnx", "keras": "model.keras"}


def export_command(options: ExportOptions) -> Path:
    """Write the folder with the model, classes.json and model_card.md; returns it.

    Raises:
        UsageError: the images of the run are gone, its model is not one of images to probabilities, the format cannot hold the network,
            or the exported probabilities differ by more than 1e-4. Then nothing is left behind.
    """
    folder = RunFolder.existing(options.run)
    config = folder.read_json("config.json")
    target = options.output or folder.path / f"export-{options.format}"
    if target.exists():
        raise UsageError(f"--output {target}: exists already; expected a new folder")
    images = test_images(folder, options.data_dir, options.images)
    model = load_model(folder)
    expected = np.asarray(model.predict_on_batch(images.astype("float32")))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as name:
        made = Path(name) / "export"
        made.mkdir()
        path = made / FILES[options.format]
        _write(model, path, options)
        found, maps = run_exported(path, options.format, images)
        difference = float(np.abs(found - expected).max())
        if not difference <= LARGEST_DIFFERENCE:
            said = f"its probabilities differ by {difference:.2g} from the run's, expected at most {LARGEST_DIFFERENCE:g}"
            raise UsageError(f"--format {options.format}: {said}")
        facts = {
            "classes": config["classes"],
            "input": {
                "shape": ["batch", *images.shape[1:]],
                "dtype": "uint8",
                "colours": "RGB",
                "resize_filter": config.get("resize_filter"),
            },
            "outputs": ["probabilities", *(["map"] if maps is not None else [])],
            "format": options.format,
            "largest_difference": difference,
            "compared_on": len(images),
        }
        RunFolder(made).write_json("classes.json", facts)
        if folder.has("model_card.md"):
            shutil.copyfile(folder.path / "model_card.md", made / "model_card.md")
        made.rename(target)
    log.info("%s: largest difference of probabilities on %d test images %.2g", target, len(images), difference)
    return target


def test_images(folder: RunFolder, data_dir: Path | None, count: int) -> np.ndarray:
    """The first `count` test images, `(n, side, side, 3)` uint8, as the run's model takes them."""
    input_of(folder)
    return pictures(folder, run_files(folder, data_dir, read_predictions(folder)[0]["image"][:count]))


def serving_model(model: keras.Model) -> keras.Model:
    """The same network on uint8 images (batch, side, side, 3); what its weights expect of pixels is inside it already."""
    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="image")
    return keras.Model(pixels, model(ops.cast(pixels, "float32")), name=model.name)


def serving_with_map(model: keras.Model, layer: str | None) -> tuple[Callable[[Any], dict[str, Any]], list[keras.Model]]:
    """A function from uint8 images to {"probabilities", "map"}, and the models that it calls.

    The map is Grad-CAM of the predicted class (Selvaraju et al. 2020, eqs. 1 and 2), (batch, h, w) float32 in 0..1, at the layer's size.
    """
    body, head = split_model(model, layer)
    classes = int(model.output_shape[-1])

    def serve(image):
        pixels = ops.cast(image, "float32")
        probabilities = model(pixels, training=False)
        chosen = ops.one_hot(ops.argmax(probabilities, axis=-1), classes)
        return {"probabilities": probabilities, "map": grad_cam(body, head, pixels, chosen)}

    return serve, [model, body, head]


def _write(model: keras.Model, path: Path, options: ExportOptions) -> None:
    try:
        if options.with_map:
            serve, models = serving_with_map(model, options.layer)
            archive = keras.export.ExportArchive()
            for each in models:
                archive.track(each)
            archive.add_endpoint("serve", serve, input_signature=[keras.InputSpec(shape=(None, *model.input_shape[1:]), dtype="uint8")])
            archive.write_out(str(path), verbose=False)
        elif options.format == "keras":
            serving_model(model).save(path)
        else:
            formats = {"saved_model": "tf_saved_model", "litert": "litert", "onnx": "onnx"}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the converters, about their own use of TensorFlow and NumPy
                served = serving_model(model)
                served(np.zeros((1, *served.input_shape[1:]), "uint8"))  # the ONNX converter wants a model that has been called
                served.export(str(path), format=formats[options.format], verbose=False)
    except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, UsageError):
            raise
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"--format {options.format}: this network cannot be exported to it ({said})") from error


def run_exported(path: Path, format: str, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """What the exported file or folder gives for `(n, side, side, 3)` uint8 images: probabilities `(n, K)`, and maps where it has them."""
    if format == "keras":
        return np.asarray(keras.saving.load_model(path, compile=False).predict_on_batch(images)), None
    if format == "saved_model":
        found = keras.layers.TFSMLayer(str(path), call_endpoint="serve")(images)
        if isinstance(found, dict):
            return ops.convert_to_numpy(found["probabilities"]), ops.convert_to_numpy(found["map"])
        return ops.convert_to_numpy(found), None
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: images})[0], None
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner()
    (name,) = runner.get_input_details()
    rows = [next(iter(runner(**{name: image[None]}).values())) for image in images]
    return np.concatenate(rows), None
