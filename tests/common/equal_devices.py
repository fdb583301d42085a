"""One epoch on one device and on two virtual ones, KERAS_BACKEND=jax: prints {case: [largest difference of a weight, …]} as JSON.

`losses`: every study's, on a small network with batch normalisation, dropout, augmentation and an odd last batch. `deep`: twelve
convolutions, in float64 and in float32, where one device with images that differ by one unit in the last place is the third number.
"""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = "jax"
# Compiling takes most of the time here, so it is done without care.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
os.environ["JAX_ENABLE_X64"] = "1"

import keras
import numpy as np
from keras.src.backend.common import dtypes

from cervical import losses as cells
from common import device
from common.data.pipeline import Batches
from feedback.experiments.simulate import SimulateSettings
from feedback.training.online import self_explaining, targets
from lmf.losses import LOSSES, build_loss
from melanoma.losses import PairedViewsLoss, SoftDiceLoss

BATCH, IMAGES, SIZE = 8, 29, 16  # the last batch has five


def small(head: str) -> keras.Model:
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, name="conv1")(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Conv2D(8, 3, activation="relu", padding="same", name="conv2")(x)
    if head == "map":
        return keras.Model(inputs, keras.layers.Conv2D(1, 1, activation="sigmoid")(keras.layers.UpSampling2D(2)(x)))
    x = keras.layers.Dropout(0.3, seed=1)(keras.layers.GlobalAveragePooling2D()(x))
    if head == "views":
        return keras.Model(inputs, keras.layers.Reshape((2, 8))(keras.layers.Dense(16)(x)))
    return keras.Model(inputs, keras.layers.Dense(5, activation="softmax" if head == "softmax" else None)(x))


def deep(head: str) -> keras.Model:
    x = inputs = keras.Input((SIZE, SIZE, 3))
    for _ in range(12):
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(x)))
    return keras.Model(inputs, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(x)))


def turned(images, wanted, rng):
    return np.stack([np.rot90(image, rng.integers(4)) for image in images]), wanted


def weights(devices, build, head, loss, wanted, floatx="float32", rounding=0.0):
    keras.config.set_floatx(floatx)
    # Off TensorFlow, Keras promotes float64 to float32, so batch normalisation takes its statistics in float32 in a float64 network too.
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = floatx
    device.configure(0, floatx, devices)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, SIZE, SIZE, 3)).astype(floatx)
    images = (images * (1 + rounding * rng.choice([-1, 1], images.shape))).astype(floatx)
    model = build(head)
    if loss is None:
        model = self_explaining(model, SimulateSettings(explanation_weight=0.5, layer="conv2", batch_size=BATCH, learning_rate=1e-3))
    else:
        model.compile(keras.optimizers.Adam(1e-3) if build is deep else keras.optimizers.SGD(1e-2), loss)
    augment = None if head == "map" or loss is None else turned
    model.fit(Batches(images, wanted, batch_size=BATCH, shuffle=True, augment=augment), shuffle=False, verbose=0)
    return [np.asarray(variable) for variable in model.trainable_variables]


def difference(one, other):
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def main(kind: str) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, IMAGES).astype("int32")
    masks = rng.integers(0, 2, (IMAGES, SIZE, SIZE)).astype("uint8")
    found = {}
    if kind == "deep":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        for floatx, unit in (("float64", 2.0**-52), ("float32", 2.0**-23)):
            one, two, moved = (weights(n, deep, "logits", loss, labels, floatx, by) for n, by in ((1, 0.0), (2, 0.0), (1, unit)))
            found[floatx] = [difference(one, two), difference(one, moved)]
    else:
        cases = {name: ("logits", cells.contrastive_loss(name), labels) for name in cells.CONTRASTIVE}
        cases["weighted log"] = ("softmax", cells.WeightedLogLoss([1.0, 2.0, 1.0, 1.0, 3.0]), labels)
        cases |= {name: ("logits", build_loss(name, [9, 7, 5, 4, 4]), labels) for name in LOSSES}
        cases["simclr"] = ("views", PairedViewsLoss(0.5), labels)
        cases["dice"] = ("map", SoftDiceLoss(), masks[:, :14, :14, None].astype("float32"))
        cases["explanation"] = ("softmax", None, targets(labels, masks))
        for name, (head, loss, wanted) in cases.items():
            found[name] = [difference(*(weights(n, small, head, loss, wanted) for n in (1, 2)))]
            print(name, found[name], flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
