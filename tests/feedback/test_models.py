"""Skin Care VGG16 to the unit, and the self-explaining model against the thesis's own plan written out."""

import keras
import numpy as np
import pytest
from keras import ops

from common.errors import UsageError
from feedback.models import SelfExplaining, build_classifier, map_layers, skincare_vgg16, upsample

TENSORFLOW = keras.backend.backend() == "tensorflow"


def _targets(labels, masks):
    return {"label": labels, "mask": masks}


def test_skin_care_vgg16_is_listing_3_1():
    model = skincare_vgg16(weights=None)
    assert model.count_params() == 70_309_704  # Listing 3.1
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == 70_309_704
    assert model.input_shape == (None, 227, 227, 3) and model.output_shape == (None, 8)
    layers = {layer.name: layer for layer in model.layers}
    printed = {"fc1": 51_382_272, "fc2": 4_196_352, "predictions": 16_392, "block1_conv1": 1_792, "block5_conv3": 2_359_808}
    assert {name: layers[name].count_params() for name in printed} == printed
    assert layers["flatten"].output.shape == (None, 25_088) and "dropout_2" in layers
    # The map the thesis shows is the last convolution's, 14 x 14.
    assert map_layers(model) == ("block5_conv3",)
    assert layers["block5_conv3"].output.shape == (None, 14, 14, 512)
    assert map_layers(model, stages=3) == ("block5_conv3", "block4_conv3", "block3_conv3")


def test_other_backbones_and_heads():
    model = build_classifier("mobilenetv2_035", 64, 5, head="average", units=0)
    assert model.layers[-1].name == "predictions" and model.output_shape == (None, 5)
    (layer,) = map_layers(model)
    assert model.get_layer(layer).output.shape[1:3] == (4, 4)
    assert map_layers(model, "last") == (None,)
    with pytest.raises(UsageError, match="--fuse-stages 9"):
        map_layers(model, stages=9)
    with pytest.raises(UsageError, match="no_such_layer"):
        SelfExplaining(model, layers=("no_such_layer",))


def test_upsample_is_bilinear():
    maps = np.random.default_rng(0).random((2, 4, 3)).astype("float32")
    expected = ops.image.resize(maps[..., None], (13, 16), interpolation="bilinear")[..., 0]
    np.testing.assert_allclose(upsample(ops.convert_to_tensor(maps), (13, 16)), expected, atol=1e-6)


def test_wrapped_predicts_what_plain_does(classifier, lesions):
    """Tables 4.1 and 4.2: making the model explain itself changes no prediction; and it holds no second copy of any weight."""
    images = lesions[0].astype("float32")
    plain = ops.convert_to_numpy(classifier(images, training=False))
    wrapped = SelfExplaining(classifier)
    outputs = wrapped(images, training=False)
    np.testing.assert_allclose(outputs["probabilities"], plain, atol=1e-6)
    assert {id(v) for v in wrapped.trainable_variables} == {id(v) for v in classifier.trainable_variables}
    assert wrapped.count_params() == classifier.count_params()
    probabilities, maps = wrapped.explain(images)
    maps = ops.convert_to_numpy(maps)
    np.testing.assert_allclose(probabilities, plain, atol=1e-6)
    assert maps.shape == (24, 4, 4) and maps.min() >= 0 and maps.max() == pytest.approx(1.0)


