"""`lmf tables` and `lmf sweep` run what is missing and write their outcome."""

from dataclasses import replace

import pandas as pd
import pytest

from common.errors import UsageError
from common.runs import grid as grids
from lmf.experiments.retrain import RetrainSettings
from lmf.experiments.sweep import SweepSettings
from lmf.experiments.tables import TablesSettings
from lmf.experiments.train import TrainSettings
from lmf.training import grids as commands
from lmf.training import train as training
from lmf.training.retrain import retrain


@pytest.fixture
def tiny(network, sample_cache, monkeypatch, tmp_path):
    """Settings of a run of seconds; cells run in this process, which the grid's own tests show to be the same."""
    monkeypatch.chdir(tmp_path)
    ran = []

    def here(cell, own):
        ran.append(cell.labels)
        run = training.train(cell.settings)
        return (0, "") if run.finished else (1, "unfinished")

    monkeypatch.setattr(grids, "run_cell", here)
    train = TrainSettings(network=network, image_size=32, epochs=1, batch_size=16, limit=60, cache_dir=sample_cache)
    return train, ran


def test_tables_run_what_is_missing_and_compare_the_losses(tiny, tmp_path, sample_cache):
    train, ran = tiny
    settings = TablesSettings(losses=("cce", "lmf"), seeds=(0, 1), train=train, cache_dir=sample_cache, run_dir=tmp_path / "out")
    report = commands.run_tables(settings).read_text()
    assert len(ran) == 4 and "Synthetic data" in report and "| AKIEC |" in report
    table = pd.read_csv(tmp_path / "out" / "table.csv")
    pair = table[table["kind"] == "comparison"]
    assert pair["metric"].tolist() == ["macro_f1", "tail_f1"] and pair.iloc[0][["against", "method"]].tolist() == ["CCE", "LMF"]
    assert {"head_f1", "tail_f1", "mcc", "geometric_mean", "average_precision.macro"} <= set(table["metric"])
    assert (tmp_path / "out" / "fig1.png").is_file() and (tmp_path / "out" / "fig2.png").is_file()
    commands.run_tables(settings)
    assert len(ran) == 4, "finished cells are not run again"


def test_finished_runs_of_another_folder_stand_in_the_table_too(tiny, tmp_path, sample_cache):
    train, ran = tiny
    settings = TablesSettings(losses=("cce", "lmf"), train=train, cache_dir=sample_cache, run_dir=tmp_path / "out", against="lmf")
    commands.run_tables(settings)
    (run,) = (tmp_path / "runs" / "lmf" / "train").glob("*-cce-*")
    for how in ("crt", "adjust"):
        retrain(RetrainSettings(run=run, how=how, epochs=1, run_dir=tmp_path / "again" / how))
    report = commands.run_tables(replace(settings, also=(tmp_path / "again",))).read_text()
    table = pd.read_csv(tmp_path / "out" / "table.csv")
    names = ["CCE", "CCE with logits adjusted afterwards (tau 1)", "CCE, last layer retrained on balanced draws (cRT)"]
    assert len(ran) == 2 and [name in report for name in names] == [True] * 3
    pairs = table[(table["kind"] == "comparison") & (table["metric"] == "macro_f1")]
    assert set(pairs["against"]) == {"LMF"} and sorted(pairs["method"]) == names
    with pytest.raises(UsageError, match="no finished run of lmf"):
        commands.run_tables(replace(settings, also=(run / "figures",)))


def test_the_sweep_trains_each_pair_once_and_chooses_on_validation(tiny, tmp_path, sample_cache):
    train, ran = tiny
    settings = SweepSettings(grid=(1.0, 2.0), settings=("equal", "beta"), train=train, cache_dir=sample_cache, run_dir=tmp_path / "out")
    report = commands.run_sweep(settings).read_text()
    assert len(ran) == 3 and "Best on validation images: alpha" in report and (tmp_path / "out" / "fig4.png").is_file()
