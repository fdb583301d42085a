"""The tables' runs in processes of their own: the folders are those that one process would make, pre-trainings come first."""

from dataclasses import replace
from pathlib import Path

import pytest

from common.runs.grid import GridOutcome
from melanoma.experiments import ablation
from melanoma.experiments.ablation import AblationSettings
from melanoma.reporting import pretrain_command, train_command
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
    grids.in_processes(replace(settings, seeds=(0, 1), run_dir=tmp_path / "here"))
    first, second = stages
    assert [cell.run_dir for cell in first] == [tmp_path / "here" / f"pretrain-seed{seed}" for seed in (0, 1)]
    assert [cell.run_dir.name for cell in second] == [f"{row}-equal-seed{seed}" for seed in (0, 1) for row in ("f_res", "f_res_clr")]
    assert [cell.settings.pretrained for cell in second] == [None, first[0].run_dir, None, first[1].run_dir]


@pytest.mark.slow
def test_runs_made_elsewhere_are_the_ones_that_the_command_looks_for(tiny, settings, tmp_path, monkeypatch):
    def here(cells, where):
        for cell in cells:
            made = {"pretrain": pretrain_command, "train": train_command}[cell.experiment]
            made(replace(cell.settings, run_dir=cell.run_dir))
        return GridOutcome(len(cells), 0, len(cells))

    monkeypatch.setattr(grids, "run_grid", here)
    monkeypatch.chdir(tmp_path)
    for where in (None, tmp_path / "here"):
        grids.in_processes(replace(settings, run_dir=where))
        root = where or tmp_path / "runs"
        before = {path: path.stat().st_mtime_ns for path in root.rglob("model.keras")}
        grids.grid_command(replace(settings, run_dir=where, parallel=1))
        assert len(before) == 3 and {path: path.stat().st_mtime_ns for path in root.rglob("model.keras")} == before
