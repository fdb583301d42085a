"""LIME: the package's own result, bytes that depend on the seed only, and the colours of the two views."""

import numpy as np
import pytest

from common.errors import UsageError
from common.explanation import lime
from tests.common.explanation import nets


@pytest.fixture(scope="module")
def model():
    return nets.flat()


@pytest.fixture(scope="module")
def explanation(model):
    return lime.explain(model, nets.images(1)[0], 1, samples=60, count=9, seed=3)


def test_same_weights_as_the_package(model, explanation, capsys):
    from lime.lime_image import LimeImageExplainer

    theirs = LimeImageExplainer(random_state=3).explain_instance(
        nets.images(1)[0],
        lambda batch: model.predict(batch.astype("float32"), verbose=0),
        labels=(1,),
        hide_color=0,
        top_labels=None,
        num_samples=60,
        segmentation_fn=lambda _: explanation.segments,
        random_seed=3,
    )
    weights = dict(theirs.local_exp[1])
    assert len(weights) == len(explanation.weights) > 3
    np.testing.assert_allclose([weights[i] for i in range(len(weights))], explanation.weights, atol=1e-5)
    assert explanation.fit == pytest.approx(theirs.score, abs=1e-4)


def test_the_same_seed_gives_the_same_bytes(model, explanation):
    np.random.seed(123)  # the global state must not matter
    again = lime.explain(model, nets.images(1)[0], 1, samples=60, count=9, seed=3)
    assert again.weights.tobytes() == explanation.weights.tobytes()
    assert again.segments.tobytes() == explanation.segments.tobytes()
    other = lime.explain(model, nets.images(1)[0], 1, samples=60, count=9, seed=4)
    assert other.weights.tobytes() != explanation.weights.tobytes()
    assert np.random.get_state()[1].tobytes() == np.random.RandomState(123).get_state()[1].tobytes()


def test_superpixels_are_numbered_without_gaps():
    image = nets.images(1, size=48)[0].astype("uint8")
    for count in (0, 12):
        numbers = lime.superpixels(image, count)
        assert numbers.shape == (48, 48)
        assert np.unique(numbers).tolist() == list(range(numbers.max() + 1))
    assert lime.superpixels(np.full((10, 10, 3), 90, np.uint8)).max() == 3
    few, many = (lime.superpixels(image, n).max() for n in (4, 40))
    assert few < many


def hand_made():
    """Four quarters: weights +2, -3, +1 and 0."""
    rows, columns = np.indices((8, 8))
    image = np.full((8, 8, 3), 100, np.uint8)
    return lime.LimeExplanation(image, (rows >= 4) * 2 + (columns >= 4), np.array([2.0, -3.0, 1.0, 0.0]), 1.0)


def test_weight_map_is_positive_and_divided_by_its_maximum():
    found = lime.weight_map(hand_made())
    assert found[0, 0] == 1 and found[0, 7] == 0 and found[7, 0] == 0.5 and found[7, 7] == 0
    negative = lime.LimeExplanation(np.zeros((8, 8, 3), np.uint8), hand_made().segments, -np.ones(4), 0.0)
    assert not lime.weight_map(negative).any()


def test_views_show_pros_green_and_cons_red():
    both = lime.pros_and_cons_view(hand_made(), features=3).astype(int)
    # Corners of the quarters: inside, away from the yellow outlines.
    assert both[0, 0, 1] > both[0, 0, 0] and both[0, 7, 0] > both[0, 7, 1] and both[7, 0, 1] > both[7, 0, 0]
    assert both[7, 7].tolist() == [100, 100, 100]
    strongest = lime.pros_and_cons_view(hand_made(), features=1).astype(int)
    assert strongest[0, 7, 0] > strongest[0, 7, 1] and strongest[0, 0].tolist() == [100, 100, 100]
    positive = lime.positive_view(hand_made(), features=1)
    assert positive[0, 0].tolist() == [100, 100, 100] and positive[7, 0].tolist() == positive[0, 7].tolist() == [79, 79, 79]
    assert (positive == lime.YELLOW).all(axis=-1).any()


def test_signature_of_the_maps(model):
    map = lime.weight_map(lime.explain(model, nets.images(1)[0], 1, samples=40, count=6))
    assert map.shape == (nets.SIZE, nets.SIZE) and map.min() >= 0 and map.max() <= 1
    with pytest.raises(UsageError, match="at least 10"):
        lime.explain(model, nets.images(1)[0], 0, samples=3)
    with pytest.raises(UsageError, match="the model takes 16 x 16"):
        lime.explain(model, nets.images(1, size=20)[0], 0)
