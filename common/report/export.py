"""`export RUN`: the run's model for other programs, with its preprocessing inside and its probabilities checked."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from common.commands.export import ExportOptions
from common.errors import UsageError
from common.explanation.gradcam import class_gradients, map_from_gradients, split_model
from common.report.pictures import input_of, pictures
from common.report.predict import load_model
from common.runs.outcome import read_predictions
from common.runs.reading import RunFolder, run_files

log = logging.getLogger(__name__)

# Of a probability; of a map, whose rounding is divided by the map's own maximum with the rest.
LARGEST_DIFFERENCE, LARGEST_MAP_DIFFERENCE = 1e-4, 1e-3
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
    input_of(folder)  # a run of no classifier is told before its images are looked for
    images = pictures(folder, run_files(folder, options.data_dir, read_predictions(folder)[0]["image"][: options.images]))
    model = load_model(folder)
    expected = np.asarray(model.predict_on_batch(images.astype("float32")))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as name:
        made = Path(name) / "export"
        made.mkdir()
        path = made / FILES[options.format]
        served = serving_model(model, options.with_map, options.layer)
        found, maps = _exported(served, path, options.format, images)
        difference = _difference(options.format, "probabilities", found, expected, LARGEST_DIFFERENCE)
        if maps is not None:
            apart = _difference(options.format, "maps", maps, ops.convert_to_numpy(served(images)["map"]), LARGEST_MAP_DIFFERENCE)
            log.info("largest difference of maps, which lie in 0..1: %.2g", apart)
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


def _difference(format: str, what: str, found: np.ndarray, expected: np.ndarray, most: float) -> float:
    """The largest difference. UsageError where it is above `most`, or no number."""
    apart = float(np.abs(found - expected).max())
    if not apart <= most:
        raise UsageError(f"--format {format}: its {what} differ by {apart:.2g} from the run's, expected at most {most:g}")
    return apart


def serving_model(model: keras.Model, with_map: bool = False, layer: str | None = None) -> keras.Model:
    """The same network on uint8 images (batch, side, side, 3); what its weights expect of pixels is inside it already.

    with_map: gives {"probabilities", "map"}, the map being Grad-CAM of the predicted class at `layer` (`PredictedMap`).
    """
    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="image")
    values = ops.cast(pixels, "float32")
    probabilities = model(values)
    if not with_map:
        return keras.Model(pixels, probabilities, name=model.name)
    return keras.Model(pixels, {"probabilities": probabilities, "map": PredictedMap(model, layer)(values, probabilities)}, name=model.name)


class PredictedMap(keras.layers.Layer):
    """Grad-CAM of the predicted class (Selvaraju et al. 2020, eqs. 1 and 2): images (batch, H, W, 3) float32 and probabilities
    (batch, classes) -> maps (batch, h, w) float32 in 0..1, at the layer's size; None: the last convolution before pooling."""

    def __init__(self, model: keras.Model, layer: str | None) -> None:
        super().__init__()
        self.body, self.head = split_model(model, layer)

    def call(self, images: Any, probabilities: Any) -> Any:
        # LiteRT and ONNX have no `argmax` of Keras and no gradient of a product whose sizes are open, but these.
        _, best = ops.top_k(probabilities, 1)
        chosen = ops.reshape(ops.one_hot(best[:, 0], probabilities.shape[-1]), (-1, 1))

        def score(maps: Any, training: bool = False) -> Any:
            return ops.matmul(ops.reshape(self.head(maps, training=training), (1, -1)), chosen)

        activations = self.body(images)
        first = activations[0] if isinstance(activations, list | tuple) else activations
        return map_from_gradients(first, class_gradients(score, activations, ops.ones((1, 1))))


def _exported(served: keras.Model, path: Path, format: str, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Write the model to `path`, and what the file then gives (`run_exported`). UsageError where the format cannot hold the network."""
    if format == "keras":
        served.save(path)
        return run_exported(path, format, images)
    formats = {"saved_model": "tf_saved_model", "litert": "litert", "onnx": "onnx"}
    served(np.zeros((1, *served.input_shape[1:]), "uint8"))  # the ONNX converter wants a model that has been called
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # it tells each step, and each failure before it raises it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the converters, about their own use of TensorFlow and NumPy
            served.export(str(path), format=formats[format], verbose=False)
        return run_exported(path, format, images)
    except Exception as error:  # converters and interpreters have no error in common, and nothing else runs here
        said = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        inside = "" if len(served.outputs) == 1 else " with its map inside"
        raise UsageError(f"--format {format}: this network cannot be exported to it{inside} ({said})") from error


def run_exported(path: Path, format: str, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """What the exported file or folder gives for `(n, side, side, 3)` uint8 images: probabilities `(n, K)`, and maps where it has them."""
    if format == "keras":
        found = [keras.saving.load_model(path, compile=False).predict_on_batch(images)]
    elif format == "saved_model":
        found = keras.tree.flatten(keras.layers.TFSMLayer(str(path), call_endpoint="serve")(images))
    elif format == "onnx":
        import onnxruntime

        quiet = onnxruntime.SessionOptions()
        quiet.log_severity_level = 4  # what it says is in its error, too
        session = onnxruntime.InferenceSession(str(path), quiet, providers=["CPUExecutionProvider"])
        found = session.run(None, {session.get_inputs()[0].name: images})
    else:
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(path)).get_signature_runner()
        (name,) = runner.get_input_details()
        rows = [list(runner(**{name: image[None]}).values()) for image in images]
        found = [np.concatenate(each) for each in zip(*rows, strict=True)]
    # The converters rename outputs; a map has one axis more than probabilities.
    probabilities, *maps = sorted((ops.convert_to_numpy(each) for each in found), key=np.ndim)
    return probabilities, maps[0] if maps else None
