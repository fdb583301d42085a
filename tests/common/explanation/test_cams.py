"""One signature for five methods: agreement with tf-keras-vis, the papers' formulas by slow loops, and clear refusals."""

import gc
import weakref

import keras
import numpy as np
import pytest

from common.errors import UsageError
from common.explanation import cams
from tests.common.explanation import nets

CLASSES = [0, 1, 2]
# What was promised; float32 on these small nets gives far less.
CLOSE = 1e-4


@pytest.fixture(scope="module")
def models():
    return {"flat": nets.flat(), "nested": nets.nested()}


@pytest.fixture(scope="module")
def mobilenet():
    """A real architecture at 64 px, its weights random: 4 x 4 maps at the layer used."""
    keras.utils.set_random_seed(1)
    backbone = keras.applications.MobileNetV2(alpha=0.35, include_top=False, weights=None, input_shape=(64, 64, 3))
    inputs = keras.Input((64, 64, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(backbone(x))
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax", name="predictions")(x))


@pytest.mark.parametrize("name", ["flat", "nested"])
@pytest.mark.parametrize("method", list(cams.METHODS))
def test_equal_to_tf_keras_vis_before_upsampling(models, name, method):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf-keras-vis needs TensorFlow")
    for layer in (None, "conv2" if name == "flat" else "stem_relu"):
        ours = cams.cam(method, models[name], nets.images(), CLASSES, layer, upsample=False)
        theirs = cams.cam(method, models[name], nets.images(), CLASSES, layer, upsample=False, engine="tf-keras-vis")
        assert ours.shape == theirs.shape
        assert ours.max() == pytest.approx(1, abs=1e-5)
        assert np.abs(ours - theirs).max() < CLOSE


def differences(model, methods) -> dict[str, float]:
    """Largest difference of ours to tf-keras-vis, both at the layer's size and divided by the maximum."""
    pairs = {m: [cams.cam(m, model, nets.images(), CLASSES, upsample=False, engine=e) for e in ("own", "tf-keras-vis")] for m in methods}
    return {method: float(np.abs(ours - theirs).max()) for method, (ours, theirs) in pairs.items()}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf-keras-vis needs TensorFlow")
def test_saved_and_loaded_equal_to_tf_keras_vis(models, tmp_path):
    models["nested"].save(tmp_path / "m.keras")
    found = differences(keras.models.load_model(tmp_path / "m.keras"), ("gradcam", "gradcam++", "faster-scorecam"))
    assert max(found.values()) < CLOSE, found


def mixed(policy: str, build):
    keras.config.set_dtype_policy(policy)
    try:
        return build()
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf-keras-vis needs TensorFlow")
@pytest.mark.parametrize("build", [nets.flat, nets.nested])
def test_float16_equal_to_tf_keras_vis(build):
    model = mixed("mixed_float16", build)
    found = differences(model, ("gradcam", "gradcam++", "layercam"))
    assert max(found.values()) < CLOSE, found
    # Masked images go through the network in float16 on both sides, but in batches of another size.
    assert differences(model, ("faster-scorecam",))["faster-scorecam"] < 1e-3


def test_tf_keras_vis_refuses_bfloat16():
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(UsageError, match="knows no bfloat16"):
            cams.cam("gradcam", mixed("mixed_bfloat16", nets.flat), nets.images(), 0, engine="tf-keras-vis")


def test_real_architecture_equal_to_tf_keras_vis(mobilenet):
    images = nets.images(1, size=64)
    for method in ("gradcam", "faster-scorecam"):
        ours = cams.cam(method, mobilenet, images, 2, "block_13_expand_relu", upsample=False)
        theirs = cams.cam(method, mobilenet, images, 2, "block_13_expand_relu", upsample=False, engine="tf-keras-vis")
        assert ours.shape == (1, 4, 4)
        assert np.abs(ours - theirs).max() < CLOSE


@pytest.mark.parametrize("method", list(cams.METHODS))
def test_maps_have_the_images_size_and_lie_between_0_and_1(models, method):
    maps = cams.METHODS[method](models["nested"], nets.images(2), [0, 1])
    assert maps.shape == (2, nets.SIZE, nets.SIZE)
    assert maps.min() >= 0 and maps.max() == pytest.approx(1)
    one = cams.METHODS[method](models["nested"], nets.images(2), 1)
    np.testing.assert_allclose(one[1], maps[1], atol=1e-6)


def test_saved_and_loaded_model(models, tmp_path):
    models["nested"].save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for method in cams.METHODS:
        before = cams.cam(method, models["nested"], nets.images(2), 0)
        np.testing.assert_allclose(cams.cam(method, loaded, nets.images(2), 0), before, atol=1e-5)


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "layercam", "faster-scorecam"])
def test_list_of_layers_gives_a_list_of_maps(models, method):
    together = cams.cam(method, models["flat"], nets.images(2), 1, ["conv1", "conv3", "conv1"], upsample=False)
    assert [m.shape for m in together] == [(2, 16, 16), (2, 6, 6), (2, 16, 16)]
    for layer, maps in zip(["conv1", "conv3", "conv1"], together, strict=True):
        np.testing.assert_allclose(maps, cams.cam(method, models["flat"], nets.images(2), 1, layer, upsample=False), atol=1e-5)


