"""Explanations against their peers: Score-CAM and twelve Grad-CAM maps (tf-keras-vis), LIME (lime), Grad-CAM inside a training step.

Every comparison first checks that both sides give the same numbers, then times them in interleaved pairs. A training step with the map
in its loss computes another loss than the plain step: there the logits and the classification part must be equal, and the updates not.
Weights are random: time does not depend on them. Memory is measured in processes of their own, as the growth of the resident set; extra
memory is the median of three such processes a side, in turn.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import statistics
from typing import Any

from benchmarks.memory import Peak, in_process, resident
from benchmarks.pairs import interleaved, row, same, skipped

SIZE, CLASSES = 224, 5
# Outputs of twelve blocks of MobileNetV2, early to late.
TWELVE = [f"block_{index}_expand_relu" for index in range(4, 16)]
PAIRS = 7
MEMORY_RUNS = 3


def main() -> list[dict[str, Any]]:
    """All measures; prints one line each with the ratio and the target."""
    rows = []
    if importlib.util.find_spec("tf_keras_vis"):
        rows += [*score_cam(), twelve_maps()]
    else:
        rows += [skipped(name, "tf-keras-vis") for name in ("Score-CAM, time", "Score-CAM, extra memory", "twelve Grad-CAM maps")]
    rows.append(lime_samples() if importlib.util.find_spec("lime") else skipped("LIME, 300 samples", "lime"))
    rows += [training_step("out_relu", 1.25), training_step("block_9_add", 1.4)]
    rows += [training_step("out_relu", 1.25, frozen=False), training_step("block_9_add", 1.4, frozen=False), memory_growth()]
    return rows


def mobilenet(alpha: float = 1.0, size: int = SIZE, activation: str | None = "softmax"):
    """Flat MobileNetV2, raw 0..255 images in; the peer cannot look into nested models.

    Random weights, with the normalisation layers' statistics taken from noisy copies of the picture: as they come the signal fades to
    nothing, and taken from one picture they enlarge rounding errors from layer to layer.
    """
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    model = keras.applications.MobileNetV2(input_tensor=x, alpha=alpha, weights=None, classes=CLASSES, classifier_activation=activation)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    noise = np.random.default_rng(0).normal(0, 60, (16, size, size, 3))
    model(np.clip(picture(size) + noise, 0, 255).astype("float32"), training=True)
    return model


@contextlib.contextmanager
def double_precision():
    """Networks built inside compute in float64.

    In float32 two correct ways to compute the gradient differ by up to 1e-2 after ten blocks of random weights: a value that rounding lifts
    over ReLU6's edge at 0 or 6 switches a whole path on or off. In float64 the same two agree to 1e-6.
    """
    import keras

    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx(before)
        keras.config.set_dtype_policy(before)


def picture(size: int = SIZE):
    """A smooth image with some edges, (1, size, size, 3) float32, 0..255."""
    import numpy as np

    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    waves = np.stack([np.sin(9 * x * y), np.cos(7 * x), np.sin(5 * y + 3 * x)], axis=-1)
    return (127.5 + 90 * waves + 30 * (np.hypot(x - 0.5, y - 0.4) < 0.2)[..., None]).astype("float32")[None]


def package_score_cam(linear, image):
    """tf-keras-vis as its tutorial calls it: all channels, masks of all of them at once, `predict` on batches of 32."""
    from tf_keras_vis.scorecam import Scorecam

    with contextlib.redirect_stdout(io.StringIO()):
        return Scorecam(linear, clone=False)(
            lambda output: output[:, 1], image, penultimate_layer="out_relu", seek_penultimate_conv_layer=False
        )


def score_cam() -> list[dict[str, Any]]:
    """Score-CAM of MobileNetV2 at 224 px, all 1280 channels: time and extra memory, each as a share of the package's."""
    from common.explanation.cams import cam

    model, linear = mobilenet(), mobilenet(activation=None)
    linear.set_weights(model.get_weights())
    image = picture()
    reference = {"method": "scorecam", "model": model, "images": image, "classes": 1, "layer": "out_relu", "upsample": False}
    same("Score-CAM", cam(**reference), cam(**reference, engine="tf-keras-vis"), 1e-4)
    times = interleaved(lambda: cam("scorecam", model, image, 1, "out_relu"), lambda: package_score_cam(linear, image), PAIRS, warmup=0)
    measured = [(extra_memory("ours"), extra_memory("package")) for _ in range(MEMORY_RUNS)]
    ours, peer = (statistics.median(side) for side in zip(*measured, strict=True))
    return [
        row(
            "Score-CAM, 1280 channels at 224 px: share of tf-keras-vis' time",
            1 / times.ratio,
            0.6,
            at_most=True,
            detail=f"{times.ours:.1f} s against {times.peer:.1f} s",
        ),
        row(
            "Score-CAM: share of tf-keras-vis' extra memory",
            ours / peer,
            0.25,
            at_most=True,
            detail=f"{ours:.0f} MB against {peer:.0f} MB, medians of {MEMORY_RUNS}",
        ),
    ]


