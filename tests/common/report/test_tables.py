"""A study's table from run folders, and the same table again from what it published."""

import json
import lzma
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from common.commands.report import ReportOptions
from common.errors import UsageError
from common.report.markup import Printed
from common.report.report import report_command
from common.report.tables import TableRow, write_table
from common.runs.finished import by_recipe, finished_runs, select

DOCUMENT = {"dataset": "sipakmed", "backbone": "vgg16", "image_size": 224, "limit": None, "classes": 5}
PRINTED = {"accuracy": Printed(0.9, "paper, Table I")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, make_run):
    """Three seeds of a weak loss and of a strong one."""
    folder = tmp_path_factory.mktemp("runs")
    for loss, skill in (("ce", 0.5), ("lmf", 3.0)):
        for seed in range(3):
            settings = {
                "loss": loss,
                "seed": seed,
                "backbone": "vgg16",
                "image_size": 224,
                "limit": None,
                "epochs": 4,
                "dataset": "sipakmed",
            }
            settings |= {"classes": list("abcde"), "encoder": {"epochs": 3}}
            path = make_run(
                folder / f"{loss}{seed}", skill, seed=seed + (10 if loss == "lmf" else 0), per_group=3, settings=settings,
                data_fingerprint="abc", git_commit="123456" if seed else "abcdef",
            )  # fmt: skip
            (path / "finished.json").write_text("{}")
    return finished_runs(folder, "cervical")


def rows_of(runs, **options):
    return [TableRow(loss, "sipakmed", select(runs, loss=loss), **options) for loss in ("ce", "lmf")]


def test_six_files_hold_the_table(runs, tmp_path):
    rows = rows_of(runs, printed=PRINTED, document=DOCUMENT)
    text = write_table(tmp_path, "Table I", rows, figures={"bars": Figure()}).read_text()
    assert {path.name for path in tmp_path.iterdir()} == {
        "report.md", "table.csv", "runs.json.xz", "predictions.csv.xz", "history.csv.xz", "bars.png",
    }  # fmt: skip
    assert "| sipakmed | lmf | sipakmed | ce |" not in text
    assert "| sipakmed | lmf | ce | 3 | +0." in text and "| better |" in text
    table = pd.read_csv(tmp_path / "table.csv")
    ours = table[(table["method"] == "lmf") & (table["metric"] == "accuracy") & (table["kind"] == "row")].iloc[0]
    values = [run.metrics()["accuracy"] for run in select(runs, loss="lmf")]
    assert ours["ours"] == pytest.approx(np.mean(values)) and ours["deviation"] == pytest.approx(np.std(values, ddof=1))
    assert ours["difference"] == pytest.approx(ours["ours"] - 0.9) and "paper, Table I" in text
    found = table[table["kind"] == "comparison"].iloc[0]
    assert (found["method"], found["against"], found["metric"], found["verdict"]) == ("lmf", "ce", "macro_f1", "better")
    for said in ("vgg16", "224", "all 4, encoder 3", "0, 1, 2", "2-core CPU", "tensorflow", "2 commits: 123456, abcdef"):
        assert said in text


def test_a_table_says_which_precision_where_it_is_not_float32(runs, tmp_path):
    assert "precision" not in write_table(tmp_path / "a", "t", rows_of(runs)).read_text()
    first, second = rows_of(runs)
    half = [replace(run, config={**run.config, "precision": "mixed_bfloat16"}) for run in second.runs]
    text = write_table(tmp_path / "b", "t", [first, replace(second, runs=half)]).read_text()
    lines = text[text.index("## What was run") :].splitlines()
    assert "| precision |" in lines[2]
    assert "| float32 |" in lines[4] and "| mixed_bfloat16 |" in lines[5]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"image_size": 100}, "image size 224, not 100"),
        ({"limit": 64}, "limit all, not 64"),
        ({"classes": 8}, "classes 5, not 8"),
        ({"encoder.epochs": 30}, "encoder epochs 3, not 30"),
    ],
)
def test_another_problem_takes_no_difference(runs, tmp_path, document, said):
    text = write_table(tmp_path, "t", rows_of(runs, printed=PRINTED, document={**DOCUMENT, **document})).read_text()
    assert f"| 0.9000 | {said} |" in text
    assert pd.read_csv(tmp_path / "table.csv")["difference"].loc[lambda column: column.notna()].size == 1  # of the comparison


