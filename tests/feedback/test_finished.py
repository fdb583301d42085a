"""Finding finished runs."""

import json
from pathlib import Path

from feedback import finished


def _run(folder, experiment, done=True, **changes):
    folder.mkdir(parents=True)
    settings = {"dataset": "sample-isic2018", "backbone": "small", "balance": "none", "objective": "combined", "explanation_weight": 0.3,
                "gradients": "constant", "seed": 0, "batch_size": 1, **changes}  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"study": "feedback", "experiment": experiment, "settings": settings}))
    scores = {"accuracy": 0.5, "jaccard": {"mean": 0.1}}
    metrics = {"synthetic": True, "before": scores, "accuracy": 0.6, "jaccard": 0.2, "ellipse": {"mean": 0.4}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "slices.csv").write_text("slice,accuracy,jaccard\n0,0.5,0.1\n")
    seed = changes.get("seed", 0)
    (folder / "history.csv").write_text(f"stage,epoch,loss\ntuning,1,{1 + seed}\ntuning,2,{seed}\n")
    if done:
        (folder / "finished.json").write_text("{}")
    else:
        (folder / "checkpoints").mkdir()


def test_only_finished_runs_of_the_kind(tmp_path):
    _run(tmp_path / "simulate" / "a", "simulate")
    _run(tmp_path / "tables" / "x" / "cells" / "b", "simulate")
    _run(tmp_path / "simulate" / "c", "simulate", done=False)
    _run(tmp_path / "slices" / "d", "slices")
    runs = finished.simulations(tmp_path)
    assert [run.name for run in runs] == ["a", "b"]
    table = finished.table(runs)
    assert table["jaccard_before"].tolist() == [0.1, 0.1] and table["jaccard"].tolist() == [0.2, 0.2]
    slices, synthetic = finished.slices(tmp_path)
    assert list(slices) == ["combined"] and synthetic
    assert finished.simulations(tmp_path / "nothing") == []


def test_published_runs_count_and_seeds_are_averaged(tmp_path):
    for seed in (0, 1):
        _run(tmp_path / f"seed{seed}", "simulate", seed=seed)
        (tmp_path / f"seed{seed}" / "finished.json").unlink()  # what is published leaves it out
    _run(tmp_path / "other", "simulate", gradients="differentiated")
    table = finished.table(finished.simulations(tmp_path))
    assert len(table) == 3
    histories = finished.histories(table)
    assert list(histories) == ["combined, gradients differentiated", "combined, gradients constant"]
    assert histories["combined, gradients constant"]["loss"].tolist() == [1.5, 0.5]


def test_no_run_gives_an_empty_table_with_its_columns(tmp_path):
    table = finished.table(finished.simulations(tmp_path))
    assert table.empty and list(table.groupby("balance")) == [] and not finished.slices(tmp_path)[0]


def test_the_committed_runs_are_found():
    """What results/feedback holds is what the notebook can draw."""
    folder = Path(__file__).resolve().parents[2] / "results" / "feedback"
    runs = finished.simulations(folder)
    assert len(runs) >= 2 and finished.histories(finished.table(runs))
