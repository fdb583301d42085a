"""Finding finished runs."""

import json

from feedback import finished


def _run(folder, experiment, done=True):
    folder.mkdir(parents=True)
    settings = {"dataset": "sample-isic2018", "backbone": "small", "balance": "none", "objective": "combined", "explanation_weight": 0.3,
                "gradients": "constant", "seed": 0, "batch_size": 1}  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"study": "feedback", "experiment": experiment, "settings": settings}))
    scores = {"accuracy": 0.5, "jaccard": {"mean": 0.1}}
    metrics = {"synthetic": True, "before": scores, "accuracy": 0.6, "jaccard": 0.2, "ellipse": {"mean": 0.4}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "slices.csv").write_text("slice,accuracy,jaccard\n0,0.5,0.1\n")
    if done:
        (folder / "finished.json").write_text("{}")


def test_only_finished_runs_of_the_kind(tmp_path):
    _run(tmp_path / "simulate" / "a", "simulate")
    _run(tmp_path / "tables" / "x" / "cells" / "b", "simulate")
    _run(tmp_path / "simulate" / "c", "simulate", done=False)
    _run(tmp_path / "slices" / "d", "slices")
    runs = finished.simulations(tmp_path)
    assert [run.name for run in runs] == ["a", "b"]
    table = finished.table(runs)
    assert table["jaccard_before"].tolist() == [0.1, 0.1] and table["jaccard"].tolist() == [0.2, 0.2]
    assert list(finished.slices(tmp_path)) == ["combined"]
    assert finished.simulations(tmp_path / "nothing") == []
