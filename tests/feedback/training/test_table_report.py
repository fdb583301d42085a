"""Tables 5.1 to 5.4 from run folders written by hand: the numbers are known, and nothing is trained."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.runs import Run
from common.runs.grid import GridCell
from feedback import reporting
from feedback.config import TablesOptions
from feedback.training import table_report
from feedback.training.tables import cells_of

# Four test images a seed; b and c are in both seeds' test sets.
IMAGES = {0: ["a", "b", "c", "d"], 1: ["b", "c", "e", "f"]}


def _summary(right: list[bool], jaccard: list[float]) -> dict:
    return {
        "accuracy": float(np.mean(right)), "accuracy_interval": [0.0, 1.0], "average_sensitivity": 0.6,
        "sensitivity": {"MEL": 0.4, "NV": 0.8},
        "jaccard": {"mean": float(np.mean(jaccard)), "deviation": float(np.std(jaccard)), "interval": [0.0, 1.0], "n": len(jaccard)},
    }  # fmt: skip


def _cell(folder: Path, balance: str, objective: str, kind: str, seed: int, right: list[bool], jaccard: list[float]) -> GridCell:
    """A finished run whose test images are all NV; before tuning half are right and every Jaccard index is 0.1."""
    path = folder / f"{balance}-{objective}-{kind}-seed{seed}"
    path.mkdir(parents=True)
    settings = {
        "dataset": "isic2018", "backbone": "vgg16", "image_size": 24, "base_dataset": "isic2019", "split": "paper", "reading": "described",
        "layer": "conv2", "gradients": kind, "batch_size": 8, "masks": ["mask_streaks"],
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps({"dataset": "isic2018", "settings": settings}))
    before = [True, True, False, False]
    metrics = {
        "synthetic": False, "before": _summary(before, [0.1] * 4), "after": _summary(right, jaccard), "minutes_per_epoch": 1.0 + seed,
        "minutes_per_slice": 2.0, "ellipse": {"mean": 0.5, "interval": [0.4, 0.6]}, "training_images": {"MEL": 5, "NV": 5}, "left_out": {},
        "baseline_whole_set": _summary(before, [0.1] * 4), "seen_by_base": {"train": 0, "validation": 0, "test": 0},
        "overlap": {name: {"images": 4, "same_id": 0, "renamed": 4} for name in ("train", "validation", "test")},
    }  # fmt: skip
    (path / "metrics.json").write_text(json.dumps(metrics))
    (path / "finished.json").write_text("{}")
    names = np.array(["MEL", "NV"])
    pd.DataFrame({
        "image": IMAGES[seed], "label": "NV", "predicted_before": names[np.array(before, int)],
        "predicted_after": names[np.array(right, int)],
        "jaccard_before": 0.1, "jaccard_after": jaccard,
    }).to_csv(path / "jaccard.csv", index=False)  # fmt: skip
    history = {"epoch": [1, 2], **{f"{a}{b}": [0.1, 0.2] for a in ("", "val_") for b in ("loss", "accuracy", "jaccard")}}
    pd.DataFrame(history).to_csv(path / "history.csv", index=False)
    slices = {"slice": [-1, 0, 1], "accuracy": [0.5, 0.6, 0.7], "accuracy_low": 0.3, "accuracy_high": 0.8, "average_sensitivity": 0.5,
              "jaccard": [0.1, 0.2, 0.3 + seed / 10], "jaccard_low": 0.15, "jaccard_high": 0.25, "jaccard_deviation": 0.05}  # fmt: skip
    pd.DataFrame(slices).to_csv(path / "slices.csv", index=False)
    labels = {"balance": balance, "objective": objective, "gradients": kind, "seed": seed}
    return GridCell("feedback", "simulate", (), path, labels)


@pytest.fixture
def cells(tmp_path) -> list[GridCell]:
    return [
        _cell(tmp_path, "none", "combined", "constant", 0, [True, True, True, False], [0.2, 0.3, 0.3, 0.4]),
        _cell(tmp_path, "none", "combined", "constant", 1, [True, True, True, True], [0.4, 0.4, 0.4, 0.4]),
        _cell(tmp_path, "none", "combined", "differentiated", 0, [True, True, False, False], [0.3, 0.4, 0.4, 0.5]),
        _cell(tmp_path, "none", "combined", "differentiated", 1, [True, True, True, True], [0.4, 0.4, 0.4, 0.4]),
    ]


def _line(table: str, start: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_balance_table_holds_means_over_seeds_with_intervals_beside_the_printed_cells(cells):
    table = table_report.balance_table(cells, "none", synthetic=False)
    # Accuracies 0.75 and 1.0: mean 0.875, deviation 0.1768; Table 5.1, combined loss: 0.70.
    name, ours, printed, difference, interval, _, seeds, source = _line(table, "combined: accuracy")
    assert (ours, printed, difference, seeds) == ("0.8750 ± 0.1768", "0.7000", "+0.1750", "2") and source == "thesis, Table 5.1"
    low, high = json.loads(interval)
    assert 0.4 < low < 0.875 < high <= 1.0
    assert _line(table, "combined: average Jaccard index")[1:3] == ["0.3500 ± 0.0707", "0.4730"]
    assert _line(table, "combined, differentiated: accuracy")[1] == "0.7500 ± 0.3536"
    # The untuned row: Jaccard index 0.1 for every image, so its interval has no width.
    assert _line(table, "untuned: average Jaccard index")[1:5] == ["0.1000 ± 0.0000", "0.1000", "+0.0000", "[0.1000, 0.1000]"]
    # The thesis has no such objective: its weights are constants.
    assert _line(table, "combined, differentiated: accuracy")[2] == "–"
    assert "A centred ellipse of each mask's own area reaches 0.5000 [0.4000, 0.6000]" in table


def test_a_run_unlike_the_thesiss_names_the_difference_and_takes_none(cells):
    def changed(**values):
        path = cells[0].run_dir / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps(config | {"settings": config["settings"] | values, "dataset": values.get("dataset", "isic2018")}))
        return _line(table_report.balance_table(cells[:1], "none", synthetic=False), "combined: accuracy")

    line = changed(backbone="mobilenetv2_035", base_dataset="ham10000", masks=["mask_lesion"])
    assert line[2:4] == ["0.7000", "not comparable"] and line[5] == "–"
    assert line[-1] == "thesis, Table 5.1 (VGG16; base of ISIC 2019; attribute masks)"
    assert changed(dataset="ham10000")[2] == "–" and changed(limit=100)[2] == "–" and changed(feedback="wrong")[2] == "–"


def test_a_change_table_holds_after_minus_before(cells):
    table = table_report.change_table(cells[:2])
    # Accuracy: 7 of 8 right after, 4 of 8 before; Jaccard index 0.35 after, 0.1 before.
    assert "| combined | accuracy | +0.3750 |" in table and "| combined | average Jaccard index | +0.2500 |" in table
    assert table.count("| 8 |") == 2


def test_an_image_of_two_test_sets_is_one_draw(cells):
    images = table_report._images(cells[:2])
    assert len(images) == 8 and images["image"].nunique() == 6
    alone = images.assign(image=[str(row) for row in range(8)])
    # b and c, right in both seeds, count twice in the mean whether they are drawn as one or not; the interval differs.
    widths = [np.diff(table_report._interval(table, "jaccard_after"))[0] for table in (images, alone)]
    assert widths[0] != widths[1] and all(width > 0 for width in widths)
    assert table_report._interval(images.assign(jaccard_after=np.nan), "jaccard_after") is None


def test_constant_and_differentiated_weights_are_compared_on_the_same_images(cells):
    table = table_report.gradients_table(cells)
    assert "| combined | accuracy | 0.8750 | 0.7500 | -0.1250 |" in table
    assert "| combined | average Jaccard index | 0.3500 | 0.4000 | +0.0500 |" in table
    assert table_report.gradients_table(cells[:2]) == ""


def _with_areas(cell: GridCell, per_image: bool, before: float, after: float) -> None:
    """Measured on two images; the random map has deletion 0.5 before and 0.99 after, insertion 0.5."""
    path = cell.run_dir / "metrics.json"
    areas = {"deletion": before, "insertion": 0.6, "random_deletion": 0.5, "random_insertion": 0.5, "pointing": 0.5}
    sides = {"before": areas, "after": {**areas, "deletion": after, "random_deletion": 0.99}}
    means = {when: {"images": 2, **values} for when, values in sides.items()}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"faithfulness": means}))
    if per_image:
        columns = {f"{name}_{when}": value for when, values in sides.items() for name, value in values.items()}
        table = pd.DataFrame({"image": IMAGES[int(cell.labels["seed"])][:2]}).assign(**columns)
        table["deletion_after"] += [-0.1, 0.1]
        table.to_csv(cell.run_dir / "faithfulness.csv", index=False)


def test_faithfulness_before_and_after_with_paired_intervals_and_the_random_map(cells):
    assert table_report.faithfulness_table(cells) == ""
    for cell, after in zip(cells[:2], (0.8, 0.9), strict=True):
        _with_areas(cell, True, 0.4, after)
    table = table_report.faithfulness_table(cells)
    lines = {line.split(" | ")[1]: line.split(" | ")[2:] for line in table.splitlines() if line.startswith("| combined |")}
    # Deletion 0.4 on all four images before; 0.7, 0.9, 0.8, 1.0 after. b is in both seeds.
    assert lines["deletion, map"][:3] == ["0.4000", "0.8500", "+0.4500"]
    low, high = json.loads(lines["deletion, map"][3])
    assert 0.3 <= low < 0.45 < high <= 0.6
    before, after, change, *_ = lines["deletion, map − random"]
    assert before == "-0.1000 [-0.1000, -0.1000]" and after.startswith("-0.1400 [") and change == "-0.0400"
    (stays,) = [cells for title, cells in lines.items() if title.startswith("images whose answer stays")]
    assert stays[:3] == ["0.0000", "1.0000", "+1.0000"] and stays[-1].startswith("4 ")


def test_runs_that_kept_the_means_of_faithfulness_only(cells):
    _with_areas(cells[0], False, 0.4, 0.8)
    alone = table_report.faithfulness_table(cells)
    assert "| combined | deletion, map − random | -0.1000 | -0.1900 | -0.0900 | – | 2 |" in alone
    assert "1 of these runs kept the means only" in alone
    # Beside a seed whose images are known, the means do not count.
    _with_areas(cells[1], True, 0.4, 0.9)
    table = table_report.faithfulness_table(cells)
    assert "| combined | deletion, map | 0.4000 | 0.9000 | +0.5000 | [0.4000, 0.6000] | 2 |" in table and "1 of these runs" in table
    section = reporting.faithfulness_section(json.loads((cells[0].run_dir / "metrics.json").read_text())["faithfulness"])
    assert "means only" in section and "| deletion, map − random | -0.1000 | -0.1900 | -0.0900 | – |" in section


def test_slices_have_seeds_deviation_and_interval(cells):
    table = table_report.slices_table(cells[:2], synthetic=False)
    title = "combined, last slice: average Jaccard index"
    ours, printed, _, interval, _, seeds, _ = _line(table, title)[1:]
    assert (ours, printed, seeds) == ("0.3500 ± 0.0707", "0.1400", "2") and interval.startswith("[")
    one = table_report.slices_table(cells[:1], synthetic=False)
    assert _line(one, "combined, first slice: average Jaccard index")[1:5] == ["0.2000", "0.1200", "+0.0800", "[0.1500, 0.2500]"]


def test_the_baseline_rows(cells, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    sensitivity = {"MEL": 0.3, "NV": 0.5, "BKL": 0.4, "average": 0.4}
    scores = {"accuracy": 0.6, "intervals": {"accuracy": [0.5, 0.7]}, "sensitivity": sensitivity}
    (base / "config.json").write_text(json.dumps({"dataset": "isic2019", "settings": {"backbone": "vgg16"}}))
    (base / "metrics.json").write_text(json.dumps(scores))
    table = table_report.base_table(cells[0], base, synthetic=False)
    assert _line(table, "isic2019 test: accuracy")[1:5] == ["0.6000", "0.7100", "-0.1100", "[0.5000, 0.7000]"]
    # Facts, section 4.2, row 18: the two averages are over other classes.
    line = _line(table, "isic2019 test: average sensitivity over 3 classes")
    assert line[1:3] == ["0.4000", "0.7100"] and line[-1] == "thesis, Table 5.3, row 1, over 8 classes"
    line = _line(table, "whole simulation set: average sensitivity over 2 classes")
    assert line[-1] == "thesis, Table 5.3, row 2, over 3 classes"
    (base / "config.json").write_text(json.dumps({"dataset": "ham10000", "settings": {"backbone": "vgg16"}}))
    other = table_report.base_table(cells[0], base, synthetic=False)
    assert _line(other, "ham10000 test: accuracy")[2:4] == ["–", "–"]
    assert _line(table, "whole simulation set: accuracy")[1:3] == ["0.5000", "0.7300"]
    assert _line(table, "whole simulation set: average Jaccard index")[1:3] == ["0.1000", "0.1000"]


def test_minutes_stand_beside_the_thesis(cells, tmp_path):
    sliced = _cell(tmp_path, "slices", "classification", "constant", 0, [True] * 4, [0.1] * 4)
    table = table_report.minutes_table([*cells[:2], sliced])
    assert _line(table, "none, combined") == ["none, combined", "epoch", "10", "1.50 ± 0.71", "2", "500 to 600 (262 to 554 over all)"]
    assert _line(table, "slices, classification")[1:] == ["slice", "10", "2.00", "1", "13 to 42"]


def test_the_whole_report(cells, tmp_path):
    run = Run.open("feedback", "tables", {}, run_dir=tmp_path / "tables")
    sliced = _cell(tmp_path, "slices", "combined", "constant", 0, [True] * 4, [0.1] * 4)
    unfinished = GridCell("feedback", "simulate", (), tmp_path / "missing", {"balance": "none", "objective": "explanation", "seed": 0})
    table_report.write_tables(run, [*cells, sliced, unfinished], tmp_path / "nowhere")
    text = (run.path / "report.md").read_text()
    for words in ("5 of 6 runs", "## The untuned model", "## Table 5.1", "## Table 5.4", "constant (the thesis) against differentiated",
                  "## Time (section 5.10)", "## Not run\n\n- feedback simulate balance=none objective=explanation"):  # fmt: skip
        assert words in text
    assert len(pd.read_csv(run.path / "cells.csv")) == 5
    assert (run.path / "figures" / "slices.png").is_file() and (run.path / "figures" / "curves_none.png").is_file()


def test_both_kinds_of_weights_are_an_axis_of_the_grid(small_base):
    options = TablesOptions(base=small_base, balances=("none",), gradients=("constant", "differentiated"), seeds=(0, 1), slices=3)
    cells = cells_of(options, small_base, Path("cells"))
    kinds = [
        (cell.labels["objective"], cell.labels["gradients"]) for cell in cells if cell.labels["seed"] == 0 and cell.experiment == "simulate"
    ]
    # Without the map in its loss the classification objective has nothing to compare.
    assert kinds == [
        ("classification", "constant"), ("explanation", "constant"), ("explanation", "differentiated"),
        ("combined", "constant"), ("combined", "differentiated"),
    ]  # fmt: skip
    differentiated = next(cell for cell in cells if cell.labels["gradients"] == "differentiated")
    assert differentiated.arguments[differentiated.arguments.index("--gradients") + 1] == "differentiated"
    plain = cells_of(TablesOptions(base=small_base, balances=("none",)), small_base, Path("cells"))
    assert [cell.labels["gradients"] for cell in plain] == ["constant"] * 3 and all("--gradients" not in cell.arguments for cell in plain)
    assert len({cell.run_dir for cell in cells}) == len(cells)
