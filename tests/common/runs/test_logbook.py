"""`--log`: what TensorBoard and MLflow themselves read of a run that was killed and taken up again."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from common.errors import UsageError
from common.runs.fitting import merge_history
from common.runs.folder import Run

SETTINGS = {"seed": 1, "dataset": "sample", "encoder": {"epochs": 2}, "classes": ("a", "b")}
ROWS = [{"stage": "encoder", "epoch": 1, "seconds": 0.5, "loss": 0.75}, {"stage": "encoder", "epoch": 2, "seconds": 0.5, "loss": 0.25}]


def killed_and_finished(folder: Path, kind: str) -> Run:
    """A process that ends after the first epoch, and one that goes on to the end."""
    first = Run.open("study", "train", SETTINGS, run_dir=folder, log_to=kind)
    merge_history(first, "encoder", ROWS[:1])
    first.release()
    run = Run.open("study", "train", SETTINGS, run_dir=folder, log_to=kind)
    merge_history(run, "encoder", ROWS)
    merge_history(run, "classifier", [{"stage": "classifier", "epoch": 1, "seconds": 0.1, "loss": 2.0}])
    finish(run)
    return run


def finish(run: Run) -> None:
    run.write_json("metrics.json", {"accuracy": 0.875, "synthetic": True, "classes": ["a", "b"]})
    run.write_text("model.keras", "the model")
    run.write_text("predictions.csv", "image\npatient-7.png\n")
    (run.path / "figures").mkdir()
    plt.imsave(run.path / "figures" / "curves.png", np.zeros((4, 6, 3)))
    run.finish()


def tensorboard(folder: Path) -> Any:
    read = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed")
    events = read.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLflow's client of the file store of the working folder."""
    tracking = pytest.importorskip("mlflow.tracking", reason="mlflow is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return tracking.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())


def test_tensorboard_reads_each_epoch_once_and_settings_scores_and_figures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    killed_and_finished(tmp_path / "run", "tensorboard")
    events = tensorboard(tmp_path / "run")
    assert [(each.step, each.value) for each in events.Scalars("encoder/loss")] == [(1, 0.75), (2, 0.25)]
    assert [(each.step, each.value) for each in events.Scalars("classifier/loss")] == [(1, 2.0)]
    assert [each.value for each in events.Scalars("test/accuracy")] == [0.875]
    (text,) = events.Tensors("settings")
    assert b"| encoder.epochs | 2 |" in text.tensor_proto.string_val[0]
    (picture,) = events.Images("figures/curves")
    assert (picture.width, picture.height) == (6, 4)


def test_mlflow_reads_one_run_with_each_epoch_once_and_no_name_of_an_image(store: Any, tmp_path: Path) -> None:
    run = killed_and_finished(tmp_path / "run", "mlflow")
    (found,) = store.search_runs([store.get_experiment_by_name("study train").experiment_id])
    assert found.info.status == "FINISHED" and found.info.run_name == "run" and found.data.tags["run_folder"] == str(run.path)
    assert found.data.params["encoder.epochs"] == "2" and found.data.params["dataset"] == "sample"
    history = store.get_metric_history(found.info.run_id, "encoder/loss")
    assert [(each.step, each.value) for each in history] == [(1, 0.75), (2, 0.25)]
    assert found.data.metrics["classifier/loss"] == 2.0 and found.data.metrics["test/accuracy"] == 0.875
    names = {each.path for each in store.list_artifacts(found.info.run_id)}
    assert names == {"model.keras", "config.json", "metrics.json", "figures"}
    assert [each.path for each in store.list_artifacts(found.info.run_id, "figures")] == ["figures/curves.png"]
    assert not any("patient-7" in path.read_text(errors="ignore") for path in (tmp_path / "mlruns").rglob("*") if path.is_file())


def test_a_finished_run_can_be_logged_later(store: Any, tmp_path: Path) -> None:
    run = Run.open("study", "train", SETTINGS, run_dir=tmp_path / "run")
    merge_history(run, "encoder", ROWS)
    finish(run)
    for _ in range(2):
        assert Run.open("study", "train", SETTINGS, run_dir=tmp_path / "run", log_to="mlflow").finished
    (found,) = store.search_runs([store.get_experiment_by_name("study train").experiment_id])
    assert len(store.get_metric_history(found.info.run_id, "encoder/loss")) == 2
    assert [each.value for each in store.get_metric_history(found.info.run_id, "test/accuracy")] == [0.875]


def test_a_store_that_cannot_be_used_is_one_line(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "file").as_uri())
    run = Run.open("study", "train", SETTINGS, run_dir=tmp_path / "run", log_to="mlflow")
    with pytest.raises(UsageError, match="--log mlflow: .*/file cannot be used"):
        merge_history(run, "encoder", ROWS)
