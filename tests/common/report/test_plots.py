import json

import numpy as np
import pandas as pd
import pytest

from common.metrics.calibration import calibration_bins
from common.report import plots

HISTORY = pd.DataFrame(
    {
        "stage": ["encoder"] * 3 + ["classifier"] * 2,
        "epoch": [1, 2, 3, 1, 2],
        "seconds": 1.0,
        "learning_rate": 0.001,
        "loss": [3.0, 2.0, 1.0, 0.9, 0.5],
        "accuracy": [np.nan] * 3 + [0.6, 0.8],
        "val_accuracy": [np.nan] * 3 + [0.5, 0.7],
    }
)


def texts(figure):
    """Everything written on a figure."""
    from matplotlib.text import Text

    return [item.get_text() for item in figure.findobj(Text) if item.get_text()]


def test_the_confusion_matrix_shows_counts_and_classes():
    figure = plots.confusion_matrix([[5, 1], [0, 7]], ("left", "right"), "A title")
    said = texts(figure)
    assert {"5", "1", "7", "left", "right", "A title", "truth", "predicted"} <= set(said)
    shares = figure.axes[0].images[0].get_array()
    assert np.asarray(shares) == pytest.approx(np.array([[5 / 6, 1 / 6], [0, 1]]))


def test_training_curves_have_a_panel_a_score_and_validation_dashed():
    figure = plots.training_curves(HISTORY)
    drawn = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in drawn] == ["encoder loss", "classifier loss", "classifier accuracy"]
    assert [line.get_linestyle() for line in drawn[2].lines] == ["-", "--"]
    assert drawn[0].lines[0].get_ydata().tolist() == [3, 2, 1]


def test_a_history_without_a_score_is_refused():
    with pytest.raises(ValueError, match="no score"):
        plots.training_curves(HISTORY[["stage", "epoch", "seconds"]])


def test_reliability_draws_the_bins_it_is_given():
    rng = np.random.default_rng(0)
    bins = calibration_bins(rng.random(200) < 0.8, rng.random(200), 10)
    figure = plots.reliability(bins, 0.123)
    assert "Reliability, ECE 0.123" in texts(figure)
    assert [patch.get_height() for patch in figure.axes[0].patches] == pytest.approx([row["accuracy"] for row in bins])
    assert [patch.get_height() for patch in figure.axes[1].patches] == [row["count"] for row in bins]


def test_bars_leave_gaps_and_draw_errors_and_printed_numbers():
    values, errors = {"ours": [0.9, None], "other": [0.8, 0.7]}, {"ours": [(0.85, 0.95), None], "other": [0.01, None]}
    figure = plots.bars(["x", "y"], values, errors, printed={"ours": [0.92, None]})
    heights = [patch.get_height() for patch in figure.axes[0].patches]
    assert heights[0] == 0.9 and np.isnan(heights[1]) and heights[2:] == [0.8, 0.7]
    spans = [segment[:, 1] for part in figure.axes[0].collections for segment in part.get_segments() if len(segment)]
    assert spans[0] == pytest.approx([0.85, 0.95])
    assert spans[1] == pytest.approx([0.79, 0.81])
    assert "printed" in texts(figure)


@pytest.mark.parametrize("synthetic", [True, False])
def test_every_figure_of_synthetic_data_says_so(synthetic):
    x = np.random.default_rng(0).normal(size=50)
    figures = [
        plots.confusion_matrix([[1, 0], [0, 1]], "ab", synthetic=synthetic),
        plots.training_curves(HISTORY, synthetic=synthetic),
        plots.reliability(calibration_bins(x > 0, np.full(50, 0.5)), synthetic=synthetic),
        plots.bars(["x"], {"s": [1.0]}, synthetic=synthetic),
        plots.scatter_hexbin(x, x, "width", "height", mark=(0, 0), synthetic=synthetic),
        plots.curves({"a": ([1, 2], [3, 4])}, "x", "y", levels={"chance": 3.5}, synthetic=synthetic),
    ]
    assert [("synthetic data" in texts(figure)) for figure in figures] == [synthetic] * len(figures)


def test_saving_twice_gives_the_same_bytes_and_leaves_nothing_beside(tmp_path):
    for name in ("a.png", "b.png"):
        plots.save(plots.bars(["x"], {"s": [1.0]}), tmp_path / "figures" / name)
    assert (tmp_path / "figures/a.png").read_bytes() == (tmp_path / "figures/b.png").read_bytes()
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["a.png", "b.png"]


def test_drawing_changes_no_global_style():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    plots.bars(["x"], {"s": [1.0]})
    assert dict(mpl.rcParams) == before


def test_standard_figures_draw_what_there_is(tmp_path, make_run):
    run = make_run(tmp_path / "run")
    (run / "history.csv").unlink()
    metrics = json.loads((run / "metrics.json").read_text())
    assert [path.name for path in plots.standard_figures(run)] == ["confusion.png", "reliability.png"]
    del metrics["calibration"]
    (run / "metrics.json").write_text(json.dumps(metrics))
    assert [path.name for path in plots.standard_figures(run)] == ["confusion.png"]


def test_curves_of_many_scores_and_stages_stay_on_a_page():
    many = pd.DataFrame({"epoch": [1, 2], **{f"score_{index}": [0.1, 0.2] for index in range(9)}})
    figure = plots.training_curves(many)
    assert sum(axis.get_visible() for axis in figure.axes) == 9 and len({axis.get_subplotspec().colspan.start for axis in figure.axes}) == 4
    slices = pd.concat([pd.DataFrame({"stage": f"slice{index}", "epoch": [1, 2], "loss": [1.0, 0.5]}) for index in range(20)])
    (axis,) = plots.training_curves(slices).axes
    assert axis.lines[0].get_xdata()[-1] == 40 and axis.get_title() == "slice0 to slice19 loss"


def test_a_class_named_with_dollar_signs_is_drawn_as_it_is(tmp_path) -> None:
    names = ["5$ \\x $", "plain"]
    figure = plots.confusion_matrix([[3, 1], [0, 2]], names)
    assert plots.save(figure, tmp_path / "a.png").is_file()
