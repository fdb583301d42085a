"""The grid commands from their command lines on the drawn sample: cells that are missing are trained, others taken as they are."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from cervical.__main__ import COMMANDS
from common.cli import main
from tests.cervical.conftest import small_backbone

TINY = ("--backbones", "mobilenetv2_035", "--limit", "50", "--epochs", "1", "--image-size", "32")


def cervical(*words) -> None:
    assert main("cervical", COMMANDS, [str(word) for word in words]) == 0


@pytest.fixture
def here(finished, tmp_path, monkeypatch):
    """A working folder with the runs of `finished`, in which cells are trained in this process and with a network of two convolutions."""
    shutil.copytree(finished.home / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cervical.models.build_backbone", small_backbone)
    trained = []

    def run(command, **_):
        trained.append(command[3])
        return SimpleNamespace(returncode=main("cervical", COMMANDS, command[3:]), stderr="")

    monkeypatch.setattr("common.runs.grid.subprocess", SimpleNamespace(run=run, PIPE=-1))
    return SimpleNamespace(trained=trained, options=(*finished.options, "--backbones", "mobilenetv2_035"))


def test_tables_losses_and_depths_on_the_sample(here):
    cervical("tables", *here.options, "--run-dir", "tables")
    assert here.trained == ["cost-sensitive"], "fine-tuning and contrastive learning are there already"
    cells = pd.read_csv("tables/cells.csv")
    assert list(cells["method"]) == ["finetune", "cost-sensitive", "contrastive", "control"] and (cells["n"] == 10).all()
    assert "3 of 3 runs" in Path("tables/report.md").read_text()

    cervical("compare-losses", *here.options, "--losses", "npairs", "ntxent", "--run-dir", "losses")
    assert here.trained == ["cost-sensitive", "contrastive"]
    cells = pd.read_csv("losses/cells.csv")
    assert list(cells["loss"]) == ["npairs", "ntxent", "control (cross-entropy)"] and (cells["n"] == 10).all()
    assert Path("losses/figures/loss_mobilenetv2_035_ntxent.png").is_file()

    cervical("freeze-depth", *here.options, "--depths", "0", "3", "--run-dir", "depths")
    assert here.trained == ["cost-sensitive", "contrastive", "finetune"], "depth 0 is the fine-tuning run of the tables"
    cells = pd.read_csv("depths/cells.csv")
    assert list(cells["depth"]) == [0, 3] and cells["trainable_parameters"][0] > cells["trainable_parameters"][1]
    assert "Best on validation images" in Path("depths/report.md").read_text()


def test_size_analysis_on_the_sample(tmp_path, sample_cache):
    cervical("size-analysis", "--limit", 50, "--cache-dir", sample_cache, "--run-dir", tmp_path / "sizes")
    assert len(pd.read_csv(tmp_path / "sizes" / "sizes.csv")) == 50
    assert "lower corner of the densest cell" in (tmp_path / "sizes" / "report.md").read_text()
    assert all((tmp_path / "sizes" / "figures" / name).is_file() for name in ("sizes.png", "cells.png"))


@pytest.fixture
def processes(tmp_path, monkeypatch):
    """An empty working folder in which every cell is a process of its own, with the real network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    return (*TINY, "--copies", "0", "--cache-dir", tmp_path / "cache")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_grid_runs_its_cells(processes):
    cervical("tables", *processes, "--run-dir", "tables")
    assert "3 of 3 runs" in Path("tables/report.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_losses_and_depths_are_really_trained(processes):
    cervical("compare-losses", *processes, "--reading", "corrected", "--losses", "npairs", "supcon", "--run-dir", "losses")
    cells = pd.read_csv("losses/cells.csv")
    assert cells["loss"].tolist() == ["npairs", "supcon", "control (cross-entropy)"] and (cells["n"] > 0).all()
    assert len(list(Path("runs/cervical/contrastive").glob("*/control"))) == 1
    cervical("freeze-depth", *processes, "--depths", "0", "100", "--run-dir", "depths")
    cells = pd.read_csv("depths/cells.csv")
    assert cells["depth"].tolist() == [0, 100]
    assert cells["trainable_parameters"][0] > cells["trainable_parameters"][1]