def twelve_maps() -> dict[str, Any]:
    """Twelve Grad-CAM maps of one image: one pass of ours against twelve calls of the package."""
    import numpy as np
    from tf_keras_vis.gradcam import Gradcam

    from common.explanation.cams import cam

    image = picture()

    def models():
        model, linear = mobilenet(), mobilenet(activation=None)
        linear.set_weights(model.get_weights())
        return model, linear

    def maps_of(linear, expand: bool):
        visual = Gradcam(linear, clone=False)
        options = {"seek_penultimate_conv_layer": False, "expand_cam": expand, "normalize_cam": expand}
        return [np.asarray(visual(lambda output: output[:, 1], image, penultimate_layer=name, **options)) for name in TWELVE]

    with double_precision():
        model, linear = models()
        for ours, theirs in zip(cam("gradcam", model, image, 1, TWELVE, upsample=False), maps_of(linear, expand=False), strict=True):
            same("Grad-CAM", ours, theirs / (theirs.max() or 1), 1e-4)
    model, linear = models()

    def package():
        return maps_of(linear, expand=True)

    times = interleaved(lambda: cam("gradcam", model, image, 1, TWELVE), package, PAIRS)
    return row("twelve Grad-CAM maps at 224 px against tf-keras-vis", times.ratio, 20, detail=f"{times.ours:.3f} s, {times.peer:.2f} s")


def lime_samples() -> dict[str, Any]:
    """LIME with 300 samples on the same segments: ours against the package's defaults (batches of 10, five labels, `predict`)."""
    import numpy as np
    from lime.lime_image import LimeImageExplainer

    from common.explanation import lime

    model, image = mobilenet(), picture()[0]
    segments = lime.superpixels(image.astype("uint8"), 50)

    def package(labels: int = 5):
        with contextlib.redirect_stderr(io.StringIO()):
            return LimeImageExplainer(random_state=0).explain_instance(
                image,
                lambda batch: model.predict(batch, verbose=0),
                top_labels=labels,
                hide_color=0,
                num_samples=300,
                segmentation_fn=lambda _: segments,
                random_seed=0,
            )

    found = package()
    label = found.top_labels[0]
    ours = lime.explain(model, image, label, samples=300, seed=0, segments=segments)
    theirs = np.zeros_like(ours.weights)
    for number, weight in found.local_exp[label]:
        theirs[number] = weight
    same("LIME", ours.weights, theirs, 1e-4)
    times = interleaved(lambda: lime.explain(model, image, label, samples=300, seed=0, segments=segments), package, PAIRS, warmup=0)
    return row(
        "LIME, 300 samples at 224 px against the package's defaults", times.ratio, 1.9, detail=f"{times.ours:.1f} s, {times.peer:.1f} s"
    )


def training_step(layer: str, target: float, frozen: bool = True) -> dict[str, Any]:
    """One training step with the Grad-CAM map in the loss against the plain step, as `fit` runs them.

    frozen: batch normalisation stays in inference mode, as fine-tuning on few images does, and the map's pass through the head is then
    the prediction's own. Otherwise the prediction normalises by its batch and the map, drawn in inference mode, needs a pass of its own.
    """
    import keras
    import numpy as np
    from keras import ops

    from common.explanation import gradcam

    class Trainer(keras.Model):
        def __init__(self, with_map: bool) -> None:
            super().__init__()
            backbone = mobilenet(size=96)
            for one in backbone.layers:
                one.trainable = not (frozen and isinstance(one, keras.layers.BatchNormalization))
            self.body, self.head = gradcam.split_model(backbone, layer)
            self.with_map = with_map

        def call(self, inputs, training=False):
            activations = self.body(inputs, training=training)
            # With batch normalisation at rest the map's own pass through the head gives the logits too: no second one.
            logits = None if self.with_map and frozen else self.head(activations, training=training)
            return {"activations": activations, "logits": logits}

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            _, classification, extra = self.parts(y, y_pred)
            return classification + extra

        def parts(self, y, y_pred):
            """Logits, classification loss and explanation term."""
            labels = ops.one_hot(y, CLASSES)
            logits, extra = y_pred["logits"], 0.0
            if self.with_map:
                gradients, own = gradcam.class_gradients(self.head, y_pred["activations"], labels, return_logits=True)
                extra = ops.mean(gradcam.map_from_gradients(y_pred["activations"], gradients))
                logits = own if logits is None else logits
            return logits, ops.mean(keras.losses.categorical_crossentropy(labels, logits, from_logits=True)), extra

    images = np.repeat(picture(96), 16, axis=0)
    labels = np.arange(16) % CLASSES
    trainers = []
    for with_map in (False, True):
        trainer = Trainer(with_map)
        trainer.compile(optimizer=keras.optimizers.SGD(1e-4), jit_compile=keras.backend.backend() == "jax")
        trainers.append(trainer)
    _same_but_for_the_map(*trainers, images, labels)
    times = interleaved(*(lambda t=t: t.train_on_batch(images, labels) for t in reversed(trainers)), PAIRS, warmup=2)
    return row(
        f"training step, Grad-CAM at {layer}, BN {'frozen' if frozen else 'trained'}: times the plain step",
        1 / times.ratio,
        target,
        at_most=True,
        detail=f"{times.ours:.3f} s against {times.peer:.3f} s, MobileNetV2, 16 images at 96 px",
    )


