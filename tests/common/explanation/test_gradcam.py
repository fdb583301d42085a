"""Differentiable Grad-CAM, on both backends (see test_jax.py); the comparison with tf-keras-vis is in test_cams.py."""

import keras
import numpy as np
import pytest
from keras import ops

from common.explanation import gradcam
from tests.common.explanation import nets


def arrays(tensors):
    return [np.asarray(ops.convert_to_numpy(x)) for x in tensors]


@pytest.mark.parametrize("end", ["dense", "layer", "operation"])
def test_head_of_body_gives_logits_for_each_way_to_write_softmax(end):
    model = nets.flat(end=end)
    body, head = gradcam.split_model(model)
    x = nets.images()
    logits, expected = arrays([head(body(x)), model(x)])
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), expected, atol=1e-6)
    assert not np.allclose(logits.sum(1), 1)
    np.testing.assert_allclose(arrays([gradcam.logits_model(model)(x)])[0], logits, atol=1e-6)


def test_sigmoid_end_is_left_out():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Conv2D(2, 3, name="conv")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="sigmoid")(x))
    body, head = gradcam.split_model(model)
    x = nets.images(size=8) / 255
    logits, expected = arrays([head(body(x)), model(x)])
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "layer"),
    [(nets.flat, "conv2"), (nets.flat, "conv1"), (nets.nested, "branch"), (nets.nested, "backbone/stem_relu"), (nets.nested, "backbone")],
)
def test_class_gradients_against_finite_differences(build, layer):
    # tanh: smooth, so the difference quotient is the derivative.
    body, head = gradcam.split_model(build(activation="tanh"), layer)
    activations = body(nets.images(2))
    rest = list(activations[1:]) if isinstance(activations, list) else []
    (base,) = arrays([activations[0] if rest else activations])
    weights = np.array([[1, 0, 0], [0.5, -2, 0]], "float32")
    got = arrays([gradcam.class_gradients(head, activations, weights)])[0]

    def score(maps):
        maps = ops.convert_to_tensor(maps)
        return float(ops.sum(ops.cast(head([maps, *rest] if rest else maps), "float32") * weights))

    rng = np.random.default_rng(1)
    for _ in range(4):
        # Near the gradient's own direction, so that the slope stands well above float32 noise.
        direction = np.sign(got) * rng.uniform(0.2, 1, base.shape).astype("float32")
        step = 1e-2
        slope = (score(base + step * direction) - score(base - step * direction)) / (2 * step)
        assert slope == pytest.approx(float((got * direction).sum()), rel=0.01)


def test_map_follows_equations_1_and_2():
    model = nets.flat()
    body, head = gradcam.split_model(model, "conv3")
    weights = nets.one_hot(0, 1, 2)
    activations = body(nets.images())
    a, g = arrays([activations, gradcam.class_gradients(head, activations, weights)])
    expected = np.zeros(a.shape[:3])
    for n in range(len(a)):
        for k in range(a.shape[-1]):
            expected[n] += g[n, :, :, k].mean() * a[n, :, :, k]
        expected[n] = np.maximum(expected[n], 0)
        expected[n] /= expected[n].max() or 1
    got = arrays([gradcam.grad_cam(body, head, nets.images(), weights)])[0]
    assert got.shape == (3, 6, 6)
    assert got.min() >= 0 and got.max() == pytest.approx(1)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def outer_gradient(body, head, x, class_weights, target, variables, **options):
    """Loss sum((map - target)^2) of undivided maps, and its gradient to some weights, on whichever backend runs."""

    def loss():
        maps = gradcam.grad_cam(body, head, x, class_weights, normalise=False, **options)
        return ops.sum(ops.square(maps - target))

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss()
        return loss, arrays(tape.gradient(value, [v.value for v in variables]))
    import jax

    def stateless(values):
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            return loss()

    return loss, arrays(jax.grad(stateless)([v.value for v in variables]))


@pytest.mark.parametrize("layer", ["conv2", "conv3"])
def test_second_order_gradient_against_finite_differences(layer):
    # The term through a_k is most of it in the last layers.
    body, head = gradcam.split_model(nets.flat(activation="tanh"), layer)
    x, w = nets.images(2), nets.one_hot(0, 2)
    variables = [v for v in head.trainable_variables if v.path.endswith(("hidden/kernel", "predictions_logits/kernel"))]
    variables += [v for v in head.trainable_variables if "predictions" in v.path and v.path.endswith("kernel")]
    variables = list({id(v): v for v in variables}.values())
    variables.append(next(v for v in body.trainable_variables if v.path.endswith("conv1/kernel")))
    assert len(variables) == 3
    loss, gradients = outer_gradient(body, head, x, w, 0.0, variables)
    # A loss of about 1e-5 would drown in float32 noise: compare relative to its own size.
    rng = np.random.default_rng(0)
    for variable, gradient in zip(variables, gradients, strict=True):
        base = ops.convert_to_numpy(variable.value).copy()
        direction = np.sign(gradient) * rng.uniform(0.5, 1, base.shape).astype("float32")
        step = 1e-2 * np.abs(base).mean()
        values = []
        for sign in (1, -1):
            variable.assign(base + sign * step * direction)
            values.append(float(loss()))
        variable.assign(base)
        slope = (values[0] - values[1]) / (2 * step)
        assert slope != 0
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=0.02)


