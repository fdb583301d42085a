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
    return SimpleNamespace(settings=SimpleNamespace(image_size=8), masks=lambda name: masks, manifest=manifest, present=present)


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
