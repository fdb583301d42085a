"""Grid commands find the runs that single commands have made, train nothing twice, and write every table."""

import json
from pathlib import Path

import pandas as pd
import pytest

from cervical.config import CompareLossesOptions, ContrastiveOptions, FinetuneOptions, FreezeDepthOptions, TablesOptions
from cervical.grids.cells import arguments
from cervical.grids.depth import default_depths, depth_cells, run_freeze_depth
from cervical.grids.losses import loss_cells, run_compare_losses
from cervical.grids.tables import run_tables, table_cells
from common.data.sample import ensure_sample


@pytest.fixture
def no_training(monkeypatch):
    """Any cell that is not finished would start a process; none may."""

    def refuse(command, **_):
        raise AssertionError(f"a cell was run again: {command}")

    monkeypatch.setattr("common.evaluation.grid.subprocess.run", refuse)


def test_arguments_are_what_differs_from_the_defaults():
    options = ContrastiveOptions(limit=50, epochs=1, control=True, weights="none", seed=3)
    assert arguments(options) == ("--limit", "50", "--seed", "3", "--weights", "none", "--epochs", "1", "--control")
    assert arguments(FinetuneOptions()) == ()


def test_tables_from_finished_runs(at_home, no_training):
    folder = run_tables(TablesOptions(**at_home.options, methods=("finetune", "contrastive")))
    cells = pd.read_csv(folder / "cells.csv")
    assert list(cells["method"]) == ["finetune", "contrastive", "control"] and (cells["n"] == 10).all()
    report = (folder / "report.md").read_text()
    for text in ("2 of 2 runs", "Synthetic data", "Table I, ", "Table III, ", "Table IV / 7.1", "99.14%", "Table 6.1", "HDFF", "4049"):
        assert text in report, text
    classes = pd.read_csv(folder / "per_class.csv")
    assert len(classes) == 3 * 5 * 3
    comparisons = pd.read_csv(folder / "comparisons.csv")
    assert set(zip(comparisons["baseline"], comparisons["method"], strict=True)) == {
        ("finetune", "contrastive"),
        ("finetune", "control"),
        ("control", "contrastive"),
    }
    assert comparisons["mcnemar_p"].between(0, 1).all()
    assert {path.name for path in (folder / "figures").iterdir()} >= {"accuracy_finetune.png", "accuracy_contrastive.png"}
    assert json.loads((folder / "config.json").read_text())["synthetic"] is True


def test_losses_from_a_finished_run(at_home, no_training):
    folder = run_compare_losses(CompareLossesOptions(**at_home.options, losses=("npairs",)))
    report = (folder / "report.md").read_text()
    assert "control (cross-entropy)" in report and "3.1922 → 2.0919" in report
    assert (folder / "figures" / "loss_mobilenetv2_035_npairs.png").is_file() and (folder / "figures" / "accuracy.png").is_file()


def test_depths_from_a_finished_run(at_home, no_training):
    folder = run_freeze_depth(FreezeDepthOptions(**at_home.options, depths=(0,)))
    report = (folder / "report.md").read_text()
    assert "Best on validation images: 0 frozen layers" in report and "random weights" in report
    assert (folder / "figures" / "depth_mobilenetv2_035.png").is_file()


def test_the_whole_study_is_twenty_runs_and_controls(tmp_path, sample_cache):
    options = TablesOptions(dataset="sipakmed", data_dir=ensure_sample("sipakmed", sample_cache), cache_dir=tmp_path)
    from cervical.data import load

    cells = table_cells(options, load(options))
    assert len(cells) == 15 and len({cell.run_dir for cell in cells}) == 15
    assert sum("--control" in cell.arguments for cell in cells) == 5
    assert {cell.labels["backbone"] for cell in cells} == {"vgg16", "vgg19", "resnet50", "densenet169", "mobilenetv2"}


def test_several_networks_losses_and_seeds_are_all_there(sample_cache):
    from cervical.data import load

    options = TablesOptions(cache_dir=sample_cache, backbones=("vgg16", "mobilenetv2_035"), losses=("npairs", "supcon"), seeds=(0, 1))
    cells = table_cells(options, load(options))
    assert len(cells) == 2 * 2 * (1 + 1 + 2) and len({cell.run_dir for cell in cells}) == len(cells)
    assert {cell.labels["method"] for cell in cells} == {"finetune", "cost-sensitive", "contrastive", "contrastive-supcon"}
    assert sum("--control" in cell.arguments for cell in cells) == 4
    assert len(depth_cells(FreezeDepthOptions(cache_dir=sample_cache, depths=(0, 5), seeds=(0, 1)), load(options))) == 4


def test_the_coded_reading_compares_the_broken_losses(sample_cache):
    from cervical.data import load

    options = CompareLossesOptions(cache_dir=sample_cache, reading="coded", seeds=(0, 1))
    cells = loss_cells(options, load(options))
    assert [cell.labels["loss"] for cell in cells] == ["npairs"] * 2 + ["ntxent-coded"] * 2 + ["triplet-coded"] * 2


def test_default_depths_hold_the_papers():
    depths = default_depths("mobilenetv2_035", 32)
    assert depths[0] == 0 and 100 in depths and len(depths) == 6


@pytest.mark.slow
def test_a_grid_runs_its_cells_and_stays_finished(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    options = TablesOptions(limit=25, image_size=32, copies=0, epochs=1, cache_dir=tmp_path / "cache")
    folder = run_tables(options)
    assert "3 of 3 runs" in (folder / "report.md").read_text()
    before = (folder / "report.md").stat().st_mtime_ns
    assert run_tables(options) == folder and (folder / "report.md").stat().st_mtime_ns == before