def test_constant_weights_drop_the_second_order_term():
    body, head = gradcam.split_model(nets.flat(activation="tanh"), "conv3")
    x, w = nets.images(2), nets.one_hot(0, 2)
    variables = list(head.trainable_variables)
    _, through = outer_gradient(body, head, x, w, 0.0, variables)
    assert all(np.abs(g).sum() > 0 for g in through if g.ndim == 2)
    # With a_k constant the map does not depend on the head at all, so only the body learns from it.
    kernels = [v for v in body.trainable_variables if v.path.endswith("conv3/kernel")]
    _, (constant,) = outer_gradient(body, head, x, w, 0.0, kernels, differentiate_weights=False)
    assert np.abs(constant).sum() > 0
    activations = body(x)
    a_k = arrays([gradcam.class_gradients(head, activations, w)])[0].mean((1, 2))
    maps = arrays([gradcam.grad_cam(body, head, x, w, normalise=False)])[0]
    np.testing.assert_allclose(maps, np.maximum(np.einsum("nijk,nk->nij", arrays([activations])[0], a_k), 0), atol=1e-6)


def layered(taps, x, w):
    activations, gradients, _ = gradcam.layer_gradients(taps, x, w)
    return [gradcam.map_from_gradients(a, g) for a, g in zip(activations, gradients, strict=True)]


def test_layers_in_one_pass_equal_single_cuts():
    for build, layers in [(nets.flat, ["conv1", "conv2", "conv3", None]), (nets.nested, ["stem", "branch", "backbone/norm"])]:
        model, x, w = build(), nets.images(), nets.one_hot(0, 1, 2)
        together = arrays(layered(gradcam.tapped_model(model, layers), x, w))
        for layer, maps in zip(layers, together, strict=True):
            alone = arrays([gradcam.grad_cam(*gradcam.split_model(model, layer), x, w)])[0]
            np.testing.assert_allclose(maps, alone, atol=1e-5)


