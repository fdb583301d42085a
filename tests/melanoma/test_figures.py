"""Figures: one panel a map, titles on the first row, and a diagram with the layers' sizes."""

import numpy as np

from melanoma import figures


def test_a_sheet_has_a_row_an_image_and_a_column_a_map() -> None:
    image, mask = np.zeros((16, 16, 3), "uint8"), np.eye(16, dtype="uint8")
    rows = [("globules", image, mask, {"Grad-CAM": np.ones((4, 4)), "VAT": np.zeros((4, 4))})] * 2
    figure = figures.sheet(rows, "methods", synthetic=True)
    panels = figure.axes
    assert len(panels) == 8
    assert [panel.get_title() for panel in panels[:4]] == ["image", "mask", "Grad-CAM", "VAT"]
    assert {panel.get_title() for panel in panels[4:]} == {""}
    assert any("synthetic" in text.get_text() for text in [figure._supxlabel])


def test_threshold_curves_show_the_printed_values_where_there_are_any() -> None:
    entries = {f"t0{step}": {"dice": 0.1 * step, "dice_interval": [0.0, 0.2]} for step in range(3)}
    figure = figures.threshold_curves({"gradcam": {"globules": entries, "lesion": entries}})
    lines = figure.axes[0].get_lines()
    assert len(lines) == 3  # two measured, one printed: the paper has no lesions
    assert lines[0].get_ydata().tolist() == [0.0, 0.1, 0.2]
    assert lines[1].get_ydata().tolist() == [0.1516, 0.1521, 0.1478]


def test_the_diagram_names_every_box() -> None:
    figure = figures.diagram([("Subnetwork 1", [("image", "64 x 64 x 3"), ("stage 1", "16 x 16 x 8")])], "Bio-U-Net")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "image\n64 x 64 x 3" in texts
    assert "Subnetwork 1" in texts


def test_kept_arrays_become_rows() -> None:
    arrays = {
        "globules/images": np.zeros((2, 8, 8, 3), "uint8"), "globules/masks": np.zeros((2, 8, 8), "uint8"),
        "globules/gradcam": np.arange(8).reshape(2, 2, 2) / 8,
    }  # fmt: skip
    other = {"globules/lime": np.ones((2, 2, 2))}
    rows = figures.sheet_rows({"LIME": (other, "lime"), "Grad-CAM": (arrays, "gradcam")}, ("globules", "streaks"))
    assert len(rows) == 2
    assert list(rows[1][3]) == ["LIME", "Grad-CAM"]
    assert rows[1][3]["Grad-CAM"][0, 0] == 0.5
    assert not figures.sheet_rows({"U-Net's mask": (arrays, "unet_mask")}, ("globules",))
