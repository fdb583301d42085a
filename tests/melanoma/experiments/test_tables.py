"""Tables and sheets from made-up runs: the printed rows, n and intervals over seeds, and which figures are drawn."""

from pathlib import Path

import pandas as pd
import pytest

from melanoma.experiments import tables
from melanoma.experiments.found import find_runs
from tests.melanoma.experiments.made import write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


def read(folder: Path, number: int) -> pd.DataFrame:
    return pd.read_csv(folder / f"table_{number}.csv").set_index("name")


def test_table_3_says_n_interval_and_seeds_of_every_number(runs: Path, tmp_path: Path) -> None:
    tables.table_3(tmp_path, find_runs(runs))
    table = read(tmp_path, 3)
    whole = table.loc["Bio-U-Net · globules (n = 3, seeds 0 1)"]
    assert whole["ours"] == pytest.approx(0.41)
    assert (whole["seeds"], whole["printed"]) == (2, 0.1516)
    for metric, value in (("accuracy", 0.5), ("AUC", 0.75)):
        line = table.loc[f"Bio-U-Net · melanoma, {metric} (n = 4, seeds 0 1)"]
        assert (line["ours"], line["seeds"]) == (value, 2)
        assert line["low"] <= value <= line["high"]


def test_bio_u_net_is_paired_with_every_row_of_the_ablation(runs: Path, tmp_path: Path) -> None:
    tables.table_3(tmp_path, find_runs(runs))
    text = (tmp_path / "table_3.md").read_text()
    headings = [line.strip("*") for line in text.splitlines() if line.startswith("**")]
    assert headings == [
        "f_Res + f_Seg against f_Res", "f_Res + f_CLR against f_Res", "Bio-U-Net against f_Res", "Bio-U-Net against f_Res + f_Seg",
        "Bio-U-Net against f_Res + f_CLR",
    ]  # fmt: skip
    last = text.split("**Bio-U-Net against f_Res + f_CLR**")[1]
    assert "- globules (n = 3, seeds 0 1): Bio-U-Net is better than f_Res + f_CLR in continuous Dice (difference +0.1000" in last
    for metric in ("accuracy", "AUC"):  # the made-up runs all diagnose alike
        assert f"- melanoma, {metric} (n = 4, seeds 0 1): No difference in {metric} is shown" in last


def test_a_method_without_a_diagnosis_is_paired_by_its_maps_alone(runs: Path, tmp_path: Path) -> None:
    tables.table_2(tmp_path, find_runs(runs))
    text = (tmp_path / "table_2.md").read_text().split("**Bio-U-Net against Grad-CAM**")[1].split("**")[0]
    assert "globules" in text
    assert "AUC" not in text


def test_tables_4_and_5_begin_with_f_res(runs: Path, tmp_path: Path) -> None:
    found = find_runs(runs)
    tables.table_4(tmp_path, found)
    tables.table_5(tmp_path, found)
    for number in (4, 5):
        assert read(tmp_path, number).loc["f_Res · globules (n = 3, seeds 0 1)", "printed"] == 0.1421
    assert read(tmp_path, 5).loc["two tasks · globules (n = 3, seed 0)", "printed"] == 0.1416
    assert read(tmp_path, 5).loc["one indicator · globules (n = 3, seeds 0 1)", "printed"] == 0.1516
    tables.table_4(tmp_path / "without", [run for run in found if run.row != "f_res"])
    assert read(tmp_path / "without", 4).loc["f_Res · globules", "printed"] == 0.1421


def test_the_sheets_of_the_ablation_and_the_examples(runs: Path, tmp_path: Path) -> None:
    drawn = tables.sheets(tmp_path, find_runs(runs))
    names = ["figure_1", "figure_3", "figure_4", "figure_5", "figure_7", "examples_lesion"]
    assert [path.stem for path in drawn] == names
