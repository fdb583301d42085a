"""Deletion, insertion and mask measures on a model whose evidence is known: the brightness of the left half."""

import keras
import numpy as np
import pandas as pd
import pytest

from common.explanation import faithfulness

SIZE = 20


@pytest.fixture(scope="module")
def model():
    """Probability of class 1 = sigmoid(mean of the left half / 2 - 122): 0.996 for a white left half, less when its edge is blurred."""
    inputs = keras.Input((SIZE, SIZE, 3))
    left = keras.layers.Cropping2D(((0, 0), (0, SIZE // 2)))(inputs)
    mean = keras.layers.GlobalAveragePooling2D()(left)
    dense = keras.layers.Dense(2, activation="softmax")
    model = keras.Model(inputs, dense(mean))
    dense.set_weights([np.array([[0, 1 / 6]] * 3, "float32"), np.array([0, -122], "float32")])
    return model


@pytest.fixture(scope="module")
def image():
    image = np.zeros((SIZE, SIZE, 3), "float32")
    image[:, : SIZE // 2] = 255
    return image


LEFT = np.zeros((SIZE, SIZE), "float32")
LEFT[:, : SIZE // 2] = 1


def test_the_right_map_beats_its_opposite(model, image):
    found = faithfulness.deletion_and_insertion(model, image, {"left": LEFT, "right": 1 - LEFT}, 1, steps=10)
    good, bad = found["left"].areas, found["right"].areas
    assert good["deletion"] < bad["deletion"] - 0.3
    assert good["insertion"] > bad["insertion"] + 0.05
    # The ends are the whole image, the empty one and the blurred one, whatever the order.
    assert found["left"].deletion[0] == pytest.approx(found["right"].deletion[0])
    assert found["left"].deletion[-1] == pytest.approx(found["right"].deletion[-1], abs=1e-5)
    assert found["left"].insertion[-1] == pytest.approx(found["left"].deletion[0], abs=1e-5)
    # Half of the pixels removed: none that counts is left in the right order, all of them in the opposite one.
    assert found["left"].deletion[5] < 1e-6
    assert found["right"].deletion[5] == pytest.approx(1 / (1 + np.exp(122 - 127.5)), abs=1e-4)


def test_area_is_that_of_the_trapezium_rule():
    fraction = np.array([0, 0.5, 1.0])
    areas = faithfulness.Curves(fraction, np.array([1, 0.5, 0]), np.array([0, 1, 1])).areas
    assert areas == pytest.approx({"deletion": 0.5, "insertion": 0.75})


def test_order_of_equal_pixels_never_varies():
    assert faithfulness.pixel_order(np.array([[0, 1], [1, 0.5]])).tolist() == [1, 2, 3, 0]
    assert faithfulness.pixel_order(np.zeros((2, 2))).tolist() == [0, 1, 2, 3]


def test_wrong_shape_of_a_map_is_named(model, image):
    with pytest.raises(ValueError, match="'small'"):
        faithfulness.deletion_and_insertion(model, image, {"small": np.zeros((5, 5))}, 1)


def test_mask_agreement():
    mask = LEFT > 0
    assert faithfulness.mask_agreement(mask, LEFT) == pytest.approx({"pointing": 1, "energy": 1, "jaccard": 1, "continuous_dice": 1})
    opposite = faithfulness.mask_agreement(mask, 1 - LEFT)
    assert opposite == pytest.approx({"pointing": 0, "energy": 0, "jaccard": 0, "continuous_dice": 0})
    everywhere = faithfulness.mask_agreement(mask, np.ones_like(LEFT))
    assert everywhere["pointing"] == everywhere["energy"] == everywhere["jaccard"] == 0.5
    empty = faithfulness.mask_agreement(mask, np.zeros_like(LEFT))
    assert empty["pointing"] == empty["energy"] == empty["jaccard"] == 0


def test_measure_and_summary(model, image):
    images = np.stack([image, image, image])
    maps = {"left": np.stack([LEFT] * 3), "right": np.stack([1 - LEFT] * 3)}
    masks = [LEFT > 0, None, np.zeros_like(LEFT)]
    table, curves = faithfulness.measure(model, images, maps, [1, 1, 1], masks=masks, names=["a", "b", "c"], steps=4)
    assert list(curves) == ["left", "right", "random"]
    assert table["image"].tolist() == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    # An empty mask counts as none.
    assert table["jaccard"].notna().sum() == 3
    again, _ = faithfulness.measure(model, images, maps, [1, 1, 1], masks=masks, names=["a", "b", "c"], steps=4)
    pd.testing.assert_frame_equal(table, again)
    summary = faithfulness.summary(table).set_index("method")
    assert summary.loc["left", "deletion"] < summary.loc["right", "deletion"]
    assert summary.loc["left", "images_with_mask"] == 1
    assert (summary["insertion_low"] <= summary["insertion"]).all() and (summary["insertion"] <= summary["insertion_high"]).all()
    text = faithfulness.summary_markdown(summary.reset_index())
    assert "continuous dice (higher is better)" in text and text.count("\n") == 5
