"""Run folders: the same settings resume, others are refused, nothing is half-written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from common.errors import UsageError
from common.runs.files import atomic, read_json
from common.runs.folder import Run, is_finished, nothing_half_written, run_path
from common.runs.reading import RunFolder
from common.settings import check_run

SETTINGS = {"seed": 1, "dataset": "sample", "lr": 1e-3, "classes": ("a", "b")}


def test_same_settings_same_folder_other_settings_other_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parts = ("sample", "seed1")
    first = Run.open("study", "train", SETTINGS, name_parts=parts, fingerprint="f")
    first.release()
    again = Run.open("study", "train", SETTINGS, name_parts=parts, fingerprint="f")
    again.release()
    other = Run.open("study", "train", {**SETTINGS, "lr": 1e-4}, name_parts=parts, fingerprint="f")
    data = Run.open("study", "train", SETTINGS, name_parts=parts, fingerprint="g")
    assert first.path == again.path == run_path("study", "train", SETTINGS, name_parts=parts, fingerprint="f")
    assert len({first.path, other.path, data.path}) == 3
    assert first.path.parent == Path("runs/study/train")
    assert first.path.name.startswith("sample-seed1-")


def test_config_says_what_was_run_and_no_path(tmp_path: Path) -> None:
    run = Run.open("study", "train", {**SETTINGS, "weights": Path("/somewhere/w.h5")}, run_dir=tmp_path / "r", data_dir=tmp_path)
    config = read_json(run.path / "config.json")
    assert config["settings"]["weights"] == "w.h5" and config["weights"] == "w.h5"
    assert config["classes"] == ["a", "b"] and config["dataset"] == "sample" and config["seed"] == 1
    assert {"backend", "versions", "machine", "git_commit", "command", "data_fingerprint"} <= set(config)
    assert str(tmp_path) not in json.dumps(config)
    assert run.data_dir == tmp_path.resolve()


def test_weights_given_as_text_lose_their_folder_too(tmp_path: Path) -> None:
    run = Run.open("study", "train", {**SETTINGS, "weights": "/somewhere/w.h5"}, run_dir=tmp_path / "r")
    run.release()
    assert "somewhere" not in (run.path / "config.json").read_text()
    Run.open("study", "train", {**SETTINGS, "weights": "/elsewhere/w.h5"}, run_dir=tmp_path / "r")  # the same run, not another


def test_other_settings_in_the_folder_are_refused_by_name(tmp_path: Path) -> None:
    Run.open("study", "train", SETTINGS, run_dir=tmp_path / "r").release()
    with pytest.raises(UsageError, match="holds a run of other settings.*seed was 1, now 2"):
        Run.open("study", "train", {**SETTINGS, "seed": 2}, run_dir=tmp_path / "r")


def test_folder_with_foreign_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"no config\.json"):
        Run.open("study", "train", SETTINGS, run_dir=tmp_path)


def test_finish_marks_and_drops_checkpoints(tmp_path: Path) -> None:
    run = Run.open("study", "train", SETTINGS, run_dir=tmp_path / "r")
    (run.path / "checkpoints" / "s").mkdir(parents=True)
    assert not is_finished(run.path)
    run.finish()
    assert is_finished(run.path) and not (run.path / "checkpoints").exists()
    assert Run.open("study", "train", SETTINGS, run_dir=tmp_path / "r").finished


def test_the_mark_comes_before_the_checkpoints_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.open("study", "train", SETTINGS, run_dir=tmp_path / "r")
    (run.path / "checkpoints" / "s").mkdir(parents=True)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("common.runs.folder.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            run.finish()
    assert is_finished(run.path) and (run.path / "checkpoints").exists()
    run.release()
    assert Run.open("study", "train", SETTINGS, run_dir=tmp_path / "r").finished
    assert not (run.path / "checkpoints").exists()


def test_other_weights_of_the_same_name_are_other_settings(tmp_path: Path) -> None:
    settings = {**SETTINGS, "weights": "w.h5", "weights_sha256": "1" * 64}
    run = Run.open("study", "train", settings, run_dir=tmp_path / "run")
    run.release()
    assert read_json(run.path / "config.json")["weights_sha256"] == "1" * 64  # at the top level too, for readers
    with pytest.raises(UsageError, match="weights_sha256 was"):
        Run.open("study", "train", {**settings, "weights_sha256": "2" * 64}, run_dir=tmp_path / "run")


@pytest.mark.parametrize("existed", [True, False])
def test_an_abandoned_run_leaves_nothing(tmp_path: Path, existed: bool) -> None:
    path = tmp_path / "deep" / "er" / "run"
    if existed:
        path.mkdir(parents=True)
    run = Run.open("study", "train", SETTINGS, run_dir=path, data_dir=tmp_path)
    run.write_text("figures/a.txt", "x")
    run.abandon()
    assert path.exists() == existed and (tmp_path / "deep").exists() == existed
    assert not existed or not list(path.iterdir())


@pytest.mark.parametrize(("error", "work"), [(UsageError, ""), (KeyboardInterrupt, ""), (ValueError, "control/history.csv")])
def test_what_fails_before_it_trained_leaves_nothing(tmp_path: Path, error: type[BaseException], work: str) -> None:
    with pytest.raises(error), nothing_half_written():
        run = Run.open("study", "train", SETTINGS, run_dir=tmp_path / "r")
        run.subrun("control", {}).write_text("x.txt", "x")
        if work:
            run.write_text(work, "epoch\n1\n")
        raise error
    assert (tmp_path / "r").exists() == bool(work)
    # Another command in this process is no part of it.
    Run.open("study", "train", SETTINGS, run_dir=tmp_path / "other").release()
    with pytest.raises(UsageError), nothing_half_written():
        raise UsageError
    assert (tmp_path / "other").is_dir()


def test_abandoning_a_run_that_was_taken_up_leaves_it_alone(tmp_path: Path) -> None:
    Run.open("study", "train", SETTINGS, run_dir=tmp_path / "r").release()
    Run.open("study", "train", SETTINGS, run_dir=tmp_path / "r").abandon()
    assert (tmp_path / "r" / "config.json").is_file()


def test_second_process_is_refused(tmp_path: Path) -> None:
    run = Run.open("study", "train", SETTINGS, run_dir=tmp_path / "r")
    code = (
        "import sys\nfrom pathlib import Path\nfrom common.errors import UsageError\nfrom common.runs.folder import Run\n"
        f"try:\n    Run.open('study', 'train', {SETTINGS!r}, run_dir=Path(sys.argv[1]))\n"
        "except UsageError as error:\n    print(error)\n"
    )
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    said = subprocess.run([sys.executable, "-c", code, str(run.path)], env=environment, capture_output=True, text=True, cwd=root).stdout
    assert "another process is at work" in said


def test_left_overs_of_a_killed_write_are_removed(tmp_path: Path) -> None:
    Run.open("study", "train", SETTINGS, run_dir=tmp_path / "r").release()
    (tmp_path / "r" / "model.tmp-1.keras").write_bytes(b"half")
    Run.open("study", "train", SETTINGS, run_dir=tmp_path / "r")
    assert not (tmp_path / "r" / "model.tmp-1.keras").exists()


def test_atomic_leaves_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(OSError, match="full"), atomic(target) as temporary:
        temporary.write_text("half")
        raise OSError("full")
    assert target.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]


def test_a_saved_model_takes_and_returns_tensors_not_lists(tmp_path):
    import keras
    import numpy as np

    inputs = keras.Input((3,), name="image")
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    run = Run.open("cervical", "finetune", {"seed": 0}, run_dir=tmp_path / "run")
    again = keras.models.load_model(run.save_model(model), compile=False)
    found = again(np.ones((4, 3), "float32"))  # a list in the structure warns here, and warnings are errors
    assert tuple(found.shape) == (4, 2)


def finished_run(path: Path) -> Run:
    run = Run.open("cervical", "train", SETTINGS, run_dir=path)
    run.write_text("predictions.csv", "image,label\na.png,a\n")
    run.write_text("model.keras", "weights")
    run.finish()
    return run


@pytest.mark.parametrize("name", ["predictions.csv", "model.keras"])
def test_a_finished_run_with_a_damaged_file_is_not_finished_already(tmp_path: Path, name: str) -> None:
    path = finished_run(tmp_path / "r").path
    assert Run.open("cervical", "train", SETTINGS, run_dir=path).finished
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[:-1])
    with pytest.raises(UsageError, match=rf"{name} is not what it was when the run finished.*restore it, or delete"):
        Run.open("cervical", "train", SETTINGS, run_dir=path)
    (path / name).unlink()
    with pytest.raises(UsageError, match=rf"{name} is missing from a finished run"):
        Run.open("cervical", "train", SETTINGS, run_dir=path)
    (path / name).write_bytes(content)
    (path / "finished.json").write_text('{"files": ')
    with pytest.raises(UsageError, match=r"finished\.json is not valid JSON"):
        Run.open("cervical", "train", SETTINGS, run_dir=path)


@pytest.mark.parametrize("name", [".lock", "figures", "predictions.csv", "model.tmp-1.keras"])
def test_a_link_in_a_run_folder_leads_nowhere(tmp_path: Path, name: str) -> None:
    Run.open("cervical", "train", SETTINGS, run_dir=tmp_path / "r").release()
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    (tmp_path / "r" / name).unlink(missing_ok=True)
    (tmp_path / "r" / name).symlink_to(tmp_path if name == "figures" else victim)
    with pytest.raises(UsageError, match=rf"{name}: is a link"):
        Run.open("cervical", "train", SETTINGS, run_dir=tmp_path / "r")
    with pytest.raises(UsageError, match=rf"{name}: is a link"):
        check_run(tmp_path / "r")
    assert victim.read_text() == "precious"


def test_another_backend_is_refused_and_other_threads_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Run.open("cervical", "train", SETTINGS, run_dir=tmp_path / "r").release()
    config = read_json(tmp_path / "r" / "config.json")
    (tmp_path / "r" / "config.json").write_text(json.dumps({**config, "threads": 77}))
    Run.open("cervical", "train", SETTINGS, run_dir=tmp_path / "r").release()
    assert "began with 77 threads" in caplog.text
    (tmp_path / "r" / "config.json").write_text(json.dumps({**config, "backend": "torch"}))
    with pytest.raises(UsageError, match="began on the backend torch"):
        Run.open("cervical", "train", SETTINGS, run_dir=tmp_path / "r")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"settings": 7}', '{"classes": ["a", "a"]}', '{"seed": NaN}', "\udcff", "[" * 10**5])
def test_a_damaged_config_is_one_line(tmp_path: Path, content: str) -> None:
    Run.open("cervical", "train", SETTINGS, run_dir=tmp_path / "r").release()
    (tmp_path / "r" / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=r"config\.json"):
        Run.open("cervical", "train", SETTINGS, run_dir=tmp_path / "r")


def test_changed_data_under_a_run_are_said_finished_or_not(tmp_path: Path) -> None:
    """ultralytics/yolov3#1554: "finished already" over other images."""
    for finish in (False, True):
        run = Run.open("study", "train", SETTINGS, run_dir=tmp_path / str(finish), fingerprint="aaaa")
        run.release()
        if finish:
            run.write_json("finished.json", {})
        with pytest.raises(UsageError, match="the data changed since this run began .images, labels, groups or masks.*choose another"):
            Run.open("study", "train", SETTINGS, run_dir=tmp_path / str(finish), fingerprint="bbbb")


def test_names_that_are_not_utf8_keep_their_bytes_in_tables(tmp_path: Path) -> None:
    run = Run.open("study", "train", SETTINGS, run_dir=tmp_path / "r")
    name = os.fsdecode(b"a/k\xe9.png")
    run.write_csv("predictions.csv", pd.DataFrame({"image": [name]}))
    assert b"k\xe9.png" in (run.path / "predictions.csv").read_bytes()
    assert RunFolder.of(run.path).read_table("predictions.csv")["image"][0] == name
    run.write_json("x.json", {"image": name})
    assert json.loads((run.path / "x.json").read_text(encoding="utf-8")) == {"image": name}
    run.write_text("report.md", name)
    assert (run.path / "report.md").read_text(encoding="utf-8") == "a/k\\udce9.png"