def test_a_published_table_gives_the_same_table(runs, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    first = write_table(one, "Table I", rows_of(runs)).read_text()
    again = finished_runs(one, "cervical")
    assert len(again) == 6 and again[0].number == 0 and by_recipe(again).keys() == by_recipe(runs).keys()
    assert write_table(two, "Table I", rows_of(again)).read_text() == first
    for name in ("runs.json.xz", "predictions.csv.xz", "history.csv.xz", "table.csv"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_nothing_of_the_machine_is_published(runs, tmp_path):
    write_table(tmp_path, "t", rows_of(runs))
    texts = [lzma.decompress((tmp_path / name).read_bytes()).decode() for name in ("runs.json.xz", "predictions.csv.xz")]
    assert str(runs[0].path.parent) not in "".join(texts) and json.loads(texts[0])["runs"][0]["metrics"]["n"] == 120


def test_scores_of_images_stand_beside_a_fixed_map(runs, tmp_path):
    rng = np.random.default_rng(0)
    images = [f"i{k}" for k in range(50)]
    hard = rng.random(50)

    def dice(run):
        return pd.DataFrame({"image": images, "score": 0.4 + 0.3 * hard + np.random.default_rng(run.seed).normal(0, 0.01, 50)})

    blob = pd.DataFrame({"image": images, "score": 0.2 + 0.3 * hard})
    rows = [TableRow("ours", runs=select(runs, loss="lmf"), scores=dice), TableRow("centred blob", scores=blob)]
    text = write_table(tmp_path, "Dice", rows, compared="dice").read_text()
    assert "| centred blob | ours | 3 | -0.2" in text and "worse" in text
    again = finished_runs(tmp_path, "cervical")
    rows = [TableRow("ours", runs=again, scores=lambda run: pytest.fail("read again")), TableRow("centred blob", scores=blob)]
    assert write_table(tmp_path / "again", "Dice", rows, compared="dice").read_text() == text


def test_holes_one_seed_and_baselines(runs, tmp_path):
    baselines = {"majority class": {"accuracy": 1 / 3, "macro_f1": 1 / 6, "balanced_accuracy": 1 / 3}}
    (runs[0].path / "metrics.json").write_text(json.dumps({**runs[0].metrics(), "baselines": baselines}))
    rows = [TableRow("ce", runs=[runs[0]]), TableRow("lmf", runs=select(runs, loss="lmf", seed=0)), TableRow("ldam")]
    text = write_table(tmp_path, "t", rows).read_text()
    assert "| ldam | – | – | – | – | – | – | 0 |" in text and "Not run yet (–): 1 of 4" in text
    assert "| majority class | 0.3333 | 0.3333 | 0.1667 |" in text.replace(" – |", "")
    assert "| one seed |" in text and "better" not in text


def test_a_row_of_two_recipes_is_a_bug_and_no_run_is_one_line(runs, tmp_path):
    with pytest.raises(ValueError, match="row all mixes recipes: loss is ce, lmf"):
        write_table(tmp_path, "t", [TableRow("all", runs=runs)])
    with pytest.raises(ValueError, match="a seed twice"):
        write_table(tmp_path, "t", [TableRow("ce", runs=[runs[0], runs[0]])])
    with pytest.raises(UsageError, match="no row of the table has a finished run"):
        write_table(tmp_path, "t", [TableRow("ce")])
    with pytest.raises(ValueError, match="at most 3 figures"):
        write_table(tmp_path, "t", rows_of(runs), figures=dict.fromkeys("abcd", Figure()))


def test_ranks_are_claimed_only_where_they_can_be(runs, tmp_path):
    rows = [TableRow(loss, block, select(runs, loss=loss)) for block in ("x", "y") for loss in ("ce", "lmf")]
    text = write_table(tmp_path, "t", rows, ranks=True).read_text()
    assert "None is claimed: with so few blocks the critical difference is 1.39, and ranks of 2 methods are at most 1 apart" in text


def test_two_rows_of_one_name_are_a_bug(runs, tmp_path):
    with pytest.raises(ValueError, match="two rows of the table have one name: x · ce"):
        write_table(tmp_path, "t", [TableRow("ce", "x", runs[:1]), TableRow("ce", "x", runs[1:2])])


def test_the_reports_of_published_runs_are_made_again(runs, tmp_path, capsys):
    write_table(tmp_path, "Table I", rows_of(runs))
    report_command(ReportOptions(run=tmp_path))
    paths = capsys.readouterr().out.split()
    assert len(paths) == 6 and all("## Per class" in Path(path).read_text() for path in paths)


@pytest.mark.parametrize("content", ["{}", '{"runs": []}'])
def test_a_published_table_without_runs_has_no_reports(tmp_path, content):
    (tmp_path / "runs.json.xz").write_bytes(lzma.compress(content.encode()))
    with pytest.raises(UsageError, match="holds no run with predictions"):
        report_command(ReportOptions(run=tmp_path))
