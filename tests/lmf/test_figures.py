"""What the figures show: heights, deviations and printed marks are the numbers behind them."""

import numpy as np
import pandas as pd
import pytest

from lmf import figures, paper


def cells(*rows: tuple[str, str, str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["dataset", "backbone", "loss", "macro_f1"]).assign(synthetic=False, differs=False)


def test_fig_1_draws_means_average_deviations_and_the_printed_means():
    table = cells(
        ("ham10000", "resnet50", "cce", 0.5),
        ("ham10000", "densenet121", "cce", 0.8),
        ("ham10000", "resnet50", "lmf", 0.75),
        ("odir5k", "resnet50", "cce", 0.4),
        ("odir5k", "mobilenetv2_035", "lmf", np.nan),
    )
    (axis,) = figures.macro_f1_bars(table).axes
    heights = [patch.get_height() for patch in axis.patches]
    # CCE on both sets, then LMF on both; the run without a score leaves a gap.
    assert heights == pytest.approx([0.65, 0.4, 0.75, np.nan], nan_ok=True)
    spans = [segment[:, 1].tolist() for lines in axis.collections for segment in lines.get_segments() if len(segment)]
    # sum |x - mean| / n of 0.5 and 0.8 is 0.15 (their standard deviation would be 0.21); one run has none.
    assert spans[0] == pytest.approx([0.5, 0.8])
    assert all(low == pytest.approx(high) for low, high in spans[1:])
    printed = [line.get_ydata()[0] for line in axis.get_lines() if line.get_color() == "black" and len(line.get_ydata())]
    both = [paper.scores("ham10000", name, "cce")[0]["macro_f1"] / 100 for name in ("resnet50", "densenet121")]
    assert printed[0] == pytest.approx(np.mean(both))
    assert [label.get_text() for label in axis.get_xticklabels()] == ["HAM-10K", "ODIR-5K"]
    (axis,) = figures.macro_f1_bars(table.assign(differs=True)).axes  # another image size, say: nothing printed stands beside it
    assert not [line for line in axis.get_lines() if line.get_color() == "black"]


def test_fig_2_draws_the_counts_largest_first():
    figure = figures.class_distribution({"ham10000": {"df": 115, "nv": 6705, "mel": 1113}, "sample-odir5k": {"N": 40, "A": 8}})
    first, second = figure.axes
    assert [patch.get_height() for patch in first.patches] == [6705, 1113, 115]
    assert [label.get_text() for label in first.get_xticklabels()] == ["NV", "MEL", "DF"]
    assert [text.get_text() for text in first.texts] == ["6705", "1113", "115"]
    assert "7933 images, ratio 58.3" in first.get_title() and "ratio 5.0" in second.get_title()


def test_fig_4_draws_means_and_average_deviations():
    rows = [("equal", 0.5, 0.6), ("equal", 1.0, 0.9), ("beta", 0.5, 0.7), ("beta", 0.5, 0.8), ("beta", 2.0, 0.6)]
    table = pd.DataFrame(rows, columns=["setting", "value", "macro_f1"])
    left, right = figures.alpha_beta_means(table).axes
    assert [text.get_text() for text in left.texts] == ["0.7500", "0.7000"]
    points = [line.get_ydata()[0] for line in left.get_lines() if line.get_marker() == "o"]
    assert points == pytest.approx([0.75, 0.7])
    spans = [segment[:, 1].tolist() for lines in left.collections for segment in lines.get_segments() if len(segment)]
    assert spans[0] == pytest.approx([0.6, 0.9]) and spans[1] == pytest.approx([0.7 - 0.2 / 3, 0.7 + 0.2 / 3])
    # Seeds of one value are averaged.
    assert [line.get_ydata().tolist() for line in right.get_lines()] == [pytest.approx([0.6, 0.9]), pytest.approx([0.75, 0.6])]
