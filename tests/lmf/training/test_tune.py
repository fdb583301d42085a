"""`lmf tune` on a few drawn images: every trial a run, the report shows all of them and no test score."""

from dataclasses import fields, replace

import pandas as pd
import pytest

from common.errors import UsageError
from common.runs import grid
from lmf.experiments.train import LOSS_SETTINGS, TrainSettings, default
from lmf.experiments.tune import TuneSettings
from lmf.losses import LOSSES
from lmf.training import train as training
from lmf.training import tune


def test_every_loss_is_searched_over_its_own_parameters():
    names = {field.name for field in fields(TrainSettings)}
    for loss in LOSSES:
        space = tune.space_of(replace(default("coded", "sample"), loss=loss))
        assert set(space) <= set(LOSS_SETTINGS.get(loss, ())) & names
    assert set(tune.SPACES["lmf"]) == {"alpha", "beta", "gamma", "max_margin", "scale"}
    assert "scale" not in tune.space_of(replace(default("coded", "sample"), loss="ldam", head="cosine"))


def test_a_search_goes_on_and_reports_every_trial(sample_cache, network, tmp_path, monkeypatch):
    """Trials run in this process here; the grid's own tests show that to be the same."""
    monkeypatch.chdir(tmp_path)
    ran = []

    def here(cell, own):
        ran.append(cell.settings)
        return (0, "") if training.train(cell.settings).finished else (1, "unfinished")

    monkeypatch.setattr(grid, "run_cell", here)
    train = TrainSettings(network=network, image_size=32, epochs=1, limit=60, batch_size=16)
    settings = TuneSettings(train=train, losses=("cce", "focal"), trials=2, cache_dir=sample_cache, run_dir=tmp_path / "tune")
    report = tune.run_tune(settings).read_text()
    assert "| CCE | (no parameter) | 1 |" in report and "| Focal | --gamma" in report and "Synthetic data" in report
    assert len((tmp_path / "tune" / "search-focal" / "trials.csv").read_text().splitlines()) == 3
    table = pd.read_csv(tmp_path / "tune" / "table.csv")
    assert table["search"].tolist() == ["cce", "focal", "focal"] and table["gamma"].notna().tolist() == [False, True, True]
    assert len(ran) == 3 and [each.gamma for each in ran[:2]] == [1.5, 1.5] and ran[2].gamma != 1.5
    assert tune.run_tune(settings).read_text() == report and len(ran) == 3
    with pytest.raises(UsageError, match="holds a search of other settings"):
        tune.run_tune(replace(settings, train=replace(train, batch_size=8)))
