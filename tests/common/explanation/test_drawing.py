"""Figures of explanations: what is drawn where."""

import numpy as np
import pytest

from common.explanation.drawing import SheetRow, faithfulness_curves, overlay, sheet
from common.explanation.faithfulness import Curves
from common.report.plots import save


def row(label: str, predicted: str) -> SheetRow:
    image = np.full((8, 8, 3), 200, np.uint8)
    map = np.zeros((8, 8), "float32")
    map[2, 5] = 1
    return SheetRow(image, "file.png", label, predicted, 0.875, {"gradcam": map, "lime": image})


def test_overlay_is_half_image_half_colour_and_aligned():
    image = np.zeros((4, 6, 3), np.uint8)
    map = np.zeros((4, 6))
    map[1, 4] = 1
    drawn = overlay(image, map).astype(int)
    assert drawn.dtype == int and drawn.shape == (4, 6, 3)
    # turbo: dark blue-violet at 0, dark red at 1.
    assert drawn[1, 4, 0] > 40 and drawn[1, 4, 2] < 10
    assert drawn[0, 0, 0] < drawn[0, 0, 2] + 10
    changed = np.argwhere((drawn != drawn[0, 0]).any(axis=-1))
    assert changed.tolist() == [[1, 4]]
    assert np.abs(overlay(np.full((4, 6, 3), 200, np.uint8), map, strength=0.0).astype(int) - 200).max() == 0


def test_sheet_has_a_row_for_each_image_and_a_column_for_each_method(tmp_path):
    figure = sheet([row("a", "a"), row("a", "b"), row("", "b")], title="title", synthetic=True)
    axes = figure.axes
    # Three rows of image and two methods, and the colour scale.
    assert len(axes) == 3 * 3 + 1
    assert [axes[i].get_title() for i in range(3)] == ["image", "Grad-CAM", "LIME, for the class"]
    texts = [axes[3 * i].get_ylabel() for i in range(3)]
    assert texts[0] == "true: a\npredicted: a\n87.5%"
    assert texts[2] == "file.png\npredicted: b\n87.5%"
    colours = {axes[3 * i].yaxis.label.get_color() for i in range(3)}
    assert len(colours) == 3
    assert save(figure, tmp_path / "sheet.png").stat().st_size > 5000


def test_sheet_of_pictures_only_needs_no_colour_scale():
    only = row("a", "a")
    figure = sheet([SheetRow(only.image, only.name, "a", "a", 1.0, {"lime": only.image})])
    assert len(figure.axes) == 2


def test_curves_show_the_areas():
    curves = {"gradcam": Curves(np.array([0, 1.0]), np.array([1, 0.0]), np.array([0, 1.0]))}
    figure = faithfulness_curves(curves | {"random": curves["gradcam"]})
    left, right = figure.axes
    assert "lower is better" in left.get_title() and "higher is better" in right.get_title()
    assert [t.get_text() for t in left.get_legend().get_texts()] == ["Grad-CAM (0.500)", "random map (0.500)"]
    assert left.get_lines()[0].get_ydata() == pytest.approx([1, 0])
