import numpy as np
import pytest

from common.metrics.overlap import continuous_dice, jaccard_index, trivial_maps


def slow_jaccard(mask, values, threshold):
    shared = union = 0
    for inside, value in zip(mask.ravel(), values.ravel(), strict=True):
        cut = value >= threshold
        shared += bool(inside) and cut
        union += bool(inside) or cut
    return shared / union if union else 1.0


def slow_continuous_dice(mask, values):
    """Shamir et al. 2019, section 2, one pixel at a time."""
    shared = size_a = size_b = met = 0.0
    for a, b in zip(mask.ravel(), values.ravel(), strict=True):
        shared += a * b
        size_a += a
        size_b += b
        met += a * np.sign(b)
    c = shared / met if met else 1.0
    return 2 * shared / (c * size_a + size_b)


@pytest.mark.parametrize("seed", range(5))
def test_both_equal_a_loop_over_pixels(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((7, 9)) < 0.4
    values = np.maximum(rng.random((7, 9)) - 0.3, 0)
    for threshold in (0.0, 0.25, 0.5, 1.0):
        assert jaccard_index(mask, values, threshold) == pytest.approx(slow_jaccard(mask, values, threshold))
    assert continuous_dice(mask, values) == pytest.approx(slow_continuous_dice(mask, values))


def test_hand_calculation():
    mask = np.array([[1, 1], [0, 0]])
    values = np.array([[0.8, 0.4], [0.6, 0.0]])
    # inside at 0.5: first and third pixel; one shared of three.
    assert jaccard_index(mask, values) == pytest.approx(1 / 3)
    # |A ∩ B| 1.2, |A| 2, |B| 1.8, c = 1.2 / 2 = 0.6: 2.4 / (1.2 + 1.8).
    assert continuous_dice(mask, values) == pytest.approx(0.8)


def test_the_threshold_itself_is_inside():
    assert jaccard_index(np.ones((1, 2)), np.array([[0.5, 0.5]]), 0.5) == 1.0


def test_continuous_dice_of_a_binary_map_is_dice():
    rng = np.random.default_rng(3)
    mask, other = rng.random((2, 11, 11)) < 0.5
    dice = 2 * (mask & other).sum() / (mask.sum() + other.sum())
    assert continuous_dice(mask, other.astype(float)) == pytest.approx(dice)


@pytest.mark.parametrize("level", [0.1, 0.5, 1.0])
def test_continuous_dice_forgives_a_faint_map_that_fills_just_the_mask(level):
    mask = np.zeros((6, 6))
    mask[2:4, 1:5] = 1
    assert continuous_dice(mask, level * mask) == pytest.approx(1.0)


def test_empty_masks_and_maps():
    nothing, everything = np.zeros((4, 4)), np.ones((4, 4))
    for measure in (jaccard_index, continuous_dice):
        assert measure(nothing, nothing) == 1.0
        assert measure(nothing, everything) == 0.0
        assert measure(everything, nothing) == 0.0
        assert measure(everything, everything) == 1.0


def test_a_batch_gives_one_value_an_image():
    rng = np.random.default_rng(5)
    masks, maps = rng.random((3, 5, 6)) < 0.5, rng.random((3, 5, 6))
    for measure in (jaccard_index, continuous_dice):
        values = measure(masks, maps)
        assert values.shape == (3,)
        assert values == pytest.approx([measure(mask, each) for mask, each in zip(masks, maps, strict=True)])
        assert measure(masks[..., None], maps[..., None]) == pytest.approx(values)
        assert isinstance(measure(masks[0, ..., None], maps[0, ..., None]), float)


def test_masks_of_0_and_255_count_as_binary():
    mask = np.array([[255, 0], [255, 0]], dtype=np.uint8)
    assert continuous_dice(mask, mask / 255) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("mask", "values", "said"),
    [
        (np.ones((2, 2)), np.ones((2, 3)), r"\(2, 2\) and \(2, 3\)"),
        (np.ones(4), np.ones(4), "height, width"),
        (np.ones((2, 2)), np.full((2, 2), np.nan), "not finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(mask, values, said):
    for measure in (jaccard_index, continuous_dice):
        with pytest.raises(ValueError, match=said):
            measure(mask, values)


def test_negative_maps_have_no_continuous_dice():
    with pytest.raises(ValueError, match="below 0"):
        continuous_dice(np.ones((2, 2)), np.array([[0.5, -0.1], [0, 0]]))


def test_maps_that_look_at_no_image():
    mask = np.zeros((8, 12))
    mask[2:6, 3:9] = 1
    maps = trivial_maps((8, 12), (mask + np.roll(mask, 1, axis=0)) / 4)
    assert list(maps) == ["whole image", "centred blob", "mean training mask"]
    assert jaccard_index(mask, maps["whole image"]) == pytest.approx(mask.mean())
    blob = maps["centred blob"]
    assert blob == pytest.approx(blob[::-1, ::-1]) and blob.max() == 1
    # One standard deviation, a quarter of the side, from the centre.
    column = trivial_maps((8, 5))["centred blob"][:, 2]
    assert column[5] / column[4] == pytest.approx(np.exp(-(0.75**2 - 0.25**2) / 2))
    assert maps["mean training mask"].max() == 1 and maps["mean training mask"][2, 4] == 0.5
    with pytest.raises(ValueError, match="shape"):
        trivial_maps((8, 8), mask)
