"""What is published: few files, small, each folder whole, pictures in full colour, nothing of a machine's own."""

import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from common.runs.finished import finished_runs

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
FOLDERS = sorted(path.parent for path in RESULTS.glob("*/*/report.md"))
FILES = {"report.md", "table.csv", "runs.json.xz", "predictions.csv.xz", "history.csv.xz"}
PICTURES = {".png", ".jpg"}


def test_results_stay_small() -> None:
    files = [path for path in RESULTS.rglob("*") if path.is_file()]
    assert len(files) <= 300 and sum(path.stat().st_size for path in files) <= 10e6
    known = {file for folder in FOLDERS for file in folder.iterdir()} | {RESULTS / "README.md"}
    assert [path for path in files if path not in known] == [], "each file lies in the folder of a report"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.relative_to(RESULTS).as_posix())
def test_a_folder_holds_a_table_and_at_most_three_pictures(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    pictures = {name for name in names if Path(name).suffix in PICTURES}
    further = names - pictures - FILES  # a second table beside the first
    assert len(pictures) <= 3 and len(further) <= 1 and all(name.endswith(".csv") for name in further)
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert {name for name in pictures if name not in report} == set(), "a picture that no report shows"
    if "table.csv" in names:
        assert len(pd.read_csv(folder / "table.csv"))
    else:
        assert names - pictures == {"report.md"}, "numbers stand in a table.csv"


@pytest.mark.parametrize("path", sorted(path for path in RESULTS.rglob("*") if path.suffix in PICTURES), ids=lambda path: path.name)
def test_pictures_are_in_full_colour(path: Path) -> None:
    """A palette flattens tissue and skin; the screenshots of the page show drawn lesions."""
    with Image.open(path) as picture:
        assert picture.mode != "P" or path.parent.name == "page"


@pytest.mark.parametrize("study", ["cervical", "lmf", "melanoma", "feedback"])
def test_published_runs_are_found_again_with_their_predictions(study: str) -> None:
    runs = finished_runs(RESULTS / study, study)
    with_predictions = [run for run in runs if run.has_predictions]
    assert len(with_predictions) >= 8
    for run in with_predictions[::7]:
        table, classes = run.predictions()
        assert set(table["label"]) <= set(classes)
        assert (table["label"] == table["predicted"]).mean() == pytest.approx(run.metrics()["accuracy"])


def test_nothing_names_a_machines_folders() -> None:
    texts = [path for path in RESULTS.rglob("*") if path.suffix in {".md", ".csv", ".json"}]
    found = {path.name: re.findall(r"(?:/home|/root|/work|/tmp|/Users)/[^\s\"']*", path.read_text(encoding="utf-8")) for path in texts}
    assert {name: places for name, places in found.items() if places} == {}
