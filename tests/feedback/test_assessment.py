"""Averages, cases and the ellipse by hand; the compiled explainer against the model itself."""

import numpy as np
import pytest
from keras import ops

from feedback.assessment import (
    Assessment,
    Explainer,
    assess,
    class_scores,
    difference,
    summary,
    trivial_maps,
    uncertainty_order,
)
from feedback.models import SelfExplaining

CLASSES = ("MEL", "NV", "BKL")


def _found(jaccard) -> Assessment:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.3, 0.2, 0.5], [0.2, 0.7, 0.1]])
    return Assessment(np.array([0, 1, 0, 1]), probabilities, np.array(jaccard), np.array(jaccard))


def test_summary_by_hand():
    scores = summary(_found([0.6, 0.2, 0.7, np.nan]), CLASSES)
    assert scores["accuracy"] == 0.75 and scores["sensitivity"] == {"MEL": 0.5, "NV": 1.0} and scores["average_sensitivity"] == 0.75
    # Image 3 is called BKL, which does not occur; between MEL and NV it would have been MEL, which is right.
    assert scores["accuracy_among_present"] == 1.0
    assert scores["jaccard"]["mean"] == pytest.approx(0.5) and scores["jaccard"]["n"] == 3 and scores["unmarked"] == 1
    assert scores["jaccard"]["deviation"] == pytest.approx(np.std([0.6, 0.2, 0.7]))
    # Right class: images 1, 2, 4; right region: 1 and 3; an unmarked region is not wrong.
    assert scores["cases"] == {"both_right": 2, "region_wrong": 1, "class_wrong": 1, "both_wrong": 0}


def test_difference_is_paired():
    change = difference(_found([0.1, 0.2, 0.3, np.nan]), _found([0.2, 0.3, 0.4, np.nan]), CLASSES)
    assert change["jaccard"]["value"] == pytest.approx(0.1) and change["jaccard"]["interval"] == pytest.approx([0.1, 0.1])
    assert change["accuracy"] == {"value": 0.0, "interval": [0.0, 0.0]}


def test_average_sensitivity_and_auc_by_hand():
    scores = class_scores(np.array([0, 1, 0, 1]), _found([0.1] * 4).probabilities, CLASSES)
    assert scores["balanced_accuracy"] == 0.75 and scores["share_NV"] == 0.5 and scores["share_BKL"] == 0.25
    # MEL: 0.8 and 0.3 against 0.3 and 0.2: three and a half of four pairs in order; NV: 0.6 and 0.7 against 0.1 and 0.2: all.
    assert scores["auc"] == pytest.approx((3.5 / 4 + 1) / 2)
    low, high = summary(_found([0.1] * 4), CLASSES)["average_sensitivity_interval"]
    assert low <= 0.75 <= high
    change = difference(_found([0.1] * 4), _found([0.1] * 4), CLASSES, ["a", "a", "b", "c"])
    assert change["average_sensitivity"] == {"value": 0.0, "interval": [0.0, 0.0]} and change["auc"]["value"] == 0.0


def test_trivial_maps_by_hand():
    masks = np.zeros((3, 20, 20), "uint8")
    offsets = np.arange(20) - 9.5
    masks[0][offsets[:, None] ** 2 + offsets[None, :] ** 2 <= 25] = 255  # the centred circle itself
    masks[1][:4, :4] = 255  # 16 pixels in a corner: the circle misses them
    found = trivial_maps(masks, masks[:1])
    assert found["ellipse"]["n"] == 2 and found["ellipse"]["mean"] == pytest.approx((1 + 0) / 2)
    inside = (masks[0] > 0).sum() / 400
    assert found["whole_image"]["mean"] == pytest.approx((inside + 16 / 400) / 2)
    # The only training mask is the first test mask: the blob of its area and the mean mask hit it and miss the other.
    assert found["centred_blob"]["mean"] == found["mean_mask"]["mean"] == pytest.approx(0.5)
    # Two training masks: the mean is cut at half of its maximum, which both reach.
    assert trivial_maps(masks[:1], masks)["mean_mask"]["mean"] == pytest.approx(inside * 400 / (inside * 400 + 16))


def test_explainer_equals_the_model_for_any_number_of_images(classifier, lesions):
    images, labels, masks = lesions
    model = SelfExplaining(classifier, layers=("conv2",))
    explainer = Explainer(model, batch_size=10)
    probabilities, shown, truth = explainer(images, labels, size=16)
    expected, maps = model.explain(images.astype("float32"))
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert shown.shape == (24, 16, 16)
    right = probabilities.argmax(axis=1) == labels
    np.testing.assert_allclose(shown[right], truth[right], atol=1e-6)
    np.testing.assert_allclose(explainer(images)[1], ops.convert_to_numpy(maps), atol=1e-5)
    found = assess(explainer, images, labels, masks, np.array([23, 0, 5]))
    assert np.isnan(found.jaccard[0]) and not np.isnan(found.jaccard[1:]).any()
    logs = _evaluate(model, images, labels, masks)
    everything = assess(explainer, images, labels, masks, np.arange(24))
    assert float(logs["jaccard"]) == pytest.approx(np.nanmean(everything.jaccard), abs=1e-5)
    assert float(logs["jaccard_truth"]) == pytest.approx(np.nanmean(everything.jaccard_truth), abs=1e-5)
    assert float(logs["accuracy"]) == pytest.approx(everything.right.mean())


def _evaluate(model, images, labels, masks) -> dict:
    model.compile("sgd")
    return model.evaluate(images, {"label": labels, "mask": masks}, verbose=0, return_dict=True)


def test_uncertain_images_come_first():
    assert uncertainty_order(np.array([[0.9, 0.1], [0.5, 0.5], [0.6, 0.4], [1.0, 0.0]])).tolist() == [1, 2, 0, 3]