def test_saved_and_loaded_model_gives_the_same_maps(tmp_path):
    for model in (nets.flat(), nets.nested()):
        x, w = nets.images(), nets.one_hot(0, 1, 2)
        before = arrays([gradcam.grad_cam(*gradcam.split_model(model), x, w)])[0]
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(arrays([gradcam.grad_cam(*gradcam.split_model(loaded), x, w)])[0], before, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_close_to_float32(policy):
    reference = nets.flat()
    keras.config.set_dtype_policy(policy)
    try:
        model = nets.flat()
    finally:
        keras.config.set_dtype_policy("float32")
    model.set_weights(reference.get_weights())
    x, w = nets.images(), nets.one_hot(0, 1, 2)
    body, head = gradcam.split_model(model)
    assert keras.backend.standardize_dtype(body.outputs[0].dtype) == policy.removeprefix("mixed_")
    maps, expected = arrays([gradcam.grad_cam(body, head, x, w), gradcam.grad_cam(*gradcam.split_model(reference), x, w)])
    assert maps.dtype == np.float32
    # 8 bits of mantissa in bfloat16, 11 in float16.
    assert np.abs(maps - expected).max() < (0.1 if "bfloat" in policy else 0.02)
    (tapped,) = arrays(layered(gradcam.tapped_model(model, [None]), x, w))
    assert np.abs(tapped - maps).max() < 0.1


def test_constant_and_empty_maps_are_zeros_with_finite_gradients():
    raw = np.stack([np.full((4, 4), 0.7), np.zeros((4, 4)), np.eye(4)]).astype("float32")
    maps = arrays([gradcam.normalise_map(ops.convert_to_tensor(raw))])[0]
    assert not maps[0].any() and not maps[1].any()
    np.testing.assert_allclose(maps[2], np.eye(4))
    model = nets.flat()
    black = np.zeros((2, nets.SIZE, nets.SIZE, 3), "float32")
    body, head = gradcam.split_model(model, "conv3")
    # A black image makes conv3's map constant inside; no class weight at all makes it empty.
    for weights in (nets.one_hot(0, 1), np.zeros((2, nets.CLASSES), "float32")):
        assert np.isfinite(arrays([gradcam.grad_cam(body, head, black, weights)])[0]).all()
    variables = body.trainable_variables + head.trainable_variables
    _, gradients = outer_gradient(body, head, black, np.zeros((2, nets.CLASSES), "float32"), 1.0, variables[:2])
    assert all(np.isfinite(g).all() for g in gradients)


def test_image_gradient_against_finite_differences():
    model = gradcam.logits_model(nets.flat(activation="tanh"))
    x, w = nets.images(2), nets.one_hot(1, 2)
    got = arrays([gradcam.image_gradient(model, x, w)])[0]
    assert got.shape == x.shape
    direction = np.sign(got)
    high, low = arrays([model(x + 2 * direction), model(x - 2 * direction)])
    assert ((high - low) * w).sum() / 4 == pytest.approx(float((got * direction).sum()), rel=0.02)
    # uint8 images are taken as they are
    as_uint8 = arrays([gradcam.image_gradient(model, x.astype("uint8"), w)])[0]
    np.testing.assert_allclose(as_uint8, arrays([gradcam.image_gradient(model, np.floor(x), w)])[0], atol=1e-6)


class WithMap(keras.Model):
    """Cross-entropy plus a loss on the Grad-CAM map, written as the studies write it."""

    def __init__(self, model, layer, **options):
        super().__init__()
        self.body, self.head = gradcam.split_model(model, layer)
        self.options = options

    def call(self, inputs, training=False):
        activations = self.body(inputs, training=training)
        return {"activations": activations, "logits": self.head(activations, training=training)}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        labels = ops.one_hot(ops.cast(y, "int32"), nets.CLASSES)
        activations = y_pred["activations"]
        gradients = gradcam.class_gradients(self.head, activations, labels, training=training)
        maps = gradcam.map_from_gradients(activations, gradients, **self.options)
        # Attention in the left half of the image.
        width = maps.shape[2] // 2
        crossentropy = ops.mean(keras.losses.categorical_crossentropy(labels, y_pred["logits"], from_logits=True))
        return 1e-3 * crossentropy + ops.mean(maps[:, :, width:]) - ops.mean(maps[:, :, :width])


def test_trains_inside_fit_with_dropout_and_batch_normalisation():
    model = nets.nested()
    trainer = WithMap(model, "branch")
    # XLA on a CPU is slow to compile; JAX compiles anyway.
    trainer.compile(optimizer=keras.optimizers.Adam(1e-2), jit_compile=keras.backend.backend() == "jax")
    x, y = nets.images(8), np.arange(8) % nets.CLASSES
    before = {v.path: ops.convert_to_numpy(v.value).copy() for v in model.variables}
    history = trainer.fit(x, y, batch_size=8, epochs=10, verbose=0, shuffle=False).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < history[0] - 0.04
    moved = {v.path for v in model.variables if not np.array_equal(before[v.path], ops.convert_to_numpy(v.value))}
    assert any(path.endswith("stem/kernel") for path in moved)
    # Second order: the last Dense is reached only through a_k.
    assert any("predictions" in path and path.endswith("kernel") for path in moved)
    # The frozen normalisation layer stays as it was.
    assert not any("moving" in path for path in moved)


def test_the_map_draws_no_dropout_and_moves_no_statistics():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Dropout(0.5, name="drop")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x)))
    body, head = gradcam.split_model(model, "conv")
    before = [ops.convert_to_numpy(v.value).copy() for v in model.variables]
    for training in (False, True):
        gradcam.class_gradients(head, body(nets.images(size=8)), nets.one_hot(0, 1, 2), training=training)
    assert all(np.array_equal(b, ops.convert_to_numpy(v.value)) for b, v in zip(before, model.variables, strict=True))


def test_compiled_reads_weights_afresh():
    model = nets.flat()
    body, head = gradcam.split_model(model)
    run = gradcam.compiled(lambda x, w: gradcam.grad_cam(body, head, x, w), body, head)
    x, w = nets.images(), nets.one_hot(0, 1, 2)
    first = arrays([run(x, w), gradcam.grad_cam(body, head, x, w)])
    np.testing.assert_allclose(*first, atol=1e-5)
    for v in model.trainable_variables:
        v.assign(v.value * -0.7)
    second = arrays([run(x, w), gradcam.grad_cam(body, head, x, w)])
    np.testing.assert_allclose(*second, atol=1e-5)
    assert np.abs(second[0] - first[0]).max() > 0.05


def test_compiled_does_not_depend_on_the_shapes_seen_before():
    # A relaxed shape (None) is another program, which rounds otherwise: a resumed run sees other shapes first than a whole one.
    traced = []

    def function(x):
        traced.append(x.shape)
        return x + 1

    run = gradcam.compiled(function)
    for count in (4, 3, 2, 4, 5):
        run(ops.ones((count, 8, 8, 3)))
    assert traced == [(count, 8, 8, 3) for count in (4, 3, 2, 5)]