def slow_gradcam_plus_plus(a, g):
    """Eqs. 10 and 19 with plain loops over channels and positions, alphas of a channel divided by their sum."""
    total = np.zeros(a.shape[:2])
    for k in range(a.shape[2]):
        alpha = np.zeros(a.shape[:2])
        for i in range(a.shape[0]):
            for j in range(a.shape[1]):
                d = g[i, j, k]
                below = 2 * d**2 + a[:, :, k].sum() * d**3
                alpha[i, j] = d**2 / below if below else 0
        alpha /= alpha.sum() or 1
        total += (alpha * np.maximum(g[:, :, k], 0)).sum() * a[:, :, k]
    total = np.maximum(total, 0)
    return total / total.max()


def slow_layercam(a, g):
    total = sum(np.maximum(g[:, :, k], 0) * a[:, :, k] for k in range(a.shape[2]))
    return np.maximum(total, 0) / total.max()


def test_formulas_against_slow_loops():
    rng = np.random.default_rng(0)
    a = rng.uniform(0, 1, (2, 3, 4, 5)).astype("float32")
    g = rng.normal(size=a.shape).astype("float32") * np.array([1, 1e-7], "float32")[:, None, None, None]
    g[0, 0, 0, 0] = 0
    for formula, slow in ((cams._gradcam_plus_plus, slow_gradcam_plus_plus), (cams._layercam, slow_layercam)):
        got = np.asarray(formula(a, g))
        for n in range(2):
            np.testing.assert_allclose(got[n], slow(a[n].astype("float64"), g[n].astype("float64")), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("alphas", "first"), [("all", 1 / 5), ("positive", 1.0)])
def test_grad_cam_plus_plus_by_hand(alphas, first):
    """Two channels of two positions, worked out on paper from eqs. 10 and 19.

    Channel 1: A = (1, 1), g = (1, -1/2), sum A = 2. alpha_1 = 1/(2 + 2) = 1/4, alpha_2 = (1/4)/(1/2 - 1/4) = 1. Over all positions the
    sum is 5/4: w = (1/4)/(5/4) = 1/5. Over the positive one, as the authors' code has it, it is 1/4: w = 1.
    Channel 2: A = (2, 0), g = (1, 1/2), sum A = 2. alpha = (1/4, (1/4)/(1/2 + 1/4)) = (1/4, 1/3); sum 7/12, both positive:
    w = (3/7) 1 + (4/7) (1/2) = 5/7.
    Map: position 1: w_1 + 2 * 5/7, position 2: w_1; divided by the first.
    """
    a = np.array([[[[1, 2], [1, 0]]]], "float32")
    g = np.array([[[[1, 1], [-0.5, 0.5]]]], "float32")
    expected = [1, first / (first + 10 / 7)]
    np.testing.assert_allclose(np.asarray(cams._gradcam_plus_plus(a, g, alphas))[0, 0], expected, rtol=1e-5)


