"""Many simulations: the search over lambda, rate, anchor and gradient norm, and the slices."""

import json

import pandas as pd
import pytest

from common.errors import UsageError
from feedback.experiments.search import SearchSettings
from feedback.experiments.slices import SlicesSettings
from feedback.training import simulate
from feedback.training.online import LossNotFinite
from feedback.training.search import run_search
from feedback.training.simulate import run_simulate
from tests.common.runs.here import run_here
from tests.feedback.training.conftest import no_figures, options_of, release


def test_search_chooses_on_validation(sample_cache, small_base, tmp_path, monkeypatch):
    no_figures(monkeypatch)
    monkeypatch.setattr("common.runs.grid.run_cell", run_here)
    chosen = {"lambdas": (0.0, 0.5), "anchors": (0.0,), "epochs": 1, "limit": 24}
    folder = run_search(options_of(sample_cache, small_base, tmp_path / "search", SearchSettings, **chosen))
    table, metrics = pd.read_csv(folder / "search.csv"), json.loads((folder / "metrics.json").read_text())
    assert table["explanation_weight"].tolist() == [0.0, 0.5] and table["outcome"].tolist() == ["one epoch"] * 2
    best = table.loc[table["selection"].idxmax()]
    assert metrics["chosen"] == {"explanation_weight": best["explanation_weight"], "anchor_weight": 0.0}
    kept = json.loads((folder / f"explanation_weight{best['explanation_weight']:g}-anchor_weight0" / "metrics.json").read_text())
    assert kept["validation"]["jaccard"] == pytest.approx(best["jaccard"])
    assert "Chosen on validation" in (folder / "report.md").read_text() and "test" not in table


def test_a_run_that_diverges_is_a_row(sample_cache, small_base, tmp_path, monkeypatch):
    """What is made of the runs, which are stood in for; the next test trains them."""

    said = {0.1: "the images are gone", 10.0: f"{LossNotFinite.SAID}: nan at step 3 of epoch 2"}

    def runs(cell, own):
        cell.run_dir.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"stage": "tuning", "epoch": [1], "loss": [2.0]}).to_csv(cell.run_dir / "history.csv", index=False)
        if cell.settings.learning_rate in said and not cell.settings.clip_norm:
            return 2, said[cell.settings.learning_rate]
        scores = {"jaccard": 0.25, "balanced_accuracy": 0.5, "auc": 0.5, "accuracy": 0.5, "selection": 0.25}
        (cell.run_dir / "metrics.json").write_text(json.dumps({"validation": scores}))
        return 0, ""

    monkeypatch.setattr("common.runs.grid.run_cell", runs)
    chosen = {"rates": (1e-3, 10.0), "clip_norms": (1.0, 0.0), "lambdas": (), "objective": "classification", "epochs": 2}
    with pytest.raises(UsageError, match="1 of 6 cells failed.*: the images are gone") as failed:
        run_search(options_of(sample_cache, small_base, tmp_path / "other", SearchSettings, **{**chosen, "rates": (1e-3, 0.1, 10.0)}))
    assert LossNotFinite.SAID not in str(failed.value) and not (tmp_path / "other" / "finished.json").exists()
    folder = run_search(options_of(sample_cache, small_base, tmp_path / "clip", SearchSettings, **chosen))
    table = pd.read_csv(folder / "search.csv")
    assert table["clip_norm"].tolist() == [1.0, 0.0] * 2 and table["jaccard"].isna().tolist() == [False] * 3 + [True]
    assert table["outcome"].tolist() == ["one epoch"] * 3 + ["not finite"]
    assert "| not finite |" in (folder / "report.md").read_text()
    # What decides the result decides which run it is, the data too.
    assert json.loads((folder / "config.json").read_text())["data_fingerprint"]
    for other in ({"layer": "conv1"}, {"rates": (1e-3,)}, {"objective": "explanation"}):
        with pytest.raises(UsageError, match="other settings"):
            run_search(options_of(sample_cache, small_base, folder, SearchSettings, **{**chosen, **other}))


def test_the_same_rate_diverges_without_clipping_and_stays_with_it(sample_cache, small_base, tmp_path, monkeypatch):
    """A step of 80 times the gradient: as it is, it throws the weights far away; of a norm of 0.01 at most, it moves them by 0.8."""
    no_figures(monkeypatch)
    monkeypatch.setattr("common.runs.grid.run_cell", run_here)
    chosen = {"lambdas": (), "rates": (10.0,), "clip_norms": (0.01, 0.0), "epochs": 2, "batch_size": 8, "limit": 24}
    folder = run_search(options_of(sample_cache, small_base, tmp_path / "clip", SearchSettings, **chosen))
    clipped, free = pd.read_csv(folder / "search.csv").to_dict("records")
    assert clipped["outcome"] != "not finite" and clipped["highest_loss"] < 5
    assert free["outcome"] == "not finite" or free["highest_loss"] > 20 * clipped["highest_loss"]


@pytest.mark.slow
def test_slices_go_on_where_they_stopped(sample_cache, small_base, tmp_path, monkeypatch):
    def options(name):
        return options_of(
            sample_cache, small_base, tmp_path / name, SlicesSettings, slices=3, epochs=1, objective="explanation", faithfulness=2
        )

    whole = run_simulate(options("whole"))
    table = pd.read_csv(whole / "slices.csv")
    assert table["slice"].tolist() == [-1, 0, 1, 2] and table["images"].tolist()[1:] == [89, 89, 89]
    assert (whole / "figures" / "slices.png").is_file() and "Test set after each slice" in (whole / "report.md").read_text()
    calls, original = [], simulate.tune

    def killed(*arguments, **names):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        return original(*arguments, **names)

    with monkeypatch.context() as patched:
        patched.setattr(simulate, "tune", killed)
        with pytest.raises(KeyboardInterrupt):
            run_simulate(options("broken"))
    release()
    broken = run_simulate(options("broken"))
    for name in ("predictions.csv", "faithfulness.csv"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    columns = ["slice", "images", "accuracy", "jaccard", "validation_jaccard"]
    pd.testing.assert_frame_equal(pd.read_csv(broken / "slices.csv")[columns], table[columns])
