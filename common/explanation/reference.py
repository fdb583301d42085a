"""The same maps from the package tf-keras-vis (TensorFlow only): the papers' toolkit, and the reference our own are tested against."""

import warnings

import keras
import numpy as np

from common.errors import UsageError
from common.explanation import gradcam as g
from common.explanation.graph import Linear, flatten, output_activation
from common.explanation.prepared import prepared


def _copy(layer: keras.layers.Layer) -> keras.layers.Layer:
    if isinstance(layer, Linear):
        return keras.layers.Dense.from_config({**layer.dense.get_config(), "activation": "linear"})
    return layer.__class__.from_config(layer.get_config())


def reference_maps(method: str, model: keras.Model, images: np.ndarray, class_weights: np.ndarray, layer: str | None) -> np.ndarray:
    """Maps (batch, h, w) at the layer's own size, ReLU applied, divided by their maximum; one image at a time, as the package masks."""
    if keras.backend.backend() != "tensorflow":
        raise UsageError(f"--engine tf-keras-vis runs on TensorFlow only, and the backend is {keras.backend.backend()}: use --engine own")
    try:
        with warnings.catch_warnings():
            # It imports scipy's zoom by its old name.
            warnings.simplefilter("ignore", DeprecationWarning)
            from tf_keras_vis.gradcam import Gradcam
            from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
            from tf_keras_vis.layercam import Layercam
            from tf_keras_vis.scorecam import Scorecam
    except ImportError as error:
        raise UsageError(f"--engine tf-keras-vis: the package cannot be imported ({error}); install requirements.txt") from None

    if any(getattr(layer, "compute_dtype", "") == "bfloat16" for layer in flatten(model)[0].layers):
        raise UsageError("--engine tf-keras-vis knows no bfloat16, in which this model computes; use --engine own")
    if method in ("scorecam", "faster-scorecam") and output_activation(model) == "sigmoid":
        # It puts a softmax on whatever it gets, so with one output every channel would weigh the same.
        raise UsageError(f"--engine tf-keras-vis: its {method} takes no model that ends in a sigmoid; use --engine own")
    explainer = {"gradcam": Gradcam, "gradcam++": GradcamPlusPlus, "layercam": Layercam, "scorecam": Scorecam, "faster-scorecam": Scorecam}

    def make():
        # A list of inputs, as the package passes them. Logits: on a softmax output it would apply softmax once more, and its
        # gradients would be those of the probability.
        taps = g.tapped_model(model, [layer])
        name, channels = taps.outputs[0]._keras_history.operation.name, taps.outputs[0].shape[-1]
        logits = keras.Model(taps.inputs, taps.outputs[-1])
        # A copy, because the package asks layers for their first output, which for a nested layer lies in the sub-model.
        return logits, keras.models.clone_model(logits, clone_function=_copy), name, channels

    logits, linear, name, channels = prepared(model, ("reference", layer), make)
    linear.set_weights(logits.get_weights())
    options = {"max_N": min(10, channels)} if method == "faster-scorecam" else {}
    visual = explainer[method](linear, clone=False)
    maps = []
    # Its masked images go through `predict`, whose progress bars are not ours to show.
    shows_progress = keras.config.is_interactive_logging_enabled()
    keras.config.disable_interactive_logging()
    try:
        for image, weights in zip(images, class_weights, strict=True):
            number = int(weights.argmax())
            cam = visual(
                lambda output, number=number: output[:, number],
                image[None],
                penultimate_layer=name,
                # The layer named is the layer meant: else the package looks for a convolution before it.
                seek_penultimate_conv_layer=False,
                expand_cam=False,
                normalize_cam=False,
                **options,
            )
            maps.append(cam[0])
    finally:
        if shows_progress:
            keras.config.enable_interactive_logging()
    return np.asarray(g.normalise_map(np.stack(maps).astype("float32")))
