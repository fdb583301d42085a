"""Tables and sheets from made-up runs: the printed rows, maps that look at no image, comparisons, and which figures are drawn."""

from pathlib import Path

import pandas as pd
import pytest

from common.runs.finished import finished_runs
from melanoma import tables
from melanoma.folds import pooled
from tests.melanoma.made import write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    rows = {"f_res": (False, False), "f_res_seg": (False, True), "f_res_clr": (True, False), "bio_u_net": (True, True)}
    for seed in (0, 1):
        for index, (row, (simclr, segmentation)) in enumerate(rows.items()):
            write_run(folder / f"{row}-{seed}", 0.1 * (index + 1) + 0.02 * seed, simclr=simclr, segmentation=segmentation, seed=seed)
        write_run(folder / f"cams-{seed}", 0.15, "cams", simclr=False, segmentation=False, seed=seed)
    for count in (2, 3):
        write_run(folder / f"repeats{count}", 0.3, repeats=count)
    write_run(folder / "two", 0.3, tasks="two")
    return folder


@pytest.fixture(scope="module")
def written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("tables")
    tables.write_all(folder, target)
    (found,) = target.iterdir()
    return found


def read(written: Path, name: str) -> pd.DataFrame:
    table = pd.read_csv(written / name / "table.csv")
    return table[table["kind"] == "row"].set_index(["block", "method"])


def test_table_3_beside_printed_numbers_of_another_problem(written: Path) -> None:
    whole = read(written, "table_3").loc["globules", "Bio-U-Net"]
    assert whole["ours"] == pytest.approx(0.43)  # of three images with the indicator, the seeds averaged
    assert (whole["seeds"], whole["printed"]) == (2, 0.1516)
    assert pd.isna(whole["difference"])
    assert "backbone" in whole["differs"] or "network" in whole["differs"]


def test_no_difference_is_taken_of_another_method(tmp_path: Path) -> None:
    """The very problem, but rows made like for like, and a split by lesion: the cell says what differs."""
    write_run(tmp_path / "run", 0.3, backbone="resnet50", image_size=512, head="l2", split="grouped", indicators=("globules",))
    tables.write_all(tmp_path, tmp_path / "tables")
    (table,) = (tmp_path / "tables").glob("*/table_3/table.csv")
    row = pd.read_csv(table).set_index(["block", "method"]).loc[("globules", "Bio-U-Net")]
    assert pd.isna(row["difference"])
    assert row["differs"] == "split grouped, not paper; head l2, not described"


def test_the_diagnosis_leads_with_auc(written: Path) -> None:
    table = pd.read_csv(written / "table_3_melanoma" / "table.csv")
    assert table["metric"].tolist()[:2] == ["auc", "balanced_accuracy"]
    assert len(table[table["kind"] == "comparison"]) == 12  # four rows, each with each, in both


def test_table_2_has_maps_that_look_at_no_image(written: Path) -> None:
    """Issue 20, fault 1."""
    table = read(written, "table_2")
    for name in ("whole image", "centred blob"):
        assert table.loc[("globules", name), "ours"] == pytest.approx(0.17)
    assert "looks at no image" in (text := (written / "table_2" / "report.md").read_text()) or "look at no image" in text


def test_tables_4_and_5_begin_with_f_res(written: Path) -> None:
    for number in (4, 5):
        assert read(written, f"table_{number}").loc[("globules", "f_Res"), "printed"] == 0.1421
    assert read(written, "table_5").loc[("globules", "two tasks"), "printed"] == 0.1416
    assert read(written, "table_5").loc[("globules", "one indicator"), "printed"] == 0.1516


def test_runs_of_other_settings_stand_in_another_folder(folder: Path, tmp_path: Path) -> None:
    runs = finished_runs(folder, "melanoma")
    assert len(tables.families(runs)) == 1
    write_run(tmp_path / "other", 0.3, learning_rate=0.5)
    assert len(tables.families([*runs, *finished_runs(tmp_path, "melanoma")])) == 2


def test_the_sheets_of_the_ablation_and_the_examples(written: Path) -> None:
    names = {path.stem for path in (written / "figures").iterdir()}
    assert names == {"figure_1", "figure_3", "figure_4", "figure_5", "figure_7", "examples_lesion"}


def test_folds_are_pooled_into_one_run_and_an_unfinished_cross_validation_is_left_out(tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    for row in ("f_res", "bio_u_net"):
        for fold in range(3):
            changes = {"simclr": False, "segmentation": row != "f_res", "split": "grouped", "folds": 3, "fold": fold}
            if (row, fold) != ("bio_u_net", 2):
                write_run(tmp_path / f"{row}-{fold}", 0.1 * (fold + 1), **changes)
    (whole,) = pooled(finished_runs(tmp_path, "melanoma"), tmp_path / "pooled")
    assert "of which 2 of 3 is not finished" in caplog.text
    predictions = whole.predictions()[0]
    assert len(predictions) == predictions["image"].nunique() == 12
    assert "fold" not in whole.recipe
    assert whole.recipe["folds"] == 3
    entry = whole.metrics()["localisation"]["gradcam"]["globules"]["t00"]
    assert (entry["n"], entry["n_all"]) == (9, 12)
    assert entry["dice"] == pytest.approx(0.22)  # 0.2 and the images' own 0.01 to 0.03
    assert whole.metrics()["melanoma_auc"] == pytest.approx(0.75)
    first = [path.read_text() for path in tables.write_all(tmp_path)]
    assert "| globules | f_Res |" in first[1]
    assert [path.read_text() for path in tables.write_all(tmp_path)] == first  # what was written before is no run
