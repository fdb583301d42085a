"""Continuous Dice by threshold, and its summary."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from melanoma.training import scores


@pytest.fixture
def inputs() -> SimpleNamespace:
    masks = np.zeros((3, 8, 8), "uint8")
    masks[0, :4, :4] = 1
    masks[2, 4:, 4:] = 1
    manifest = pd.DataFrame({"image": ["a.jpg", "b.jpg", "c.jpg"]})
    present = pd.DataFrame({"globules": [True, False, True], "x": [True, False, True]})
    settings = SimpleNamespace(image_size=8, binarise=False)
    return SimpleNamespace(settings=settings, masks=lambda name: masks, manifest=manifest, present=present)


def test_a_map_is_uncut_at_zero_and_loses_small_values_above() -> None:
    maps = np.array([0.0, 0.3, 0.6])
    assert scores.cut(maps, 0.0).tolist() == [0.0, 0.3, 0.6]
    assert scores.cut(maps, 0.6).tolist() == [0.0, 0.0, 0.6]


def test_scores_by_hand(inputs: SimpleNamespace) -> None:
    maps = np.zeros((3, 8, 8), "float32")
    maps[0, :4, :8] = 0.5  # twice the mask's area, one value: 2 * 8 / (0.5 * 16 + 16) = 2 / 3
    maps[1] = 0.2  # nothing to find
    table = scores.score_maps(inputs, "gradcam", "globules", np.array([0, 1, 2]), maps, (0.0, 0.4, 0.6))
    by = table.set_index(["image", "threshold"])["dice"]
    assert by["a.jpg", 0.0] == pytest.approx(2 / 3)
    assert by["a.jpg", 0.6] == 0.0
    assert by["b.jpg", 0.0] == 0.0
    assert by["b.jpg", 0.4] == 1.0  # both empty
    assert by["c.jpg", 0.0] == 0.0  # an empty map misses
    assert table.set_index("image")["empty"].groupby(level=0).all().to_dict() == {"a.jpg": False, "b.jpg": True, "c.jpg": False}


def test_an_indicator_that_the_smaller_mask_lost_is_still_there(inputs: SimpleNamespace) -> None:
    inputs.present.loc[1, "globules"] = True
    table = scores.score_maps(inputs, "gradcam", "globules", np.array([1]), np.full((1, 8, 8), 0.2, "float32"), (0.0,))
    assert not table["empty"].any()
    assert table["dice"].tolist() == [0.0]


def test_summary_counts_images_with_the_indicator(inputs: SimpleNamespace) -> None:
    maps = np.zeros((3, 8, 8), "float32")
    maps[0, :4, :4] = 1
    found = scores.summary(scores.score_maps(inputs, "gradcam", "globules", np.arange(3), maps, (0.0,)), seed=0)
    entry = found["gradcam"]["globules"]["t00"]
    assert (entry["n"], entry["n_all"]) == (2, 3)
    assert entry["dice"] == pytest.approx(0.5)
    assert entry["dice_all"] == pytest.approx(2 / 3)
    assert entry["dice_interval"] == [0.0, 1.0]
    assert entry["dice_all_interval"] == [0.0, 1.0]


def test_every_mean_has_its_own_interval() -> None:
    table = pd.DataFrame({"method": "m", "indicator": "x", "threshold": 0.0, "dice": np.linspace(0, 1, 40), "empty": [True, False] * 20})
    entry = scores.summary(table, seed=0)["m"]["x"]["t00"]
    for name in ("dice", "dice_all"):
        low, high = entry[f"{name}_interval"]
        assert low < entry[name] < high
    assert np.diff(entry["dice_all_interval"]) < np.diff(entry["dice_interval"])  # twice the images


def test_summary_of_an_indicator_that_no_image_has(inputs: SimpleNamespace) -> None:
    found = scores.summary(scores.score_maps(inputs, "m", "x", np.array([1]), np.zeros((1, 8, 8), "float32"), (0.6,)), seed=0)
    assert found["m"]["x"]["t06"]["dice"] is None
    assert found["m"]["x"]["t06"]["n"] == 0


def test_binary_masks_are_an_option(inputs: SimpleNamespace) -> None:
    """Issue 20, fault 9: Table 6 says binary masks."""
    maps = np.zeros((1, 8, 8), "float32")
    maps[0, :4, :4], maps[0, 4:, :4] = 0.9, 0.3
    inputs.settings.binarise = True
    table = scores.score_maps(inputs, "m", "x", np.array([0]), maps, (0.0, 0.2, 0.6)).set_index("threshold")["dice"]
    assert table[0.0] == table[0.2] == pytest.approx(2 / 3)  # twice the mask's area
    assert table[0.6] == 1.0
    assert scores.cut(np.array([0.0, 0.3, 0.6]), 0.3, binary=True).tolist() == [0.0, 1.0, 1.0]


def test_sensitivity_at_a_specificity_by_hand() -> None:
    positive = np.array([1, 1, 1, 1] + [0] * 10, bool)
    values = np.array([0.95, 0.75, 0.65, 0.1, *np.linspace(0.0, 0.9, 10)])
    assert scores.sensitivity_at(positive, values, 0.8) == 0.5  # called above 0.7: two negatives of ten
    assert scores.sensitivity_at(positive, values, 0.9) == 0.25
    assert scores.sensitivity_at(positive, values, 1.0) == 0.25
    assert scores.sensitivity_at(np.ones(3, bool), np.arange(3.0), 0.8) is None


def test_the_majority_class_stands_beside_the_diagnosis() -> None:
    """Issue 20, fault 2: "other" for everybody stood nowhere."""
    labels = ["melanoma"] * 3 + ["other"] * 7
    table = pd.DataFrame({"label": labels, "prob_melanoma": np.linspace(1, 0, 10)})
    found = scores.diagnosis_metrics(table, seed=0)
    assert (found["majority_class_accuracy"], found["melanoma_auc"]) == (0.7, 1.0)
    assert found["sensitivity_at_90"] == 1.0


def test_indicators_have_auc_and_average_precision() -> None:
    table = pd.DataFrame({"image": list("abcd") * 2, "indicator": ["x"] * 4 + ["y"] * 4, "label": [1, 0, 1, 0, 0, 0, 0, 0]})
    table["probability"] = [0.9, 0.8, 0.7, 0.1, 0.2, 0.3, 0.4, 0.5]
    found = scores.indicator_metrics(table, seed=0)
    assert found["x"]["auc"] == 0.75
    assert found["x"]["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert (found["y"]["auc"], found["y"]["positives"]) == (None, 0)


def test_trivial_maps_are_scored_like_every_other(inputs: SimpleNamespace) -> None:
    inputs.rows = lambda part: np.array([0, 1])
    table = scores.score_trivial(inputs, "globules", np.array([0, 2]))
    at_zero = table[table["threshold"] == 0].set_index(["method", "image"])["dice"]
    assert at_zero["whole image", "a.jpg"] == pytest.approx(2 * 16 / (16 + 64))
    assert at_zero["mean training mask", "a.jpg"] == 1.0  # the one training image that has it is this one
    assert at_zero["mean training mask", "c.jpg"] == 0.0