def test_the_authors_alphas_can_be_asked_for(models):
    ask = {"method": "gradcam++", "model": models["flat"], "images": nets.images(), "classes": CLASSES, "layer": "conv1"}
    assert np.abs(cams.cam(**ask, alphas="positive") - cams.cam(**ask)).max() > 1e-3


def test_no_gradient_gives_zeros():
    a = np.ones((1, 3, 3, 2), "float32")
    for formula in cams._FROM_GRADIENTS.values():
        assert not np.asarray(formula(a, np.zeros_like(a))).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "conv9"}, "conv1, conv2, conv3"),
        ({"layer": "pool"}, "not a feature map"),
        ({"images": nets.images(1, size=20)}, "20 x 20 x 3, the model takes 16 x 16 x 3"),
        ({"images": nets.images()[0]}, "batch"),
        ({"classes": 3}, "3 classes"),
        ({"classes": [0, 1]}, "2 class numbers for 3 images"),
        ({"method": "eigencam"}, "choose from gradcam"),
        ({"engine": "captum"}, "choose own or tf-keras-vis"),
        ({"weights": "softmax"}, "gradcam has no option 'weights'"),
        ({"method": "scorecam", "alphas": "all"}, "no option 'alphas': it takes weights, align"),
        ({"method": "gradcam++", "alphas": "some"}, "expected one of all, positive"),
        ({"method": "scorecam", "weights": "softmax", "engine": "tf-keras-vis"}, "an option of --engine own"),
    ],
)
def test_bad_input_is_one_clear_line(models, options, message):
    arguments = {"method": "gradcam", "model": models["flat"], "images": nets.images(), "classes": 0} | options
    with pytest.raises(UsageError, match=message) as error:
        cams.cam(**arguments)
    assert "\n" not in str(error.value)


def test_model_without_convolutions_is_refused():
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(inputs)))
    for method in cams.METHODS:
        with pytest.raises(UsageError, match="no convolution layer"):
            cams.cam(method, model, np.zeros((1, 4, 4, 3)), 0)


def test_model_made_with_a_list_of_inputs():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(3, 3, name="conv")(inputs))
    model = keras.Model([inputs], [keras.layers.Dense(2, activation="softmax")(x)])
    from common.explanation.prepared import probabilities

    images = nets.images(2, size=8) / 255
    np.testing.assert_allclose(probabilities(model, images), np.asarray(model([images])), atol=1e-6)
    for method in cams.METHODS:
        assert cams.cam(method, model, images, 0).shape == (2, 8, 8)


def test_layer_beside_the_path_to_the_classes_is_refused():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(2, 3, name="main")(inputs)
    side = keras.layers.Conv2D(2, 3, name="side")(x)
    model = keras.Model(inputs, [keras.layers.Dense(2, name="scores")(keras.layers.Flatten()(x)), side])
    from common.explanation.graph import split_model

    with pytest.raises(UsageError, match="2 outputs"):
        split_model(model, "main")
    assert split_model(model, "main", output="scores")[1].output_shape == (None, 2)
    with pytest.raises(UsageError, match="does not lead"):
        split_model(model, "side", output="scores")


def test_subclassed_model_is_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    from common.explanation.graph import split_model

    with pytest.raises(UsageError, match="subclassed"):
        split_model(Own())


def test_one_compilation_for_each_model_and_freed_with_it():
    model = nets.flat()
    cams.cam("gradcam", model, nets.images(), 0)
    from common.explanation.prepared import _PREPARED, probabilities

    first = dict(_PREPARED[model])
    cams.cam("gradcam", model, nets.images(), 1)
    assert dict(_PREPARED[model]) == first
    cams.cam("faster-scorecam", model, nets.images(), 1)
    probabilities(model, nets.images())
    count, alive = len(_PREPARED), weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
    assert len(_PREPARED) < count
