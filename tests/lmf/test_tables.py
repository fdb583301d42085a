"""Tables, comparisons, ranks and figures from run folders whose predictions are made up, so that every number is known."""

import numpy as np
import pandas as pd
import pytest

from common.metrics.classification import holm
from common.runs.grid import GridCell, collect
from common.runs.outcome import write_metrics, write_predictions
from common.runs.reading import RunFolder
from lmf import figures, grids, tables
from lmf.options import SweepOptions

CLASSES = ("akiec", "nv")
N = 60


def made_up_run(path, right: np.ndarray, dataset="ham10000", **settings) -> None:
    """A run whose first `right` predictions of each class are right."""
    labels = np.array(["akiec"] * (N // 3) + ["nv"] * (N - N // 3))
    truth = (labels == "nv").astype(int)
    called = np.where(right, truth, 1 - truth)
    probabilities = np.where(np.eye(2)[called] > 0, 0.9, 0.1)
    rows = pd.DataFrame({"image": [f"{i:03d}.jpg" for i in range(N)], "label": labels})
    folder = RunFolder(path)
    settings = {"classes": CLASSES, "class_counts": [140, 280], "epochs": 12, **settings}
    top = {"study": "lmf", "experiment": "train", "dataset": dataset, "split": "paper", "seed": 0, "synthetic": False}
    folder.write_json("config.json", {**top, "machine": "test machine", "backend": "none", "settings": settings})
    write_predictions(path, rows, probabilities, CLASSES)
    counted = {"images_per_class": {"akiec": 60, "nv": 120}, "images_per_split": dict.fromkeys(("train", "validation", "test"), N)}
    write_metrics(path, 0, extra={"validation_macro_f1": float(right.mean()), "selected_epoch": 7, **counted})


def wrong_in(*places: int) -> np.ndarray:
    right = np.ones(N, bool)
    right[list(places)] = False
    return right


def cell(path, **labels) -> GridCell:
    return GridCell("lmf", "train", (), path, {"dataset": "ham10000", "backbone": "resnet50", "seed": 0, **labels})


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> pd.DataFrame:
    """On two data sets LMF is right more often than CCE, on the first clearly; focal has not been run on the second."""
    root = tmp_path_factory.mktemp("cells")
    runs = {
        ("ham10000", "cce"): wrong_in(*range(0, 40, 2)),
        ("ham10000", "lmf"): wrong_in(0),
        ("ham10000", "focal"): wrong_in(*range(0, 60, 5)),
        ("odir5k", "cce"): wrong_in(1, 2, 30),
        ("odir5k", "lmf"): wrong_in(1, 30),
    }
    found = []
    for (dataset, loss), right in runs.items():
        made_up_run(root / f"{dataset}-{loss}", right, dataset)
        found.append(cell(root / f"{dataset}-{loss}", dataset=dataset, loss=loss))
    return collect(found, grids.COLLECTED)


def test_split_table_stands_beside_table_1(cells):
    assert "| HAM-10K | 60 | 60 | 60 | 7011 | 1502 | 1502 |" in tables.splits(cells)


def test_scores_stand_beside_the_printed_ones(cells):
    text = tables.scores(cells, "resnet50")
    line = next(line for line in text.splitlines() if line.startswith("| HAM-10K, LMF, accuracy"))
    assert f"| {59 / 60:.4f} | 0.8935 | {59 / 60 - 0.8935:+.4f} |" in line and "Table 3" in line
    assert "No run" in tables.scores(cells, "densenet121")


def test_classwise_scores_have_the_training_counts(cells):
    text = tables.classwise(cells, "ham10000", "resnet50")
    assert "| AKIEC | 140 |" in text and "| NV | 280 |" in text
    assert "| class | train images | CCE | LMF | Focal |" in text


def test_better_is_only_said_when_the_interval_excludes_zero(cells):
    said = tables.conclusions([pair for pair in tables.pairs(cells) if pair.loss == "lmf"])
    assert len(said) == 3
    assert "LMF is better than CCE in macro F1" in said[0] and said[0].startswith("HAM-10K")
    assert "No difference in macro F1 is shown between LMF and CCE" in said[2] and said[2].startswith("ODIR-5K")


def test_comparison_table_counts_mcnemar(cells):
    text = tables.comparisons(tables.pairs(cells))
    assert "| HAM-10K | resnet50 | 0 | LMF - CCE |" in text and "corrected for all 4 pairs" in text
    assert tables.comparisons([]).startswith("Nothing to compare")


def test_every_two_losses_are_compared_and_holm_counts_them_all(cells):
    found = tables.pairs(cells)
    pairs = [(pair.dataset, pair.loss, pair.other) for pair in found]
    assert pairs == [("ham10000", "focal", "cce"), ("ham10000", "lmf", "cce"), ("ham10000", "lmf", "focal"), ("odir5k", "lmf", "cce")]
    plain = [pair.found.test.p_value for pair in found]
    assert [pair.p_holm for pair in found] == pytest.approx(holm(plain)) and plain[2] < found[2].p_holm
    table = tables.comparisons_table(found)
    assert list(table["method"]) == ["Focal", "LMF", "LMF", "LMF"] and list(table["baseline"]) == ["CCE", "CCE", "Focal", "CCE"]
    assert table["mcnemar_p_holm"].to_numpy() == pytest.approx(holm(plain))
    gap = found[1].found.macro_f1.value  # LMF - CCE: the row of CCE shows it with the other sign, bold
    line = next(line for line in tables.comparisons(found).splitlines() if line.startswith("| CCE |"))
    assert line.split(" | ")[3].startswith(f"**{-gap:+.4f}**")


def test_losses_are_compared_without_lmf_among_them(cells, tmp_path):
    others = cells[cells["loss"] != "lmf"]
    grids.write_tables(FakeRun(tmp_path), others)
    text = (tmp_path / "report.md").read_text()
    assert "## Losses against each other" in text and "Does LMF win?" not in text
    (row,) = pd.read_csv(tmp_path / "comparisons.csv").to_dict("records")
    assert (row["baseline"], row["method"], row["dataset"], row["mcnemar_p"]) == ("CCE", "Focal", "ham10000", row["mcnemar_p_holm"])


def test_several_seeds_need_all_intervals_on_one_side(cells, tmp_path):
    rows = []
    for seed, (cce, lmf) in enumerate([(wrong_in(*range(0, 40, 2)), wrong_in(0)), (wrong_in(0, 25), wrong_in(25))]):
        for loss, right in (("cce", cce), ("lmf", lmf)):
            made_up_run(tmp_path / f"{loss}{seed}", right)
            rows.append(cell(tmp_path / f"{loss}{seed}", loss=loss, seed=seed))
    said = tables.conclusions(tables.pairs(collect(rows, grids.COLLECTED)))
    assert len(said) == 1
    assert "interval above zero in 1" in said[0] and "**" not in tables.every_pair(tables.pairs(collect(rows, grids.COLLECTED)))
    assert "no difference in macro F1 between LMF and CCE is shown by all seeds" in said[0]
    assert "interval above zero in 1, below zero in 0" in said[0]


def test_ranks_use_the_data_sets_that_have_every_loss(cells):
    assert tables.ranks(cells) is None
    assert "at least two data sets" in tables.ranking(cells)
    both = cells[cells["loss"] != "focal"]
    losses, result, datasets = tables.ranks(both)
    assert dict(zip(losses, result.ranks, strict=True)) == {"cce": 2.0, "lmf": 1.0} and datasets == ["ham10000", "odir5k"]
    assert "No two losses are further apart than that" in tables.ranking(both)


def test_the_report_of_a_grid_names_what_is_missing(cells, tmp_path):
    missing = cells.iloc[[0]].assign(n=0, loss="bwcce", macro_f1=np.nan)
    grids.write_tables(FakeRun(tmp_path), pd.concat([cells, missing]))
    text = (tmp_path / "report.md").read_text()
    assert "5 of 6 runs" in text and "- ham10000 resnet50 bwcce 0" in text and "12 epochs (the paper: 100)" in text
    assert "## Table 3: resnet50" in text and "Synthetic" not in text
    assert (tmp_path / "figures" / "fig1.png").is_file() and (tmp_path / "figures" / "fig2.png").is_file()


class FakeRun:
    """What the writers of summaries need of a `Run`."""

    def __init__(self, path):
        self.path, self.settings = path, {"split": "paper", "reading": "described", "image_size": 112}
        folder = RunFolder(path)
        self.write_text, self.write_csv = folder.write_text, folder.write_table


def test_the_sweep_chooses_on_validation(tmp_path, monkeypatch):
    """Validation favours (1, 2); the test score favours (1, 0.5): the report must name (1, 2)."""
    options = SweepOptions(dataset="ham10000", data_dir=tmp_path, settings=("beta", "equal"), grid=(0.5, 1.0, 2.0))
    rows = []
    for alpha, beta in dict.fromkeys(pair for setting in options.settings for pair in options.pairs(setting)):
        right = wrong_in(*range(int(4 * (alpha + beta))))
        made_up_run(tmp_path / f"{alpha}-{beta}", right)
        folder = RunFolder(tmp_path / f"{alpha}-{beta}")
        folder.write_json(
            "metrics.json", {**folder.read_json("metrics.json"), "validation_macro_f1": 0.9 if (alpha, beta) == (1.0, 2.0) else 0.5}
        )
        rows.append(cell(tmp_path / f"{alpha}-{beta}", backbone="efficientnetv2s", loss="lmf", alpha=alpha, beta=beta))
    grids.write_sweep(FakeRun(tmp_path / "sweep"), collect(rows, grids.COLLECTED), options)
    text = (tmp_path / "sweep" / "report.md").read_text()
    assert "Best on validation: alpha 1, beta 2" in text and "Table 6 of the paper: alpha 1, beta 2" in text
    table = pd.read_csv(tmp_path / "sweep" / "sweep.csv")
    assert len(table) == 6 and (table["setting"] == "beta").sum() == 3
    assert (tmp_path / "sweep" / "figures" / "fig4.png").is_file()
    # Published without its runs the summary alone gives fig. 4; where they are there too it is not drawn twice.
    settings = {"dataset": "ham10000", "split": "paper", "reading": "described", "image_size": 64, "epochs": 3}
    RunFolder(tmp_path / "sweep").write_json("config.json", {"settings": settings})
    runs = collect(rows, grids.COLLECTED)
    ((title, again),) = grids.published_sweeps(tmp_path, runs.assign(macro_f1=0.1))
    assert title == "HAM-10K, split paper, reading described, image size 64, epochs 3, (sweep)"
    pd.testing.assert_frame_equal(again, table)
    assert grids.published_sweeps(tmp_path, runs) == []


def test_printed_means_need_every_backbone():
    assert figures.printed_mean("ham10000", "lmf", ["efficientnetv2s", "resnet50", "densenet121"]) == pytest.approx(0.8345)
    assert figures.printed_mean("ham10000", "lmf", ["efficientnetv2s", "mobilenetv2_035"]) is None
    assert figures.printed_mean("ham10000", "lmf", []) is None
    assert figures.title_of("sample-odir5k") == "ODIR-5K (sample)"