def _same_but_for_the_map(plain, mapped, images, labels) -> None:
    """Raises AssertionError unless both trainers classify alike from the same weights, and the map changes a step.

    Logits and classification loss to 1e-5; the explanation term is finite, above 0, and the one that `train_on_batch` adds; and its
    gradient makes the step another one by at least 1 % of the plain step's length.
    """
    import numpy as np

    start = plain.get_weights()
    mapped.set_weights(start)
    logits, classification, _ = (np.asarray(part) for part in plain.parts(labels, plain(images, training=True)))
    own_logits, own_classification, extra = (np.asarray(part) for part in mapped.parts(labels, mapped(images, training=True)))
    same("training step, logits", own_logits, logits, 1e-5 * np.abs(logits).max())
    same("training step, classification loss", own_classification, classification, 1e-5)
    updates, losses = [], []
    for trainer in (plain, mapped):
        trainer.set_weights(start)
        before = [np.array(variable) for variable in trainer.trainable_variables]
        losses.append(float(trainer.train_on_batch(images, labels)))
        after = [np.array(variable) for variable in trainer.trainable_variables]
        updates.append(np.concatenate([(b - a).ravel() for a, b in zip(before, after, strict=True)]))
    same("training step, loss less its explanation term", losses[1] - extra, losses[0], 1e-4)
    change = np.linalg.norm(updates[1] - updates[0]) / np.linalg.norm(updates[0])
    if not (extra > 0 and np.isfinite(change) and change > 0.01):
        raise AssertionError(f"training step: explanation term {extra:.3g} changes the update by {change:.3g}, expected over 0.01")


def memory_growth() -> dict[str, Any]:
    """Growth of the process over a hundred explanations, all methods and LIME in turn, after two of each, in per cent."""
    before, after = in_process(__name__, "growth")
    return row(
        "memory growth over 100 explanations in a row",
        100 * (after - before) / before,
        5,
        unit="%",
        at_most=True,
        detail=f"{before:.0f} to {after:.0f} MB",
    )


def extra_memory(who: str) -> float:
    """Peak minus start, MB, of one Score-CAM in a fresh process that has built the model and run it once."""
    before, peak = in_process(__name__, who)
    return peak - before


def in_child(what: str) -> None:
    """Runs in the measuring process; prints two numbers of MB as JSON."""
    import numpy as np

    from common.explanation import lime
    from common.explanation.cams import METHODS, cam

    if what == "growth":
        model, rng = mobilenet(0.35, 96), np.random.default_rng(0)

        def explain(index: int) -> None:
            image = rng.uniform(0, 255, (1, 96, 96, 3)).astype("float32")
            method = (*METHODS, "lime")[index % (len(METHODS) + 1)]
            if method == "lime":
                lime.explain(model, image[0], index % CLASSES, samples=50, count=20)
            else:
                cam(method, model, image, index % CLASSES)

        for index in range(2 * (len(METHODS) + 1)):
            explain(index)
        before = resident()
        for index in range(100):
            explain(index)
        print(json.dumps([before, resident()]))
        return
    model = mobilenet(activation="softmax" if what == "ours" else None)
    image = picture()
    np.asarray(model(image))
    cam("gradcam", model, image, 1, "out_relu")
    before = resident()
    with Peak() as peak:
        _ = cam("scorecam", model, image, 1, "out_relu") if what == "ours" else package_score_cam(model, image)
    print(json.dumps([before, peak.highest]))


if __name__ == "__main__":
    main()
