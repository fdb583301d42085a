import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, recall_score

from common.report.grid_tables import (
    compare_means,
    compare_methods,
    comparisons_frame,
    comparisons_text,
    means_text,
    pooled_difference,
    seed_rows,
    shared_interval,
    write_tables,
)
from common.report.markup import Printed
from common.runs.grid import GridCell
from common.runs.outcome import read_predictions


@pytest.fixture(scope="module")
def cells(tmp_path_factory, make_run):
    """Two losses, three seeds on the same test images, the second clearly better; one cell of a third loss never ran."""
    root = tmp_path_factory.mktemp("grid")
    found = []
    for loss, skill in (("cce", 1.0), ("lmf", 3.0)):
        for seed in range(3):
            path = make_run(root / f"{loss}{seed}", skill, 150, seed + 10 * len(loss) + int(skill))
            found.append(GridCell("lmf", "train", (), path, {"loss": loss, "seed": seed}))
    return [*found, GridCell("lmf", "train", (), root / "focal0", {"loss": "focal", "seed": 0})]


def accuracy(cell):
    return json.loads((cell.run_dir / "metrics.json").read_text())["accuracy"]


def test_rows_are_mean_and_deviation_over_seeds_beside_the_printed(cells):
    first, second, hole = seed_rows(cells, ["loss"], printed={("lmf",): Printed(0.85, "Table 2")}, resamples=200)
    values = [accuracy(cell) for cell in cells[3:6]]
    assert (second.name, second.seeds) == ("lmf", 3)
    assert second.measured == pytest.approx(np.mean(values)) and second.deviation == pytest.approx(np.std(values, ddof=1))
    assert second.interval[0] < second.measured < second.interval[1]
    assert second.difference == pytest.approx(np.mean(values) - 0.85)
    assert first.printed is None and (hole.measured, hole.seeds) == (None, 0)


def test_one_seed_keeps_its_own_interval(cells):
    (row,) = seed_rows(cells[:1], ["loss"], "macro_f1")
    assert row.interval == json.loads((cells[0].run_dir / "metrics.json").read_text())["macro_f1_interval"]
    assert row.deviation is None


def test_shared_interval_equals_a_loop(cells):
    tables = [read_predictions(cell.run_dir)[0] for cell in cells[:3]]
    right = np.stack([(table["label"] == table["predicted"]).to_numpy() for table in tables])
    draws = np.random.default_rng(0).integers(0, 150, size=(300, 150), dtype=np.int32)
    expected = np.quantile([right[:, row].mean() for row in draws], [0.025, 0.975])
    # read_predictions keeps the written order; the interval sorts by image, so only the distribution is the same.
    assert shared_interval(cells[:3], "accuracy", 300) == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize("metric", ["macro_f1", "per_class.Parabasal.recall"])
def test_shared_intervals_of_other_scores_hold_the_mean(cells, metric):
    (row,) = seed_rows(cells[:3], ["loss"], metric, resamples=200)
    assert row.interval[0] < row.measured < row.interval[1]


def test_no_interval_is_made_up(cells, tmp_path, make_run):
    other = GridCell("lmf", "train", (), make_run(tmp_path / "other", n=90), {"loss": "cce", "seed": 7})
    table = pd.read_csv(other.run_dir / "predictions.csv", dtype=str)
    table.loc[0, "label"] = next(name for name in sorted(set(table["label"])) if name != table.loc[0, "label"])
    table.to_csv(other.run_dir / "predictions.csv", index=False)
    assert shared_interval([cells[0], other], "accuracy") is None  # one image, two labels
    assert shared_interval(cells[:3], "ece") is None


