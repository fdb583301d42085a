"""Grid commands find the runs that single commands have made, train nothing twice, and write their tables."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cervical import tables
from cervical.__main__ import COMMANDS
from cervical.data import load
from cervical.experiments.base import CLASSES
from common.cli import main
from common.data.sample import ensure_sample
from common.errors import UsageError
from common.runs.finished import FoundRun, finished_runs
from tests.cervical.conftest import settings_of, small_backbone


@pytest.fixture
def here(finished, tmp_path, monkeypatch):
    """A working folder with the runs of `finished`, in which cells are trained in this process and with a network of two convolutions."""
    shutil.copytree(finished.home / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cervical.models.build_backbone", small_backbone)
    trained = []

    def run(cell, own):
        from cervical.training.contrastive import run_contrastive
        from cervical.training.cost_sensitive import run_cost_sensitive
        from cervical.training.finetune import run_finetune

        trained.append(cell.experiment)
        commands = {"contrastive": run_contrastive, "cost-sensitive": run_cost_sensitive, "finetune": run_finetune}
        commands[cell.experiment](replace(cell.settings, run_dir=cell.run_dir))
        return 0, ""

    monkeypatch.setattr("common.runs.grid.run_cell", run)
    return trained, finished.options


def cervical(*words) -> None:
    assert main("cervical", COMMANDS, [str(word) for word in words]) == 0


def test_tables_losses_and_depths_on_the_sample(here):
    trained, options = here
    cervical("tables", *options, "--run-dir", "tables")
    assert trained == ["cost-sensitive"], "fine-tuning and contrastive learning are there already"
    table = pd.read_csv("tables/table.csv")
    rows = table[table["kind"] == "row"]
    assert set(rows["method"]) >= {"fine-tuning, from scratch", "cost-sensitive, from scratch", "contrastive", "control"}
    report = Path("tables/report.md").read_text()
    for words in ("Synthetic data", "HDFF", "Table 6.1", "Tables 4.1 and 4.2", "4049", "18123", "one seed", "## Each class"):
        assert words in report, words
    assert "| cost-sensitive, from scratch | fine-tuning, from scratch |" in report and "| contrastive | control |" in report
    assert "| control | cost-s" not in report and "| contrastive | cost-s" not in report
    assert {path.name for path in Path("tables").glob("*.png")} == {f"accuracy_{name}.png" for name in tables.TABLE_NUMBERS}

    cervical("compare-losses", *options, "--losses", "npairs", "ntxent", "--run-dir", "losses")
    assert trained == ["cost-sensitive", "contrastive"]
    table = pd.read_csv("losses/table.csv")
    assert {"contrastive", "contrastive, ntxent", "control"} <= set(table.loc[table["kind"] == "row", "method"])
    assert "3.1922 → 2.0919" in Path("losses/report.md").read_text() and len(list(Path("losses").glob("*.png"))) == 1

    cervical("freeze-depth", *options, "--depths", "0", "3", "--run-dir", "depths")
    assert trained == ["cost-sensitive", "contrastive", "finetune"], "depth 0 is the fine-tuning run of the tables"
    report = Path("depths/report.md").read_text()
    assert "0 frozen" in report and "3 frozen" in report and "best on validation images with" in report and "random weights" in report
    # A published table gives the same rows as the run folders.
    again = tables.rows_of(finished_runs(Path("tables"), "cervical"))
    assert [row.name for row in again] == ["fine-tuning, from scratch", "cost-sensitive, from scratch", "contrastive", "control"]
    (folder,) = Path("runs/cervical/contrastive").glob("*npairs*")
    same = ["image", "label", "predicted"]
    assert again[2].runs[0].predictions()[0][same].equals(FoundRun.of(folder).predictions()[0][same])


def test_tables_with_costs_also_tell_the_decisions_that_cost_least(here):
    _, options = here
    Path("costs.csv").write_text(
        "class,cost\n" + "".join(f"{name},{cost}\n" for name, cost in zip(CLASSES, (10, 10, 1, 1, 1), strict=True))
    )
    words = ("--methods", "finetune", "--finetune.decision", "minimum-cost", "--finetune.decision-costs", "costs.csv")
    cervical("tables", *options, *words, "--run-dir", "tables")
    table = pd.read_csv("tables/decisions/finetune/table.csv")
    rows = table[table["kind"] == "row"].set_index(["method", "metric"])["ours"]
    name = "fine-tuning, from scratch"
    assert (f"{name}, minimum-cost", "abnormal sensitivity") in rows.index
    assert "| Dyskeratotic | 0 | 10 | 10 | 10 | 10 |" in Path("tables/decisions/finetune/report.md").read_text()


def test_a_failed_cell_leaves_a_hole_and_the_exit_code(here, monkeypatch):
    _, options = here
    monkeypatch.setattr("common.runs.grid.run_cell", lambda cell, own: (2, "--weights imagenet: the download failed"))
    with pytest.raises(UsageError, match="download failed"):
        tables.run_tables(settings_of("tables", *options, "--methods", "finetune", "cost-sensitive", "--run-dir", "tables"))
    report = Path("tables/report.md").read_text()
    assert "Not run yet" in report and "| cost-sensitive, from scratch |" in report


def test_recipes_that_share_a_name_are_told_by_what_differs(at_home):
    runs = finished_runs(at_home.home / "runs", "cervical")
    first = next(run for run in runs if run.experiment == "finetune")
    other = replace(first, config={**first.config, "settings": {**first.config["settings"], "freeze": 7}})
    names = [row.name for row in tables.rows_of([first, other])]
    assert names == ["fine-tuning, from scratch, freeze 0", "fine-tuning, from scratch, freeze 7"]
    assert len(tables.situations([first, other])) == 1
    wide = replace(first, config={**first.config, "settings": {**first.config["settings"], "copies": 5}})
    assert ["copies 5" in title for title in tables.situations([first, wide])] == [False, True]
    apart = replace(first, config={**first.config, "settings": {**first.config["settings"], "same_cells": "on one side"}})
    assert ["same cells on one side" in title for title in tables.situations([first, apart])] == [False, True]
    seed = replace(first, config={**first.config, "settings": {**first.config["settings"], "seed": 9}})
    assert len(tables.rows_of([first, seed])[0].runs) == 2


def test_methods_are_named_with_what_is_not_the_documents():
    def name(experiment, **settings):
        return tables.row_name({"experiment": experiment, "settings": {"backbone": "vgg16", **settings}})

    assert name("contrastive", loss="npairs") == "contrastive" and name("contrastive", loss="supcon") == "contrastive, supcon"
    assert name("cost-sensitive", costs="mine.csv", body="whole") == "cost-sensitive, costs mine.csv"
    assert name("contrastive", weights="w.h5") == "contrastive, pre-trained" and name("contrastive", weights="none") == "contrastive"
    assert name("finetune", body="truncated") == "fine-tuning, body cut as in the code"


def test_no_printed_number_beside_costs_of_ones_own():
    config = {"experiment": "cost-sensitive", "settings": {"backbone": "vgg16", "costs": "printed"}}
    assert tables.printed_of(config)["accuracy"].value == 0.9594
    assert tables.printed_of({**config, "settings": {"backbone": "vgg16", "costs": "mine.csv"}}) == {}
    control = {"experiment": "contrastive-control", "settings": {"backbone": "vgg16"}}
    assert tables.printed_of(control)["accuracy"].value == pytest.approx(0.9791, abs=1e-4)  # the authors' unpublished control


def test_only_the_first_loss_brings_a_control(sample_cache):
    words = ("--cache-dir", sample_cache, "--reading", "corrected", "--losses", "npairs", "ntxent", "supcon")
    grid = settings_of("compare-losses", *words)
    assert [cell.settings.control for cell in tables.loss_cells(grid, load(grid))] == [True, False, False]


def test_losses_asked_for_are_trained_in_the_coded_reading_too(sample_cache):
    words = ("--cache-dir", sample_cache, "--reading", "coded")
    grid = settings_of("compare-losses", *words, "--losses", "npairs", "ntxent", "triplet", "supcon")
    assert [cell.settings.loss for cell in tables.loss_cells(grid, load(grid))] == ["npairs", "ntxent", "triplet", "supcon"]
    grid = settings_of("compare-losses", *words, "--seeds", "0", "1")
    losses = [cell.settings.loss for cell in tables.loss_cells(grid, load(grid))]
    assert losses == ["npairs"] * 2 + ["ntxent-coded"] * 2 + ["triplet-coded"] * 2


def test_the_whole_study_is_fifteen_runs_and_five_controls(tmp_path, sample_cache):
    folder = ensure_sample("sipakmed", sample_cache)
    grid = settings_of("tables", "--dataset", "sipakmed", "--data-dir", folder, "--cache-dir", tmp_path)
    cells = tables.table_cells(grid, load(grid))
    assert len(cells) == 15 and len({cell.run_dir for cell in cells}) == 15
    assert sum(getattr(cell.settings, "control", False) for cell in cells) == 5
    assert {cell.labels["backbone"] for cell in cells} == {"vgg16", "vgg19", "resnet50", "densenet169", "mobilenetv2"}


def test_tables_hand_every_option_to_the_methods_that_know_it(sample_cache):
    words = ("--finetune.freeze", "7", "--finetune.views", "--cost-sensitive.costs", "balanced", "--contrastive.head-input", "projection")
    grid = settings_of("tables", "--cache-dir", sample_cache, *words, "--epochs", "2")
    found = {cell.experiment: cell.settings for cell in tables.table_cells(grid, load(grid))}
    assert (found["finetune"].freeze, found["finetune"].views, found["finetune"].training.epochs) == (7, True, 2)
    assert (found["cost-sensitive"].costs, found["cost-sensitive"].views) == ("balanced", False)
    assert (found["contrastive"].head_input, found["contrastive"].encoder.epochs) == ("projection", 2)


def test_depths_that_freeze_the_same_are_refused(sample_cache):
    words = ("--backbones", "vgg16", "--finetune.body", "truncated", "--depths", "13", "14", "19")
    grid = settings_of("freeze-depth", "--cache-dir", sample_cache, "--image-size", "32", *words)
    with pytest.raises(UsageError, match="--depths 14 19: they freeze the same weights of this VGG16"):
        tables.depth_cells(grid, load(grid))
