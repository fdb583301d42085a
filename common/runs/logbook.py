"""`--log tensorboard|mlflow`: a run's settings, its metrics per epoch and at its end its scores and figures, where teams look for them.

TensorBoard's files lie in `tensorboard/` of the run folder. MLflow's runs lie in the file store `mlruns/` of the working folder, or where
MLFLOW_TRACKING_URI says, one experiment per study and command, with the model beside the scores; nothing that names an image goes there.
Only what is in the run folder is told, so a run that is finished already can be logged too.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common.errors import UsageError
from common.runs.files import flat, read_json, write_json

# What MLflow keeps of a run: the model and what describes it, without the tables of image names.
ARTIFACTS = ("model.keras", "config.json", "metrics.json", "report.md", "model_card.md")


def logbook(kind: str, path: Path, config: Mapping[str, Any]) -> Logbook:
    """The logbook of the run folder `path`. UsageError where MLflow's store cannot be used."""
    return {"tensorboard": TensorBoard, "mlflow": MLflow}[kind](path, config)


class Logbook(ABC):
    """What both have in common: each epoch is told once, whichever process trained it."""

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path, self.config = path, config
        self.done: dict[str, int] = {}  # stage -> the last epoch that was told
        self.begun = self.complete = False

    def epochs(self, stage: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Tell the numbers of those rows of a stage's history (`epoch`, 1-based, and metrics) that were not told yet."""
        self._begin_once()
        for row in rows:
            if row["epoch"] > self.done.get(stage, 0):
                self.done[stage] = int(row["epoch"])
                self.scalars(_numbers(f"{stage}/", {name: value for name, value in row.items() if name != "epoch"}), self.done[stage])

    def finish(self) -> None:
        """Tell what history.csv holds besides, the scores of metrics.json and the figures."""
        self._begin_once()
        if self.complete:
            return
        import pandas as pd  # here, so that help answers without it

        path = self.path / "history.csv"
        history = pd.read_csv(path) if path.is_file() else pd.DataFrame({"stage": [], "epoch": []})
        for stage, rows in history.groupby("stage", sort=False):
            self.epochs(str(stage), rows.to_dict("records"))
        scores = read_json(self.path / "metrics.json") if (self.path / "metrics.json").is_file() else {}
        self.scalars(_numbers("test/", scores), max(self.done.values(), default=0))
        for picture in sorted((self.path / "figures").glob("*.png")):
            self.figure(picture)
        self.close()

    def _begin_once(self) -> None:
        if not self.begun:
            self.begun = True
            self.begin(_flat(self.config))

    @abstractmethod
    def begin(self, settings: Mapping[str, str]) -> None: ...

    @abstractmethod
    def scalars(self, values: Mapping[str, float], step: int) -> None: ...

    @abstractmethod
    def figure(self, path: Path) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class TensorBoard(Logbook):
    """Event files in `tensorboard/`; a process that takes the run up writes them anew."""

    def begin(self, settings: Mapping[str, str]) -> None:
        from tensorboard.compat.proto import summary_pb2, tensor_pb2, tensor_shape_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = self.path / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        self.writer = EventFileWriter(str(folder))
        table = "\n".join(["| setting | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in settings.items())])
        shape = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)])
        text = tensor_pb2.TensorProto(dtype="DT_STRING", string_val=[table.encode()], tensor_shape=shape)
        plugin = summary_pb2.SummaryMetadata(plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="text"))
        self._write([summary_pb2.Summary.Value(tag="settings", metadata=plugin, tensor=text)])

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._write([Summary.Value(tag=name, simple_value=value) for name, value in values.items()], step)

    def figure(self, path: Path) -> None:
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        with Image.open(path) as picture:
            width, height = picture.size
        drawn = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=path.read_bytes())
        self._write([Summary.Value(tag=f"figures/{path.stem}", image=drawn)])

    def close(self) -> None:
        self.writer.close()

    def _write(self, values: list[Any], step: int = 0) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2

        self.writer.add_event(event_pb2.Event(wall_time=time.time(), step=step, summary=summary_pb2.Summary(value=values)))
        self.writer.flush()


class MLflow(Logbook):
    """One run of MLflow per run folder, which mlflow.json names; a process that takes the run up goes on with it."""

    def begin(self, settings: Mapping[str, str]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow develops its databases further, and asks for this
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        place = os.environ.get("MLFLOW_TRACKING_URI") or (Path.cwd() / "mlruns").as_uri()
        known = self.path / "mlflow.json"
        try:
            self.client = MlflowClient(tracking_uri=place)
            self.run = read_json(known)["run_id"] if known.is_file() and read_json(known)["store"] == place else None
            if self.run is None:
                name = f"{self.config.get('study')} {self.config.get('experiment')}"
                found = self.client.get_experiment_by_name(name)
                number = found.experiment_id if found else self.client.create_experiment(name)
                self.run = self.client.create_run(number, run_name=self.path.name, tags={"run_folder": str(self.path)}).info.run_id
                write_json(known, {"store": place, "run_id": self.run})
            for name, value in settings.items():
                self.client.log_param(self.run, name, value[:500])
            before = self.client.get_run(self.run)
            self.complete = before.info.status == "FINISHED"
            for name in before.data.metrics:
                stage = name.partition("/")[0]
                steps = [each.step for each in self.client.get_metric_history(self.run, name)]
                self.done[stage] = max([self.done.get(stage, 0), *steps])
        except (MlflowException, OSError) as error:
            raise UsageError(f"--log mlflow: {place} cannot be used ({str(error).splitlines()[0][:200]})") from None

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.run, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def figure(self, path: Path) -> None:
        self.client.log_artifact(self.run, str(path), "figures")

    def close(self) -> None:
        for name in ARTIFACTS:
            if (self.path / name).is_file():
                self.client.log_artifact(self.run, str(self.path / name))
        self.client.set_terminated(self.run)


def _flat(config: Mapping[str, Any]) -> dict[str, str]:
    """Setting (nested ones with dots) -> its value as text; commit, machine and versions too."""
    facts = {name: config[name] for name in ("git_commit", "machine", "versions", "data_fingerprint") if name in config}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in flat({**config["settings"], **facts}).items()}


def _numbers(prefix: str, values: Mapping[str, Any]) -> dict[str, float]:
    """The values that are numbers, under `prefix`."""
    return {prefix + name: float(value) for name, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)}