def _thesis_step(model: keras.Model, images, labels, masks, weight: float, differentiate: bool):
    """Algorithm 2 as it is written, one image after the other with a deep copy of the model; loss and gradients, mean over the batch."""
    import tensorflow as tf

    total, gradients = 0.0, None
    for image, label, mask in zip(images, labels, masks, strict=True):
        image, mask = image[None].astype("float32"), mask[None] / np.float32(255)
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())

        def cut(net, layer="conv2"):
            dense = net.get_layer("predictions")
            scores = ops.matmul(net.get_layer("dropout_1").output, dense.kernel) + dense.bias
            return keras.Model(net.inputs[0], [net.get_layer(layer).output, scores])

        with tf.GradientTape() as outer:
            source = cut(model if differentiate else copy)
            with tf.GradientTape() as inner:
                activations, scores = source(image, training=False)
                score = scores[:, label]
            slopes = inner.gradient(score, activations)
            alpha = tf.reduce_mean(slopes, axis=(1, 2), keepdims=True)
            alpha = alpha if differentiate else tf.constant(alpha.numpy())
            activations, scores = cut(model)(image, training=False)
            saliency = tf.nn.relu(tf.reduce_sum(alpha * activations, axis=-1))
            saliency = tf.math.divide_no_nan(saliency, tf.reduce_max(saliency))  # a map may be empty: the plan as written gives NaN
            saliency = tf.image.resize(saliency[..., None], mask.shape[1:])[..., 0]
            saliency = tf.sigmoid(20.0 * (saliency - 0.5))
            both = tf.reduce_sum(mask * saliency)
            jaccard = both / (tf.reduce_sum(mask) + tf.reduce_sum(saliency) - both)
            crossentropy = -tf.nn.log_softmax(scores)[0, label]
            loss = (1 - weight) * crossentropy + weight * (1 - jaccard) ** 2
        found = outer.gradient(loss, model.trainable_variables, unconnected_gradients="zero")
        total += float(loss) / len(images)
        scaled = [g.numpy() / len(images) for g in found]
        gradients = scaled if gradients is None else [a + b for a, b in zip(gradients, scaled, strict=True)]
    return total, gradients


