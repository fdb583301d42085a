"""Data that changed under a run are named, in its folder and beside it."""

import logging
import shutil
from pathlib import Path

import pytest

from common.errors import UsageError
from common.runs.contents import contents_of, difference
from common.runs.folder import Run, run_path
from common.runs.reading import RunFolder, run_files
from tests.common.runs.test_folder import SETTINGS


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_text(name)
    return folder


def open_run(data: Path, print: str, run_dir: Path | None = None, **files: str) -> Run:
    named = {f"{name}.png": content for name, content in files.items()}
    run = Run.open("study", "train", SETTINGS, run_dir=run_dir, name_parts=("x",), fingerprint=print, data_dir=data, files=named)
    run.release()
    return run


def test_what_changed_is_named_in_the_folder_of_the_run(data: Path, tmp_path: Path) -> None:
    run = open_run(data, "f", tmp_path / "r", a="1", b="2", c="3")
    control = run.subrun("control", {})
    control.release()
    assert contents_of(run.path) == contents_of(control.path) == {"a.png": "1", "b.png": "2", "c.png": "3"}
    said = (
        r"--run-dir .*r: the data changed since this run began \(1 files changed \(b.png\), 1 files gone \(c.png\), 1 files new \(d.png\)\)"
    )
    with pytest.raises(UsageError, match=said):
        open_run(data, "g", tmp_path / "r", a="1", b="9", d="4")
    with pytest.raises(UsageError, match="labels, groups or which masks are used"):
        open_run(data, "g", tmp_path / "r", a="1", b="2", c="3")
    assert difference({}, dict.fromkeys("abcde", "")) == "5 files new (a, b, c, …)"


@pytest.mark.parametrize(
    ("gone", "files", "said"),
    [
        ("", {"a": "1", "b": "9"}, r"1 files changed \(b.png\)"),
        ("b.png", {"a": "1"}, r"1 files gone \(b.png\)"),
        ("", {"a": "1", "b": "2"}, "labels, groups or"),
    ],
    ids=["changed in place", "taken away", "labels"],
)
def test_the_default_folder_of_changed_data_is_no_silent_second_run(data: Path, gone: str, files: dict, said: str) -> None:
    first = open_run(data, "f", a="1", b="2")
    if gone:
        (data / gone).unlink()
    with pytest.raises(UsageError, match=f"data: the data changed since {first.path} began .{said}.*choose a --run-dir"):
        open_run(data, "g", **files)
    grid = run_path("study", "train", SETTINGS, name_parts=("x",), fingerprint="g")
    with pytest.raises(UsageError, match="the data changed"):
        open_run(data, "g", grid, **files)
    assert not grid.exists()
    assert open_run(data, "g", Path("own"), **files).fresh


def test_other_data_of_these_settings_make_another_run_and_that_is_said(data: Path, tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.INFO)
    first = open_run(data, "f", a="1", b="2")
    (data / "c.png").write_text("c.png")
    assert open_run(data, "g", a="1", b="2", c="3").fresh
    assert f"the data are not those of {first.path} (1 files new (c.png)): this is another run" in caplog.text
    assert open_run(data, "h", a="1").fresh  # fewer are taken; what is left out lies there as it was
    shutil.copytree(data, tmp_path / "elsewhere")
    assert open_run(tmp_path / "elsewhere", "i", a="7", b="8").fresh


def test_what_reads_a_runs_images_looks_whether_they_changed(data: Path, tmp_path: Path) -> None:
    from common.data.fingerprint import file_hashes

    run = Run.open("study", "train", SETTINGS, run_dir=tmp_path / "r", data_dir=data, files=file_hashes(data, ["a.png", "b.png"]))
    folder = RunFolder(run.path)
    assert run_files(folder, None, ["b.png", "a.png", "b.png"]) == [data / "b.png", data / "a.png", data / "b.png"]
    (data / "b.png").write_text("c.png")
    assert run_files(folder, None, ["a.png"]) == [data / "a.png"]
    with pytest.raises(UsageError, match=r"data: 1 files changed since .*r began \(b.png\); put them back, or train again"):
        run_files(folder, None, ["a.png", "b.png"])
    (data / "b.png").unlink()
    assert run_files(folder, None, ["b.png"]) == [data / "b.png"]  # who reads it says that it is missing
