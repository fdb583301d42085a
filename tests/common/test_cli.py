"""The command line: one clear line and exit code 2 for anything wrong, before anything heavy is imported."""

import errno
import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from common import cli
from common.cli import main
from common.commands.predict import PredictOptions
from common.commands.report import ReportOptions
from common.errors import UsageError
from common.settings import MOST_EPOCHS, Command, Training, check_group_pattern, check_range

SEEN: list[object] = []


def target(options: object) -> None:
    SEEN.append(options)


def broken(options: object) -> None:
    raise UsageError("--limit 3: expected\n  at least 5")


def full(options: object) -> None:
    raise OSError(28, "No space left on device", "predictions.csv")


def write_below(options: Training) -> None:
    (options.cache_dir / "images").mkdir(parents=True, exist_ok=True)


def write_run(options: Training) -> None:
    assert options.run_dir is not None
    options.run_dir.mkdir(parents=True, exist_ok=True)
    (options.run_dir / "config.json").write_text("{}")


def raise_read_only(options: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system", "runs")


def raise_too_large(options: object) -> None:
    raise OSError(errno.EFBIG, "File too large", "runs")


def raise_strange(options: object) -> None:
    raise OSError(errno.EIO, "Input/output error", "runs")


@dataclass(frozen=True, kw_only=True)
class Options(Training):
    """Options of the test command."""

    epochs: int = 2
    """Epochs."""
    margin: float = 0.5
    """Margin of the loss."""
    with_control: bool = False
    """Also the control."""
    group_pattern: str | None = None
    """Names the group."""

    def check(self) -> None:
        super().check()
        check_range("epochs", self.epochs, 1, MOST_EPOCHS)
        check_group_pattern(self.group_pattern)


HERE = __name__
COMMANDS = {
    "train": Command(Options, f"{HERE}:target", "Trains it. Costs a minute."),
    "broken": Command(Options, f"{HERE}:broken", "Fails."),
    "cache": Command(Options, f"{HERE}:write_below", "Writes into the cache."),
    "run": Command(Options, f"{HERE}:write_run", "Writes into the run folder."),
    "readonly": Command(Options, f"{HERE}:raise_read_only", "Cannot write."),
    "quota": Command(Options, f"{HERE}:raise_too_large", "Meets a limit of file sizes."),
    "strange": Command(Options, f"{HERE}:raise_strange", "Finds a broken disk."),
    "full": Command(Options, f"{HERE}:full", "Fills the disk."),
    "report": Command(ReportOptions, f"{HERE}:target", "Reports."),
    "predict": Command(PredictOptions, f"{HERE}:target", "Predicts."),
}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    SEEN.clear()
    monkeypatch.setitem(sys.modules, HERE, sys.modules[target.__module__])


def test_typed_options_reach_the_target() -> None:
    assert main("study", COMMANDS, ["train", "--epochs", "3", "--margin", "0.25"]) == 0
    (options,) = SEEN
    assert (options.epochs, options.margin, options.dataset) == (3, 0.25, "sample")


@pytest.mark.parametrize(("words", "value"), [([], False), (["--with-control"], True), (["--no-with-control"], False)])
def test_a_flag_can_be_set_both_ways(words: list[str], value: bool) -> None:
    assert main("study", COMMANDS, ["train", *words]) == 0
    (options,) = SEEN
    assert options.with_control is value


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bogus"], "unknown command 'bogus'"),
        (["train", "--epochs", "-1"], "--epochs -1: expected between 1 and 100000"),
        (["train", "--epochs", "many"], "--epochs"),
        (["train", "--colour", "red"], "Unrecognized options: --colour"),
        (["train", "--reading", "loud"], "loud"),
        (["train", "--backbone", "alexnet"], "--backbone alexnet: unknown; expected one of vgg16"),
        (["train", "--dataset", "x", "--data-dir", "no/such/folder"], "--data-dir no/such/folder: no such folder"),
        (["train", "--dataset", "sipakmed"], "--dataset sipakmed: expected --data-dir"),
        (["train", "--weights", "no.h5"], "--weights no.h5: no such file"),
        (["train", "--group-pattern", "("], "not a regular expression"),
        (["train", "--image-size", "4"], "--image-size 4: expected between 16 and 1024"),
        (["report", "no/run"], "no/run: no such run folder"),
        (["broken"], "--limit 3: expected at least 5"),
        (["full"], "predictions.csv: the disk is full"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("study", COMMANDS, words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not SEEN


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cache", "--cache-dir", "file"], "file/images: cannot be used (Not a directory)"),
        (["run", "--run-dir", "locked/run"], "locked/run: cannot be used (Permission denied)"),
        (["readonly"], "runs: cannot be used (Read-only file system)"),
        (["quota"], "runs: the disk is full"),
    ],
)
def test_folders_that_cannot_be_used_are_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "locked/run" in words and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("locked").mkdir(mode=0o500)
    assert main("study", COMMANDS, words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and "--cache-dir" in error


def test_other_errors_of_the_system_are_bugs() -> None:
    with pytest.raises(OSError, match="Input/output"):
        main("study", COMMANDS, ["strange"])


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_a_log_without_its_package_is_told_before_anything_is_read(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main("study", COMMANDS, ["train", "--log", kind]) == 2
    assert capsys.readouterr().err == f"--log {kind}: the package {kind} is not installed; install requirements-mlflow.txt\n"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-m", "cervical", "--help"], cwd=root, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("study", COMMANDS, ["predict", str(tmp_path), str(tmp_path)]) == 2
    assert "config.json is missing" in capsys.readouterr().err


def test_help_lists_commands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("study", COMMANDS, ["--help"]) == 0
    assert "Trains it." in capsys.readouterr().out
    assert main("study", COMMANDS, ["train", "--help"]) == 0
    page = capsys.readouterr().out
    assert "--margin FLOAT" in page and "Costs a minute." in page
    assert "--with-control" in page


def test_unknown_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    with pytest.raises(UsageError, match="KERAS_BACKEND=theano: expected tensorflow or jax"):
        cli.prepare_environment()


def test_nothing_heavy_is_imported_for_help() -> None:
    code = (
        "import sys\nfrom common.cli import main\nfrom common.settings import Command, Training\n"
        "main('x', {'train': Command(Training, 'os:nothing', 'T.')}, ['train', '--help'])\n"
        "heavy = {'numpy', 'pandas', 'keras', 'tensorflow', 'jax', 'PIL', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("study", ["cervical", "lmf", "melanoma", "feedback"])
def test_every_study_answers_help_without_keras(study: str) -> None:
    root = Path(__file__).parents[2]
    code = (
        f"import sys, runpy\nsys.argv = ['{study}', '--help']\n"
        f"try:\n    runpy.run_module('{study}', run_name='__main__', alter_sys=False)\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = {'numpy', 'pandas', 'keras', 'tensorflow', 'jax', 'PIL', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"python -m {study}" in done.stdout


def test_a_run_of_another_study_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "config.json").write_text('{"study": "lmf"}')
    assert main("cervical", {"report": Command(ReportOptions, f"{__name__}:target", "R.")}, ["report", str(tmp_path)]) == 2
    assert "is a run of lmf; expected one of cervical" in capsys.readouterr().err