@pytest.mark.skipif(not TENSORFLOW, reason="the reference is written with TensorFlow tapes")
@pytest.mark.parametrize(("weight", "differentiate"), [(0.3, False), (1.0, False), (0.3, True)])
def test_a_step_equals_the_thesis_plan(classifier, lesions, weight, differentiate):
    images, labels, masks = (part[:4] for part in lesions)
    classifier.get_layer("dropout_1").rate = 0.0  # the plan's two passes would draw different units
    model = SelfExplaining(classifier, explanation_weight=weight, differentiate_weights=differentiate, layers=("conv2",))
    expected_loss, expected = _thesis_step(classifier, images, labels, masks, weight, differentiate)
    model.compile(keras.optimizers.SGD(1.0))
    before = [ops.convert_to_numpy(v) for v in classifier.trainable_variables]
    logs = model.train_on_batch(images.astype("float32"), _targets(labels, masks), return_dict=True)
    assert float(logs["loss"]) == pytest.approx(expected_loss, abs=1e-5)
    for old, variable, gradient in zip(before, classifier.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(old - ops.convert_to_numpy(variable), gradient, atol=1e-5)
    assert any(np.abs(gradient).max() > 1e-4 for gradient in expected)


def test_lambda_zero_is_plain_training(make_classifier, lesions):
    images, labels, masks = lesions
    plain, ours = make_classifier(), make_classifier()
    for model in (plain, ours):
        model.get_layer("dropout_1").rate = 0.0
        model.get_layer("normal").trainable = False
    plain.compile(keras.optimizers.SGD(0.1), loss="sparse_categorical_crossentropy")
    plain.train_on_batch(images.astype("float32"), labels)
    wrapped = SelfExplaining(ours, explanation_weight=0.0)
    wrapped.compile(keras.optimizers.SGD(0.1))
    wrapped.train_on_batch(images.astype("float32"), _targets(labels, masks))
    for a, b in zip(plain.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_training_on_the_region_raises_the_jaccard_index(classifier, lesions):
    images, labels, masks = lesions
    model = SelfExplaining(classifier, explanation_weight=1.0, layers=("conv2",))
    model.compile(keras.optimizers.Adam(1e-2))
    before = model.evaluate(images, _targets(labels, masks), verbose=0, return_dict=True)
    moving = ops.convert_to_numpy(classifier.get_layer("normal").moving_mean)
    model.fit(images, _targets(labels, masks), epochs=25, batch_size=12, verbose=0, shuffle=False)
    after = model.evaluate(images, _targets(labels, masks), verbose=0, return_dict=True)
    assert after["explanation"] < before["explanation"] - 0.1
    assert after["jaccard_truth"] > before["jaccard_truth"] + 0.1
    np.testing.assert_array_equal(moving, ops.convert_to_numpy(classifier.get_layer("normal").moving_mean))


def test_an_unmarked_image_teaches_the_class_only(classifier, lesions):
    images, labels, masks = (part[-2:] for part in lesions)  # no mask
    model = SelfExplaining(classifier, explanation_weight=1.0)
    model.compile(keras.optimizers.SGD(1.0))
    before = classifier.get_weights()
    logs = model.train_on_batch(images, _targets(labels, masks), return_dict=True)
    assert float(logs["loss"]) == 0.0
    for a, b in zip(before, classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_feedback_on_wrong_answers_only(classifier, lesions, monkeypatch):
    images, _, masks = (part[:6] for part in lesions)
    right = ops.convert_to_numpy(ops.argmax(classifier(images.astype("float32"), training=False), axis=-1)).astype("int32")
    # A region counts as right from Jaccard index 0 on: then nothing is wrong and nothing may move.
    monkeypatch.setattr("feedback.models.REGION_RIGHT", 0.0)
    model = SelfExplaining(classifier, only_wrong=True)
    model.compile(keras.optimizers.SGD(1.0))
    before = classifier.get_weights()
    logs = model.train_on_batch(images, _targets(right, masks), return_dict=True)
    assert float(logs["both_right"]) == 6 and float(logs["loss"]) == 0.0
    for a, b in zip(before, classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    # One image with another class: a step is made, and its case is counted.
    wrong = right.copy()
    wrong[0] = (wrong[0] + 1) % 3
    model.reset_metrics()
    logs = model.train_on_batch(images, _targets(wrong, masks), return_dict=True)
    assert float(logs["class_wrong"]) == 1 and float(logs["both_right"]) == 5 and float(logs["loss"]) > 0
    # With an unreachable threshold every region is wrong.
    monkeypatch.setattr("feedback.models.REGION_RIGHT", 1.1)
    strict = SelfExplaining(classifier, only_wrong=True)
    strict.compile(keras.optimizers.SGD(1e-6))
    logs = strict.train_on_batch(images, _targets(right, masks), return_dict=True)
    assert float(logs["region_wrong"]) + float(logs["both_wrong"]) == 6


def test_fused_maps_learn_too(classifier, lesions):
    images, labels, masks = lesions
    model = SelfExplaining(classifier, explanation_weight=0.5, layers=map_layers(classifier, stages=2))
    assert model.taps is not None
    model.compile(keras.optimizers.SGD(0.05))
    _, maps = model.explain(images.astype("float32"))
    assert maps.shape == (24, 8, 8) and float(ops.max(maps)) == pytest.approx(1.0)
    logs = [model.train_on_batch(images, _targets(labels, masks), return_dict=True)["loss"] for _ in range(3)]
    assert np.all(np.isfinite(np.asarray(logs, "float32")))


def test_a_fused_map_is_the_mean_of_the_layers_maps(classifier, lesions):
    """Against NumPy: each layer's map by itself, 0..1, enlarged to the larger one, averaged, and divided by its maximum again."""
    images, layers = lesions[0][:5].astype("float32"), map_layers(classifier, stages=2)
    assert layers == ("conv2", "normal")
    singles = [ops.convert_to_numpy(SelfExplaining(classifier, layers=(name,)).explain(images)[1]) for name in layers]
    large = ops.convert_to_numpy(ops.image.resize(singles[0][..., None], (8, 8), interpolation="bilinear"))[..., 0]
    mean = (large + singles[1]) / 2
    fused = ops.convert_to_numpy(SelfExplaining(classifier, layers=layers).explain(images)[1])
    peaks = mean.max(axis=(1, 2), keepdims=True)
    assert (peaks > 0).any()
    np.testing.assert_allclose(fused, mean / np.where(peaks > 0, peaks, 1), atol=1e-5)


def test_bad_weight_is_named(classifier):
    with pytest.raises(ValueError, match="explanation_weight 2"):
        SelfExplaining(classifier, explanation_weight=2)


def _change(model, images, targets, rate=1.0):
    """What one step of plain gradient descent does to the trainable weights, as one vector."""
    model.compile(keras.optimizers.SGD(rate), jit_compile=False)
    before = [ops.convert_to_numpy(v) for v in model.trainable_variables]
    model.train_on_batch(images.astype("float32"), targets)
    return np.concatenate([(ops.convert_to_numpy(v) - b).ravel() for v, b in zip(model.trainable_variables, before, strict=True)])


def _without_dropout(make_classifier):
    """Two terms are compared step by step here; dropout would draw other units each time."""
    classifier = make_classifier()
    classifier.get_layer("dropout_1").rate = 0.0
    return classifier


@pytest.mark.parametrize("differentiate", [False, True])
def test_a_normalised_term_pulls_with_its_weight(make_classifier, lesions, differentiate):
    """g = g_cls / max(|g_cls|, 1) + w g_exp / |g_exp|: without the first, the whole gradient has norm w."""
    images, labels, masks = (part[:6] for part in lesions)
    chosen = {"differentiate_weights": differentiate, "layers": ("conv2",)}
    normalised = {**chosen, "explanation_weight": 0.5, "classification_weight": 1.0, "normalise_terms": True}
    alone = _targets(labels, masks) | {"class_weight": np.zeros(6, "float32")}
    found = _change(
        SelfExplaining(_without_dropout(make_classifier), **normalised),
        images,
        alone,
    )
    assert np.linalg.norm(found) == pytest.approx(0.5, rel=1e-3)
    plain = _change(SelfExplaining(_without_dropout(make_classifier), explanation_weight=1.0, **chosen), images, _targets(labels, masks))
    np.testing.assert_allclose(found, 0.5 * plain / np.linalg.norm(plain), atol=2e-4)
    both = SelfExplaining(_without_dropout(make_classifier), **normalised)
    classes = SelfExplaining(_without_dropout(make_classifier), explanation_weight=0.0, **chosen)
    alone = _change(classes, images, _targets(labels, masks))
    expected = found + alone / max(1.0, np.linalg.norm(alone))
    np.testing.assert_allclose(_change(both, images, _targets(labels, masks)), expected, atol=5e-4)


def test_the_anchor_holds_the_predictions(make_classifier, lesions):
    """KL(anchor || prediction): no pull where they agree; elsewhere towards the anchor; the value is NumPy's."""
    images, labels, masks = (part[:6] for part in lesions)
    silent = {name: np.zeros(6, "float32") for name in ("class_weight", "region_weight")}
    model = SelfExplaining(_without_dropout(make_classifier), classification_weight=1.0, anchor_weight=2.0)
    own = ops.convert_to_numpy(model.classifier(images.astype("float32"), training=False))
    assert np.abs(_change(model, images, _targets(labels, masks) | silent | {"anchor": own})).max() < 1e-5
    other = np.roll(own, 1, axis=1)
    distance = float((other * (np.log(other) - np.log(own))).sum(axis=1).mean())
    model = SelfExplaining(_without_dropout(make_classifier), classification_weight=1.0, anchor_weight=2.0)
    model.compile(keras.optimizers.SGD(0.05), jit_compile=False)
    logs = model.train_on_batch(images.astype("float32"), _targets(labels, masks) | silent | {"anchor": other}, return_dict=True)
    assert logs["anchor"] == pytest.approx(distance, rel=1e-3) and logs["loss"] == pytest.approx(2 * distance, rel=1e-3)
    after = ops.convert_to_numpy(model.classifier(images.astype("float32"), training=False))
    assert float((other * (np.log(other) - np.log(after))).sum(axis=1).mean()) < distance
    with pytest.raises(ValueError, match="anchor_weight -1"):
        SelfExplaining(make_classifier(), anchor_weight=-1)
