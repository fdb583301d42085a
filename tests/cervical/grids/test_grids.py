"""Grid commands find the runs that single commands have made, train nothing twice, and write every table.

The runs are made up: predictions drawn by a program in complete run folders. That single commands use the same folders is tested in
tests/cervical/training/test_runs.py; cells are really trained in tests/cervical/grids/test_commands.py.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cervical.data import load, paper_split
from cervical.experiments.base import CellSource
from cervical.grids.cells import arguments
from cervical.grids.depth import depth_cells, run_freeze_depth
from cervical.grids.losses import loss_cells, run_compare_losses
from cervical.grids.tables import class_table, method_rows, run_tables, table_cells
from common.data.manifest import Dataset, class_names
from common.data.sample import ensure_sample
from common.errors import UsageError
from common.metrics.classification import holm
from common.metrics.outcome import write_metrics, write_predictions
from common.runs.grid import GridCell
from tests.cervical.conftest import settings_of

TINY = ("--limit", "50", "--image-size", "32")


def make_run(folder: Path, dataset: Dataset, experiment: str, labels: dict, seed: int) -> None:
    """A finished run as far as a grid looks at it."""
    folder.mkdir(parents=True)
    manifest, classes = paper_split(dataset.manifest), class_names(dataset.manifest)
    manifest.to_csv(folder / "manifest.csv", index=False)
    stage = {"epochs": 3, "learning_rate": 0.001}
    settings = {"copies": 1, "image_size": 32, "dropout": 0.5, "finetune": stage, "encoder": stage, "classifier": stage, "batch_size": 16}
    settings |= {"training": stage} if experiment != "contrastive" else {}
    settings |= {"loss": labels.get("loss", "npairs")} if experiment.startswith("contrastive") else {}
    settings |= {"costs": "printed"} if experiment == "cost-sensitive" else {}
    config = {"study": "cervical", "experiment": experiment, "dataset": "sample", "synthetic": True, "split": "paper", "seed": seed}
    config |= {"backend": "none", "machine": "none", "weights": "none", "backbone": labels.get("backbone"), "settings": settings}
    (folder / "config.json").write_text(json.dumps(config))
    pd.DataFrame({"stage": "encoder", "epoch": [1, 2, 3], "loss": [3.4, 3.0, 2.5]}).to_csv(folder / "history.csv", index=False)
    test = manifest[manifest["split"] == "test"]
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(len(classes)), len(test))
    write_predictions(folder, test, probabilities, classes)
    # Every mistake costs 2: the expected cost is then twice the share of wrong images, whoever made them.
    matrix = 2.0 * (1 - np.eye(len(classes))) if experiment == "cost-sensitive" else None
    write_metrics(folder, 0, matrix, extra={"validation_accuracy": 0.5 + 0.01 * seed, "trainable_parameters": 1000 * seed})
    (folder / "finished.json").write_text("{}")


def make_runs(cells: list[GridCell], dataset: Dataset) -> None:
    for index, cell in enumerate(cells):
        make_run(cell.run_dir, dataset, cell.experiment, dict(cell.labels), index)
        if "--control" in cell.arguments or cell.labels.get("loss") == "npairs":
            make_run(cell.run_dir / "control", dataset, "contrastive-control", dict(cell.labels), 100 + index)


@pytest.fixture
def home(tmp_path, monkeypatch, sample_cache):
    """An empty working folder in which no cell may be trained: its process would not start."""
    monkeypatch.chdir(tmp_path)

    def refuse(command, **_):
        raise AssertionError(f"a cell was run again: {command}")

    monkeypatch.setattr("common.runs.grid.subprocess", SimpleNamespace(run=refuse, PIPE=-1))
    return tmp_path


def given(command: str, cache: Path, *more):
    return settings_of(command, "--cache-dir", cache, *TINY, *more)


def limited(settings):
    return load(settings, 50)


def test_arguments_are_what_differs_from_the_defaults(tmp_path):
    words = ("--limit", "50", "--seed", "3", "--loss", "supcon", "--encoder.epochs", "1", "--control")
    found = arguments("contrastive", settings_of("contrastive", *words))
    assert found == ("--reading", "described", "--dataset", "sample", *words)
    corrected = settings_of("contrastive", "--reading", "corrected", "--dataset", "sipakmed", "--data-dir", tmp_path, "--no-control")
    assert settings_of("contrastive", *arguments("contrastive", corrected)) == corrected


def test_predictions_of_the_sample_name_their_slides(tmp_path, sample_cache):
    make_run(tmp_path / "run", load(CellSource(cache_dir=sample_cache)), "finetune", {}, 0)
    manifest, table = (pd.read_csv(tmp_path / "run" / name, dtype=str) for name in ("manifest.csv", "predictions.csv"))
    groups = table["image"].map(manifest.set_index("image")["group"])
    assert groups.duplicated().any() and table["group"].tolist() == groups.tolist()
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["resampled_groups"] == groups.nunique() > 1


def test_only_the_first_loss_brings_a_control_in_the_corrected_reading_too(sample_cache):
    grid = settings_of("compare-losses", "--cache-dir", sample_cache, "--reading", "corrected", "--losses", "npairs", "ntxent", "supcon")
    cells = loss_cells(grid, load(grid))
    assert ["--no-control" in cell.arguments for cell in cells] == [False, True, True]


def test_losses_asked_for_are_trained_in_the_coded_reading_too(sample_cache):
    words = ("--cache-dir", sample_cache, "--reading", "coded")
    grid = settings_of("compare-losses", *words, "--losses", "npairs", "ntxent", "triplet", "supcon")
    assert [cell.labels["loss"] for cell in loss_cells(grid, load(grid))] == ["npairs", "ntxent", "triplet", "supcon"]
    grid = settings_of("compare-losses", *words, "--seeds", "0", "1")
    assert [cell.labels["loss"] for cell in loss_cells(grid, load(grid))] == ["npairs"] * 2 + ["ntxent-coded"] * 2 + ["triplet-coded"] * 2


def test_tables_of_two_seeds(home, sample_cache):
    options = given("tables", sample_cache, "--backbones", "vgg16", "--seeds", "0", "1")
    dataset = limited(options)
    make_runs(table_cells(options, dataset), dataset)
    folder = run_tables(options)
    cells = pd.read_csv(folder / "cells.csv")
    assert len(cells) == 2 * 4 and (cells["n"] == 10).all()
    report = (folder / "report.md").read_text()
    for text in ("6 of 6 runs", "Synthetic data", "Table I, ", "Table II, ", "Table III, ", "99.14%", "HDFF", "4049", "18123", "1e-3"):
        assert text in report, text
    row = next(line for line in report.splitlines() if line.startswith("| vgg16 · described") and "Table III" in line)
    assert "0.9729" in row and "±" in row and "not comparable" in row
    assert "0.9791" in report  # the authors' unpublished control
    classes = pd.read_csv(folder / "per_class.csv")
    assert len(classes) == 8 * 5 * 3
    cell = classes.query("backbone == 'vgg16' and method == 'contrastive' and `class` == 'Koilocytotic' and score == 'recall'")
    assert set(cell["printed"]) == {0.94} and cell["difference"].isna().all()
    comparisons = pd.read_csv(folder / "comparisons.csv")
    pairs = set(zip(comparisons["baseline"], comparisons["method"], strict=True))
    assert {
        ("finetune", "contrastive"),
        ("finetune", "cost-sensitive"),
        ("control", "contrastive"),
    } <= pairs
    assert comparisons["mcnemar_p"].between(0, 1).all()
    # One family: the correction counts every row that is shown, and only those.
    assert comparisons["mcnemar_p_holm"].to_numpy() == pytest.approx(holm(comparisons["mcnemar_p"].to_numpy()))
    assert set(zip(comparisons["baseline"], comparisons["method"], strict=True)) <= {
        *(("finetune", name) for name in ("cost-sensitive", "contrastive", "control")),
        *(("control", name) for name in ("contrastive",)),
    }
    costs = [line.split(" | ") for line in report.split("## Expected cost")[1].splitlines() if line.startswith("| vgg16 | described")]
    wrong = comparisons.query("backbone == 'vgg16' and baseline == 'finetune' and method == 'cost-sensitive'").set_index("seed")
    assert [line[2] for line in costs] == ["0", "1"]
    for line in costs:
        assert float(line[5]) == pytest.approx(-2 * wrong.loc[int(line[2]), "difference"], abs=1e-4)
    assert "## Mean over the seeds" in report and "| vgg16 | described | contrastive | control | 2 |" in report
    settings = [line for line in report.split("## Table 6.1")[1].splitlines() if "| loss |" in line or "| batch size |" in line]
    assert "| finetune | loss | cross-entropy | Categorical Crossentropy |" in settings
    assert "| cost-sensitive | loss | weighted log loss (costs printed) | Categorical Crossentropy |" in settings
    assert "| contrastive | loss | npairs, then cross-entropy | Multiclass N-pairs Loss |" in settings
    assert "| control | loss | cross-entropy | – |" in settings and "| finetune | batch size | 16 | 32 (thesis 6.3) |" in settings
    assert "| finetune | activation | softmax | Softmax |" in report and "| finetune | optimizer | Adam | Adam |" in report
    names = {path.name for path in (folder / "figures").iterdir()}
    assert names == {f"accuracy_{name}.png" for name in ("finetune", "cost-sensitive", "contrastive", "control")}
    before = (folder / "report.md").stat().st_mtime_ns
    assert run_tables(options) == folder and (folder / "report.md").stat().st_mtime_ns == before


def test_no_printed_number_beside_costs_of_ones_own(home, sample_cache):
    options = given("tables", sample_cache, "--methods", "cost-sensitive", "--backbones", "vgg16")
    dataset = limited(options)
    (cell,) = table_cells(options, dataset)
    make_runs([cell], dataset)
    assert method_rows("cost-sensitive", [cell])[0].printed is not None and class_table(cell)["printed"].notna().all()
    config = json.loads((cell.run_dir / "config.json").read_text())
    config["settings"]["costs"] = "my_matrix.csv"
    (cell.run_dir / "config.json").write_text(json.dumps(config))
    assert method_rows("cost-sensitive", [cell])[0].printed is None and class_table(cell)["printed"].isna().all()


def test_a_failed_cell_leaves_a_hole_and_the_exit_code(home, sample_cache, monkeypatch):
    options = given("tables", sample_cache, "--methods", "finetune", "cost-sensitive")
    dataset = limited(options)
    make_runs(table_cells(options, dataset)[:1], dataset)

    ended = SimpleNamespace(returncode=2, stderr="--weights imagenet: the download failed\n")
    monkeypatch.setattr("common.runs.grid.subprocess", SimpleNamespace(run=lambda *_, **__: ended, PIPE=-1))
    with pytest.raises(Exception, match="download failed"):
        run_tables(options)
    folder = next((home / "runs" / "cervical" / "tables").iterdir())
    assert "1 of 2 runs" in (folder / "report.md").read_text()
    assert not (folder / "finished.json").exists()


def test_losses_and_their_curves(home, sample_cache):
    options = given("compare-losses", sample_cache, "--backbones", "mobilenetv2", "--losses", "npairs", "ntxent-coded", "--seeds", "0", "1")
    dataset = limited(options)
    make_runs(loss_cells(options, dataset), dataset)
    folder = run_compare_losses(options)
    report = (folder / "report.md").read_text()
    assert "control (cross-entropy)" in report and "3.1922 → 2.0919" in report and "9.1193 → 3.4333" in report
    assert "0.443" in report  # the authors' classifier on their broken NT-Xent
    names = {path.name for path in (folder / "figures").iterdir()}
    assert names == {"loss_mobilenetv2_npairs.png", "loss_mobilenetv2_ntxent-coded.png", "accuracy.png"}
    comparisons = pd.read_csv(folder / "comparisons.csv")
    assert set(comparisons["baseline"]) == {"npairs"} and len(comparisons) == 4


def test_depths_are_chosen_on_validation_images(home, sample_cache):
    options = given("freeze-depth", sample_cache, "--depths", "0", "50", "100")
    dataset = limited(options)
    make_runs(depth_cells(options, dataset), dataset)
    folder = run_freeze_depth(options)
    report = (folder / "report.md").read_text()
    assert "Best on validation images: 100 frozen layers (0.5200)" in report and "random weights" in report
    assert (folder / "figures" / "depth_mobilenetv2_035.png").is_file()


def test_the_whole_study_is_fifteen_runs_and_five_controls(tmp_path, sample_cache):
    folder = ensure_sample("sipakmed", sample_cache)
    options = settings_of("tables", "--dataset", "sipakmed", "--data-dir", folder, "--cache-dir", tmp_path)
    cells = table_cells(options, load(options))
    assert len(cells) == 15 and len({cell.run_dir for cell in cells}) == 15
    assert sum("--control" in cell.arguments for cell in cells) == 5
    assert {cell.labels["backbone"] for cell in cells} == {"vgg16", "vgg19", "resnet50", "densenet169", "mobilenetv2"}


def test_tables_hand_every_option_to_the_methods_that_know_it(sample_cache):
    words = ("--finetune.freeze", "7", "--finetune.views", "--cost-sensitive.costs", "balanced", "--contrastive.head-input", "projection")
    options = settings_of("tables", "--cache-dir", sample_cache, *words, "--epochs", "2")
    found = {cell.experiment: " ".join(cell.arguments) for cell in table_cells(options, load(options))}
    assert "--freeze 7 --views" in found["finetune"] and "--costs" not in found["finetune"]
    assert "--costs balanced" in found["cost-sensitive"] and "--views" not in found["cost-sensitive"]
    assert "--head-input projection" in found["contrastive"] and "--encoder.epochs 2 --classifier.epochs 2" in found["contrastive"]


def test_depths_that_freeze_the_same_are_refused(sample_cache):
    words = ("--backbones", "vgg16", "--finetune.body", "truncated", "--depths", "13", "14", "19")
    options = given("freeze-depth", sample_cache, *words)
    with pytest.raises(UsageError, match="--depths 14 19: they freeze the same weights of this VGG16"):
        depth_cells(options, limited(options))
