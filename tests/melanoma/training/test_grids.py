"""The tables' runs in processes of their own: the folders are those that one process would make, pre-trainings come first."""

from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UsageError
from common.runs.cells import GridCell
from common.runs.grid import GridOutcome
from melanoma.experiments import ablation
from melanoma.experiments.ablation import AblationSettings
from melanoma.reporting import train_command
from melanoma.training import grids

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")


@pytest.fixture
def settings(isic: Path, images_b: Path, tmp_path: Path) -> AblationSettings:
    made = ablation.COMMAND.default("described", "isic2018")
    stages = dict.fromkeys(("pretrain_epochs", "classifier_epochs", "segmentation_epochs", "head_epochs"), 1)
    return replace(
        made, data_dir=isic, unlabelled_dir=images_b, cache_dir=tmp_path / "cache", backbone="mobilenetv2_035", weights="none",
        image_size=64, rows=("f_res", "f_res_clr"), parallel=2, **stages,
    )  # fmt: skip


def test_pretrainings_come_first_and_both_places_are_known(settings, tmp_path, monkeypatch):
    stages = []
    monkeypatch.setattr(grids, "run_grid", lambda cells, where: stages.append(cells) or GridOutcome(len(cells), 0, len(cells)))
    monkeypatch.setattr(GridCell, "finished", property(lambda cell: cell.experiment == "pretrain" and bool(stages)))
    monkeypatch.setattr(grids, "write_all", lambda folder: None)
    grids.grid_command(replace(settings, seeds=(0, 1), run_dir=tmp_path / "here"))
    first, second = stages
    assert [cell.run_dir for cell in first] == [tmp_path / "here" / f"pretrain-seed{seed}" for seed in (0, 1)]
    assert [cell.run_dir.name for cell in second] == [f"{row}-equal-seed{seed}" for seed in (0, 1) for row in ("f_res", "f_res_clr")]
    assert [cell.settings.pretrained for cell in second] == [None, first[0].run_dir, None, first[1].run_dir]


def test_what_waits_for_a_failed_run_is_left_out_and_nothing_else_is(settings, tmp_path, monkeypatch):
    ran, written = [], []

    def first_fails(cell, own):
        ran.append(cell.run_dir.name)
        return (2, "no images") if cell.experiment == "pretrain" else (0, "")

    monkeypatch.setattr("common.runs.grid.run_cell", first_fails)
    monkeypatch.setattr(GridCell, "finished", property(lambda cell: cell.run_dir.name in ran[1:]))
    monkeypatch.setattr(grids, "write_all", written.append)
    with pytest.raises(
        UsageError, match="1 of 1 cells failed, the same command tries them again: melanoma pretrain seed=0 .exit 2: no images"
    ):
        grids.grid_command(replace(settings, run_dir=tmp_path / "here", parallel=1))
    assert ran == ["pretrain-seed0", "f_res-equal-seed0"] and written == [tmp_path / "here"]


@pytest.mark.slow
def test_the_runs_of_the_default_place_are_found_again(tiny, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = replace(settings, rows=("f_res", "f_res_clr"), parallel=1)
    grids.grid_command(plain)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("model.keras")}
    grids.grid_command(plain)
    train_command(plain.cell(0, "f_res_clr"))  # alone, it would make a pre-training of its own
    assert len(before) == 3 and {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("model.keras")} == before
