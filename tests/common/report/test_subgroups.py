"""`report RUN --by …` from a metadata table to subgroups.md."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from common.commands.report import ReportOptions
from common.errors import UsageError
from common.report.report import report_command
from common.report.subgroups import write_subgroups


def metadata(path: Path, **columns: list[str]) -> Path:
    rows = pd.DataFrame({"image_id": [f"im_{index}" for index in range(120)], **columns})
    rows.to_csv(path, index=False)
    return path


@pytest.fixture
def run(make_run: Callable[..., Path], tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def test_report_writes_subgroups_of_the_columns_asked_for(run: Path, tmp_path: Path) -> None:
    table = metadata(tmp_path / "m.csv", sex=["m", "f"] * 60, age=[str(index) for index in range(120)])
    report_command(ReportOptions(run=run, by=("sex", "age"), metadata=table))
    rows = pd.read_csv(run / "subgroups.csv")
    assert rows["column"].tolist() == ["sex"] * 2 + ["age"] * 4 and rows["n"].tolist() == [60, 60, 30, 30, 30, 30]
    text = (run / "subgroups.md").read_text()
    assert (
        "## sex" in text and "Largest gap in accuracy" in text and set(pd.read_csv(run / "subgroup_gaps.csv")["column"]) == {"sex", "age"}
    )


@pytest.mark.parametrize(
    ("columns", "by", "said"),
    [
        ({"sex": ["m"] * 120}, ("age",), "--by age: .*m.csv has no such column; expected some of image_id, sex"),
        ({"sex": ["m"] * 120}, (), "--by: expected columns of the metadata"),
    ],
)
def test_wrong_columns_are_one_line(run: Path, tmp_path: Path, columns: dict, by: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        write_subgroups(run, metadata(tmp_path / "m.csv", **columns), by)


def test_images_missing_or_twice_are_named(run: Path, tmp_path: Path) -> None:
    path = metadata(tmp_path / "m.csv", sex=["m"] * 120)
    rows = pd.read_csv(path)
    rows[:-1].to_csv(path, index=False)
    with pytest.raises(UsageError, match=r"has no row for the test image im_119 \(1 of 120 are missing\)"):
        write_subgroups(run, path, ("sex",))
    pd.concat([rows, rows[:1].assign(sex="f")]).to_csv(path, index=False)
    with pytest.raises(UsageError, match="im_0 stands there twice with different values"):
        write_subgroups(run, path, ("sex",))
    rows.drop(columns="image_id").to_csv(path, index=False)
    with pytest.raises(UsageError, match="expected a column that names the image"):
        write_subgroups(run, path, ("sex",))


def test_a_data_set_without_metadata_asks_for_a_file(run: Path) -> None:
    with pytest.raises(UsageError, match="--metadata: expected a CSV file"):
        write_subgroups(run, None, ("sex",))