def test_methods_are_compared_seed_by_seed_on_the_same_images(cells):
    found = compare_methods(cells, "loss", "cce")
    assert [(key, name) for key, name, _ in found] == [((0,), "lmf"), ((1,), "lmf"), ((2,), "lmf")]
    frame = comparisons_frame(found, ["seed"])
    assert frame["difference"].tolist() == pytest.approx([accuracy(cells[3 + seed]) - accuracy(cells[seed]) for seed in range(3)])
    assert (frame["mcnemar_p_holm"] >= frame["mcnemar_p"]).all()
    text = comparisons_text(frame, ["seed"])
    assert text.count("| better |") == 3 and "worse" not in text


def test_nothing_to_compare_says_so(cells):
    assert "No two finished cells" in comparisons_text(comparisons_frame(compare_methods(cells[:1], "loss", "cce"), ["seed"]), ["seed"])


def test_the_pooled_difference_is_that_of_the_means(cells):
    found = pooled_difference(cells[:3], cells[3:6])
    assert found.value == pytest.approx(np.mean([accuracy(cell) for cell in cells[3:6]]) - np.mean([accuracy(cell) for cell in cells[:3]]))
    assert found.excludes_zero
    assert pooled_difference(cells[:3], cells[6:]) is None


def test_means_are_compared_over_the_seeds_both_have(cells):
    (found,) = compare_means(cells[1:], "loss", "cce", [])  # cce has seeds 1 and 2, lmf 0 to 2, focal none
    assert (found.method, found.baseline, found.seeds) == ("lmf", "cce", 2)
    assert found.difference == pooled_difference(cells[1:3], cells[4:6])
    assert "| lmf | cce | 2 | images |" in means_text([found], []) and "| better |" in means_text([found], [])
    assert compare_means([cells[0], *cells[3:6]], "loss", "cce", []) == []  # one seed in common: nothing to average


def test_tables_are_written_as_markdown_and_csv(cells, tmp_path):
    rows = seed_rows(cells, ["loss"], printed={("lmf",): Printed(0.85, "Table 2")}, resamples=50)
    text = write_tables(tmp_path, "table_2", "Table 2: accuracy", rows, "A last word.\n").read_text()
    assert text.startswith("# Table 2: accuracy\n") and "1 of 3" in text and text.endswith("A last word.\n")
    frame = pd.read_csv(tmp_path / "table_2.csv")
    assert frame["ours"][1] == pytest.approx(rows[1].measured) and np.isnan(frame["ours"][2])
    assert frame["printed"][1] == 0.85


@pytest.fixture(scope="module")
def slides(tmp_path_factory, make_run):
    """Two losses with two seeds each on 150 shared test images of 30 slides."""
    root = tmp_path_factory.mktemp("slides")
    found = []
    for loss, skill in (("cce", 1.0), ("lmf", 2.0)):
        for seed in range(2):
            path = make_run(root / f"{loss}{seed}", skill, 150, seed + int(10 * skill), per_group=5)
            found.append(GridCell("lmf", "train", (), path, {"loss": loss, "seed": seed}))
    return found


def right_by_slide(cells):
    """`(30, 5)` share of the cells that get each image of a slide right."""
    tables = [read_predictions(cell.run_dir)[0].sort_values("group", kind="stable") for cell in cells]
    return np.mean([table["label"] == table["predicted"] for table in tables], axis=0).reshape(30, 5)


def test_intervals_over_seeds_resample_slides(slides):
    draws = np.random.default_rng(0).integers(0, 30, size=(300, 30), dtype=np.int32)
    one, two = right_by_slide(slides[:2]), right_by_slide(slides[2:])
    expected = np.quantile([one[row].mean() for row in draws], [0.025, 0.975])
    assert shared_interval(slides[:2], "accuracy", 300) == pytest.approx(expected)
    draws = np.random.default_rng(0).integers(0, 30, size=(2000, 30), dtype=np.int32)
    expected = np.quantile([two[row].mean() - one[row].mean() for row in draws], [0.025, 0.975])
    pooled = pooled_difference(slides[:2], slides[2:])
    assert (pooled.low, pooled.high) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("metric", ["macro_f1", "macro_recall", "per_class.Parabasal.f1"])
