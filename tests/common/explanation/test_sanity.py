"""Sanity checks against values worked out by hand and against networks whose answer is known."""

import keras
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from common.explanation import sanity
from common.explanation.cams import gradcam
from common.explanation.faithfulness import summary as summary_of
from common.explanation.faithfulness import summary_markdown
from tests.common.explanation import nets

CLASSES = np.array([0, 1, 2])


def edges(model: keras.Model, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """A "map" that never asks the network: what the checks must find out."""
    grey = np.asarray(images).mean(axis=-1)
    found = np.abs(np.gradient(grey, axis=1)) + np.abs(np.gradient(grey, axis=2))
    return found / found.max(axis=(1, 2), keepdims=True)


def test_gini_by_hand() -> None:
    assert sanity.gini(np.full((3, 3), 0.4)) == pytest.approx(0)
    # One of four values carries everything: (2·4 − 4 − 1)·1 / (4·1).
    assert sanity.gini(np.array([0, 0, 0, 1.0])) == pytest.approx(3 / 4)
    # 1, 2, 3: ((2 − 4) 1 + (4 − 4) 2 + (6 − 4) 3) / (3 · 6).
    assert sanity.gini(np.array([3.0, 1, 2])) == pytest.approx(4 / 18)
    assert sanity.gini(np.zeros((2, 2))) == 0
    with pytest.raises(ValueError, match="not negative"):
        sanity.gini(np.array([-1.0, 1]))


def test_similarity_of_equal_reversed_and_constant_maps() -> None:
    map = np.random.default_rng(0).random((9, 9))
    assert sanity.similarity(map, map) == pytest.approx({"ssim": 1, "rank_correlation": 1})
    assert sanity.similarity(map, 1 - map)["rank_correlation"] == pytest.approx(-1)
    assert sanity.similarity(map, np.zeros((9, 9)))["rank_correlation"] == 0
    other = np.round(np.random.default_rng(1).random((9, 9)), 1)  # with ties
    assert sanity.similarity(map, other)["rank_correlation"] == pytest.approx(spearmanr(map.ravel(), other.ravel()).statistic)


def test_a_map_that_ignores_the_network_is_found_out_and_grad_cam_is_not() -> None:
    model, images = nets.nested(), nets.images()
    before = model.get_weights()
    rows = sanity.parameter_randomisation(model, images, CLASSES, {"edges": edges, "gradcam": gradcam}, seed=1)
    last = rows[rows["randomised"] == 1].groupby("method")["ssim"].mean()
    assert last["edges"] == pytest.approx(1) and last["gradcam"] < 0.9
    first = rows[rows["randomised"] == 0]
    assert np.allclose(first["ssim"], 1) and np.allclose(first["rank_correlation"][first["method"] == "edges"], 1)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)), "the model itself must not change"


def test_every_learned_layer_loses_its_weights_in_the_end_last_layer_first() -> None:
    model, seen = nets.nested(), []

    def spy(copy: keras.Model, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        seen.append([weight.numpy() for layer in sanity.weighted_layers(copy) for weight in layer.weights if weight.ndim > 1])
        return edges(copy, images, classes)

    sanity.parameter_randomisation(model, nets.images(), CLASSES, {"spy": spy}, stages=2)
    changed = [[not np.array_equal(a, b) for a, b in zip(seen[0], later, strict=True)] for later in seen[1:]]
    assert changed[0][-1] and not changed[0][0], "the last layer goes first"
    assert all(changed[-1])


def test_the_scaling_of_pixels_is_nothing_learned() -> None:
    scale = keras.layers.Normalization(mean=[1.0, 2, 3], variance=[1.0, 1, 1])
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Conv2D(2, 3, name="conv")(scale(image)))
    assert [layer.name for layer in sanity.weighted_layers(model)] == ["conv"]


def test_max_sensitivity_of_a_map_that_is_the_image() -> None:
    images = np.full((2, 4, 4, 3), 100.0, "float32")

    def brightness(model: keras.Model, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return np.asarray(images)[..., 0]

    found = sanity.max_sensitivity(nets.flat(), images, CLASSES[:2], brightness, draws=3, radius=2.0)
    rng, worst = np.random.default_rng(0), np.zeros(2)
    for _ in range(3):
        noise = rng.uniform(-2, 2, images.shape)[..., 0]
        worst = np.maximum(worst, np.sqrt((noise**2).sum(axis=(1, 2))) / np.sqrt(16 * 100.0**2))
    assert found == pytest.approx(worst, rel=1e-3) and (found > 0).all()


def test_the_table_has_one_row_per_method_and_image_and_a_figure() -> None:
    table = sanity.check(nets.flat(), nets.images(), CLASSES, {"gradcam": gradcam, "edges": edges})
    assert list(table.columns) == ["method", "image", *sanity.MEASURES] and len(table) == 6
    summary = summary_of(table, 0, sanity.MEASURES)
    assert list(summary["method"]) == ["gradcam", "edges"] and summary["images"].tolist() == [3, 3]
    assert "| gradcam | 3 |" in summary_markdown(summary, sanity.MEASURES)
    cascade = table.attrs["cascade"]
    assert isinstance(sanity.cascade_figure(cascade, title="x", synthetic=True), Figure)
    many = pd.concat([cascade.assign(method=f"layercam block{number}") for number in range(11)])  # two layers of five methods, and LIME
    assert len(sanity.cascade_figure(many).axes[0].get_lines()) == 11 + 1
