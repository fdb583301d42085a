import numpy as np

from feedback.page import pictures, texts
from tests.feedback.page.conftest import CLASSES, draw

NAME = "ISIC_0000001.png"


def test_words_about_a_correction(start):
    session = start(guard_drop=0.0)
    view = session.view(NAME)
    said = CLASSES[view.look.predicted]
    assert texts.said(session, view).startswith(f"### The model says: {said} ({view.look.probabilities.max():.0%})")
    right = CLASSES[(view.look.predicted + 1) % 3]
    result = session.correct(NAME, "both_wrong", right, draw(1)[1])
    shown = texts.outcome(result)
    before, after = result.entry["before"], result.entry["after"]
    assert f"| probability of {right} | {before['probabilities'][right]:.0%} | {after['probabilities'][right]:.0%} |" in shown
    assert f"| {before['jaccard']:.2f} | {after['jaccard']:.2f} |" in shown
    assert ("do harm" in shown) == result.guard.harm
    assert texts.status(session).startswith("1 of 12 images corrected. Guard: ")
    assert "nothing to learn" in texts.outcome(session.correct(NAME, "both_right"))


def test_the_page_says_what_it_is_not():
    assert "not a diagnosis" in texts.NOTICE


def test_names_cannot_break_out_of_the_drawing_area():
    area = texts.drawing_area('a"><script>.png', np.zeros((4, 6, 3), "uint8"))
    assert "<script>" not in area
    assert 'data-image="a&quot;&gt;&lt;script&gt;.png"' in area
    assert 'width="6" height="4"' in area


def test_map_covers_only_what_it_marks():
    image, _ = draw(0)
    saliency = np.zeros((16, 16), "float32")
    saliency[:8] = 1
    plain, drawn = pictures.shown(image), pictures.with_map(image, saliency, 0.8)
    assert plain.shape == (384, 512, 3)
    np.testing.assert_array_equal(drawn[-100:], plain[-100:])
    assert np.abs(drawn[:100].astype(int) - plain[:100]).mean() > 20
    np.testing.assert_array_equal(pictures.with_map(image, saliency, 0), plain)
    lined = pictures.with_map(image, saliency, 0, threshold=0.5)
    changed = np.nonzero((lined != plain).any(axis=2))[0]
    assert 170 < changed.max() < 210  # the line lies where the map ends, in the middle of 384 rows
    assert (lined == 255).all(axis=2).any()


def test_outline_leaves_the_inside_alone():
    image = np.full((100, 100, 3), 90, "uint8")
    region = np.zeros((100, 100), bool)
    region[20:80, 20:80] = True
    drawn = pictures.outlined(image, region)
    changed = (drawn != image).any(axis=2)
    assert changed[20:80, 20].all()
    assert not changed[30:70, 30:70].any()
    assert not changed[:18].any()
