import json
import math

import numpy as np
import pytest

from common.errors import UsageError
from feedback.page.regions import drawn_region, ellipse_region, read_drawing


def stroke(tool, points, width=0.1):
    return {"tool": tool, "width": width, "points": points}


def circle(radius, centre=(0.5, 0.5), share=1.0):
    angles = np.linspace(0, 2 * math.pi * share, 200)
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def test_brush_paints_its_width():
    region = drawn_region([stroke("brush", [(0.2, 0.5), (0.8, 0.5)])], (200, 200))
    # A bar of 120 x 20 pixels with two half discs of radius 10.
    assert region.sum() == pytest.approx(120 * 20 + math.pi * 100, rel=0.08)
    assert region[100, 100]
    assert not region[85, 100]


def test_outline_is_filled_and_closes_itself():
    whole = drawn_region([stroke("outline", circle(0.25))], (400, 400))
    assert whole.mean() == pytest.approx(math.pi * 0.25**2, rel=0.02)
    open_end = drawn_region([stroke("outline", circle(0.25, share=0.97))], (400, 400))
    assert open_end.mean() == pytest.approx(whole.mean(), rel=0.02)


def test_eraser_takes_away_what_was_drawn_before_it():
    strokes = [stroke("outline", circle(0.3)), stroke("eraser", [(0.5, 0.5)], 0.2), stroke("brush", [(0.5, 0.5)], 0.05)]
    region = drawn_region(strokes, (300, 300))
    assert region[150, 150]
    assert not region[150, 170]
    assert region[150, 200]


def test_aspect_and_large_images():
    region = drawn_region([stroke("outline", circle(0.25))], (1500, 3000))
    assert region.shape == (1500, 3000)
    rows, columns = np.nonzero(region)
    assert (np.ptp(rows) / 1500, np.ptp(columns) / 3000) == (pytest.approx(0.5, abs=0.01), pytest.approx(0.5, abs=0.01))


@pytest.mark.parametrize("strokes", [[], [stroke("brush", [(2, 2)])], [stroke("outline", [(0.1, 0.1), (0.9, 0.9)])]])
def test_next_to_nothing_is_no_region(strokes):
    with pytest.raises(UsageError, match="no region is drawn"):
        drawn_region(strokes, (100, 100))


def test_reads_what_the_browser_sends():
    sent = {"image": "a.png", "strokes": [{"tool": "brush", "width": 0.06, "points": [[0.1, 0.2]]}]}
    assert read_drawing(json.dumps(sent), "a.png") == [{"tool": "brush", "width": 0.06, "points": [(0.1, 0.2)]}]
    assert read_drawing("", "a.png") == []
    with pytest.raises(UsageError, match="belongs to another image"):
        read_drawing(json.dumps(sent), "b.png")


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "null", '{"strokes": [{"tool": "brush"}]}',
        '{"strokes": [{"tool": "brush", "width": "x", "points": [[0, 0]]}]}',
        '{"strokes": [{"tool": "brush", "width": 1, "points": [[0, 0, 0]]}]}',
        '{"strokes": [{"tool": "hammer", "width": 1, "points": [[0, 0]]}]}',
        '{"strokes": [{"tool": "brush", "width": 1, "points": []}]}',
        '{"strokes": [{"tool": "brush", "width": 1, "points": [[NaN, 0]]}]}',
        '{"strokes": [{"tool": "brush", "width": 1e9, "points": [[0, 0]]}]}',
    ],
)  # fmt: skip
def test_what_is_no_drawing_is_refused(text):
    with pytest.raises(UsageError, match="the drawing"):
        read_drawing(text, "a.png")


def test_ellipse_has_the_size_asked_for():
    region = ellipse_region(50, 40, 60, 20, (500, 1000))
    assert region.mean() == pytest.approx(math.pi / 4 * 0.6 * 0.2, rel=0.01)
    rows, columns = np.nonzero(region)
    assert (rows.mean() / 500, columns.mean() / 1000) == (pytest.approx(0.4, abs=0.01), pytest.approx(0.5, abs=0.01))
    with pytest.raises(UsageError, match="covers no part"):
        ellipse_region(0, 0, 0.01, 0.01, (10, 10))
