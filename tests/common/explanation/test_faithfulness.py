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


def test_blur_is_that_of_rise():
    """RISE's `gkern(11, 5)`: a unit impulse of 11 x 11 filtered with sigma 5, here as the sum of a Gaussian's mirror images."""
    kernel = faithfulness.blur_kernel(224)
    spread = np.sqrt((kernel * (np.arange(11) - 5) ** 2).sum())
    assert kernel.shape == (11,) and kernel.sum() == pytest.approx(1, abs=1e-6) and spread == pytest.approx(3.1, abs=0.05)
    folded = [sum(np.exp(-(((m + 11 * k) if k % 2 == 0 else (11 * k - m)) ** 2) / 50) for k in range(-3, 4)) for m in range(-5, 6)]
    np.testing.assert_allclose(kernel, folded / np.sum(folded), rtol=2e-3)
    assert [len(faithfulness.blur_kernel(side)) for side in (16, 64, 112, 448)] == [3, 3, 5, 21]


def test_insertion_starts_from_the_blurred_image(model):
    image = np.zeros((SIZE, SIZE, 3), "float32")
    image[5, 5] = [180, 90, 0]
    start = faithfulness.blurred(image)
    kernel = faithfulness.blur_kernel(SIZE)
    # Behind the border lies the mean colour, so far from the pixel and from the border nothing but zero is averaged.
    np.testing.assert_allclose(start[4:7, 4:7, 0], 180 * np.outer(kernel, kernel), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(start[10:15, 10:15], 0, atol=1e-4)
    mean = image.mean(axis=(0, 1))
    np.testing.assert_allclose(start[0, 10], mean * kernel[0], rtol=1e-3, atol=1e-5)
    curves = faithfulness.deletion_and_insertion(model, image, {"left": LEFT}, 1, steps=2)["left"]
    assert curves.insertion[0] == pytest.approx(float(np.asarray(model(start[None]))[0, 1]), rel=1e-4)


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
    beside, _ = faithfulness.measure(model, images, maps, [1, 1, 1], masks=masks, steps=4, trivial={"whole image": np.ones_like(LEFT)})
    trivial = faithfulness.summary(beside).set_index("method").loc["whole image"]
    assert np.isnan(trivial["deletion"]) and trivial["energy"] == 0.5 and trivial["images_with_mask"] == 1
    assert "| whole image | 3 | – | – |" in faithfulness.summary_markdown(faithfulness.summary(beside))
    text = faithfulness.summary_markdown(summary.reset_index())
    assert "continuous dice (higher is better)" in text and "deletion, method - random" in text and text.count("\n") == 5


def test_random_is_as_coarse_as_the_maps_and_differences_to_it_are_paired():
    coarse = faithfulness.random_map((12, 12), 0, (2, 2))
    assert coarse.shape == (12, 12) and coarse.max() == pytest.approx(1)
    # Four values enlarged: in the corner quarters nothing changes.
    assert np.ptp(coarse[:3, :3]) == 0 and np.ptp(coarse) > 0
    # Ten images that differ widely; the method is 0.1 below random on each but one: an unpaired interval would hide it.
    random = np.linspace(0, 1, 10)
    method = random - 0.1
    method[0] = 0
    rows = [
        {"image": "same.png", "method": name, "deletion": v}
        for r, m in zip(random, method, strict=True)
        for name, v in (("x", m), ("random", r))
    ]
    found = faithfulness.summary(pd.DataFrame(rows)).set_index("method")
    assert found.loc["x", "deletion_minus_random"] == pytest.approx(-0.09)
    assert -0.1 <= found.loc["x", "deletion_minus_random_low"] <= -0.09 <= found.loc["x", "deletion_minus_random_high"] < -0.05
    assert found.loc["x", "deletion_high"] > found.loc["random", "deletion_low"]
    assert np.isnan(found.loc["random", "deletion_minus_random"])
    assert "-0.090 [-0.100" in faithfulness.summary_markdown(found.reset_index())