def test_other_scores_over_seeds_resample_slides(slides, metric):
    tables = [read_predictions(cell.run_dir)[0] for cell in slides[:2]]
    names, score = sorted(set(tables[0]["group"])), metric.rpartition(".")[2].rpartition("_")[2]
    draws = []
    for row in np.random.default_rng(0).integers(0, 30, size=(60, 30), dtype=np.int32):
        parts = [pd.concat([table[table["group"] == names[number]] for number in row]) for table in tables]
        function = f1_score if score == "f1" else recall_score
        options = {"average": "macro"} if metric.startswith("macro") else {"average": "macro", "labels": ["Parabasal"]}
        draws.append(np.mean([function(part["label"], part["predicted"], **options) for part in parts]))
    assert shared_interval(slides[:2], metric, 60) == pytest.approx(np.quantile(draws, [0.025, 0.975]))


@pytest.fixture(scope="module")
def apart(tmp_path_factory, make_run):
    """Two losses with two seeds each; each seed has test images of its own, some in both: 20 slides of 3, slides 5 to 14 shared."""
    root, rng = tmp_path_factory.mktemp("apart"), np.random.default_rng(3)
    images = [(f"s{slide:02d}_{cell}", "ab"[int(rng.random() < 0.4)], f"s{slide:02d}") for slide in range(20) for cell in range(3)]
    found = []
    for loss, skill in (("cce", 0.6), ("lmf", 0.8)):
        for seed, slides in ((0, range(0, 15)), (1, range(5, 20))):
            rows = [
                (image, label, group, label if rng.random() < skill else "ab"[label == "a"]) for image, label, group in images
                if int(group[1:]) in slides
            ]  # fmt: skip
            table = pd.DataFrame(rows, columns=["image", "label", "group", "predicted"])
            for name in "ab":
                table[f"prob_{name}"] = (table["predicted"] == name).astype(float)
            path = root / f"{loss}{seed}"
            path.mkdir()
            table.to_csv(path / "predictions.csv", index=False)
            (path / "metrics.json").write_text(json.dumps({"accuracy": float((table["label"] == table["predicted"]).mean())}))
            found.append(GridCell("lmf", "train", (), path, {"loss": loss, "seed": seed}))
    return found


def test_seeds_with_test_images_of_their_own_resample_all_slides_together(apart):
    tables = [pd.read_csv(cell.run_dir / "predictions.csv") for cell in apart]
    slides = sorted({group for table in tables for group in table["group"]})

    right = [[(table["label"] == table["predicted"])[table["group"] == slide].to_numpy() for slide in slides] for table in tables]

    def drawn(resamples):
        rows = np.random.default_rng(0).integers(0, len(slides), size=(resamples, len(slides)), dtype=np.int32)
        return np.array([[np.concatenate([each[number] for number in row]).mean() for each in right] for row in rows])

    scores = drawn(300)
    assert shared_interval(apart[:4], "accuracy", 300) == pytest.approx(np.quantile(scores.mean(axis=1), [0.025, 0.975]))
    scores = drawn(2000)
    difference = scores[:, 2:].mean(axis=1) - scores[:, :2].mean(axis=1)
    found = pooled_difference(apart[:2], apart[2:])
    assert found.value == pytest.approx(np.mean([accuracy(cell) for cell in apart[2:]]) - np.mean([accuracy(cell) for cell in apart[:2]]))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(difference, [0.025, 0.975])))
    (mean,) = compare_means(apart, "loss", "cce", [])
    assert (mean.seeds, mean.groups, mean.difference) == (2, 20, found)
    assert pooled_difference(apart[:2], apart[3:1:-1]) is None  # seed 0 against seed 1: other images


def test_tables_say_what_is_resampled(slides, cells):
    for found, said in ((slides, "| 30 groups |"), (cells, "| images |")):
        text = comparisons_text(comparisons_frame(compare_methods(found, "loss", "cce"), ["seed"]), ["seed"])
        assert said in text and said in means_text(compare_means(found, "loss", "cce", []), [])
