"""What is published of a run: reports and numbers, never models or paths of a machine."""

from pathlib import Path

import pytest

from common.errors import UsageError
from common.runs import Run
from common.runs.publish import main, publish


def finished_run(folder: Path) -> Run:
    run = Run.open("study", "train", {"seed": 1}, run_dir=folder, data_dir=folder.parent)
    run.write_text("report.md", "# report\n")
    run.write_text("manifest.csv", "image\n")
    run.write_text("figures/curve.png", "picture")
    run.write_text("model.keras", "weights")
    control = run.subrun("control", {"seed": 1, "control": True})
    control.write_text("report.md", "# control\n")
    control.finish()
    run.finish()
    return run


def test_only_publishable_files_are_copied(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    names = {path.relative_to(tmp_path / "out").as_posix() for path in publish(run.path, tmp_path / "out")}
    assert names == {"config.json", "report.md", "figures/curve.png", "control/config.json", "control/report.md"}
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text()


def test_unfinished_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Run.open("study", "train", {}, run_dir=tmp_path / "run")
    with pytest.raises(UsageError, match="not a finished run"):
        publish(tmp_path / "run", tmp_path / "out")
    assert main([str(tmp_path / "run"), str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
