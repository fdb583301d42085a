"""The run folder: everything one experiment leaves behind, under a name made from its settings."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from common.errors import UsageError
from common.runs.contents import CONTENTS, check_neighbours, contents_of, difference, same_but_data
from common.runs.files import (
    atomic,
    lock,
    of_this_process,
    plain,
    read_json,
    refuse_links,
    remove_left_overs,
    sha256,
    write_json,
    write_text,
)

log = logging.getLogger(__name__)

RUNS = Path("runs")
_FINISHED = "finished.json"
# What a finished run consists of; `report` makes the rest again from these.
_RESULTS = ("manifest.csv", "history.csv", "predictions.csv", "model.keras")
# Where one of these lies in a run folder or below it, something was trained or tuned that must not be lost.
_WORK = ("history.csv", "checkpoints", _FINISHED)
# Settings that readers of config.json look for at its top level.
_TOP_LEVEL = (
    "dataset", "synthetic", "split", "seed", "reading", "backbone", "weights", "weights_sha256", "image_size", "resize_filter", "classes",
)  # fmt: skip


def is_finished(path: Path) -> bool:
    """Whether `path` is the folder of a run that came to its end."""
    return (path / _FINISHED).is_file()


class Run:
    """One run folder. Open it with `Run.open`; every write is atomic.

    Attributes:
        path: the folder.
        settings: effective settings, as plain JSON values.
        finished: whether an earlier process finished this very run.
        fresh: whether this process began the run.
    """

    def __init__(self, path: Path, config: dict[str, Any], log_to: str = "none") -> None:
        self.path, self.config, self.log_to = path, config, log_to
        self.logbook: Any = None
        if log_to != "none":
            from common.runs.logbook import logbook  # here: few runs keep one

            self.logbook = logbook(log_to, path, config)
        self.settings: dict[str, Any] = config["settings"]
        self.finished = is_finished(path)
        self.fresh = False
        self._made: list[Path] = []
        self._lock: Any = None

    @classmethod
    def open(
        cls,
        study: str,
        experiment: str,
        settings: Mapping[str, Any],
        *,
        run_dir: Path | None = None,
        name_parts: Iterable[str] = (),
        fingerprint: str = "",
        data_dir: Path | None = None,
        files: Mapping[str, str] | None = None,
        log_to: str = "none",
    ) -> Run:
        """Make the run's folder, or take up the one that has the same settings.

        Args:
            study: package name.
            experiment: command name.
            settings: all effective settings, JSON-able; two runs are the same when these and `fingerprint` are.
            run_dir: folder to use; default `runs/<study>/<experiment>/<name parts>-<hash of the settings>`.
            name_parts: readable beginning of the default name (data set, backbone, split, reading, seed).
            fingerprint: of the data set (`common.data.fingerprint`).
            data_dir: where the images lie on this machine; kept in local.json, which is not for publication.
            files: what decides the result in `data_dir`, each with the hash of its content (`common.data.fingerprint.contents`).
            log_to: "none", "tensorboard" or "mlflow" (`common.runs.logbook`); a run that is finished already is told from its files.

        Raises:
            UsageError: the folder holds a run of other settings, of data that changed since (so does a neighbour in the default place), or
                of another weights file of the same name; something that is no run, a link, a finished run with damaged files; or it is in
                use by another process.
        """
        identity = _identity(study, experiment, settings, fingerprint)
        values = identity["settings"]
        default = run_path(study, experiment, settings, name_parts=name_parts, fingerprint=fingerprint)
        path = of_this_process(run_dir or default)
        config = _existing(path, identity, files or {})
        made: list[Path] = []
        fresh = config is None
        if config is None:
            if files and data_dir is not None and path.absolute() == default.absolute():
                check_neighbours(path, identity, data_dir, files)
            from common import device

            top = {key: values[key] for key in _TOP_LEVEL if key in values}
            config = {**identity, "command": device.recorded_command(), **top, **device.describe()}
            made = [folder for folder in (path, *path.parents) if not folder.exists()]
            write_json(path / "config.json", config)
            if files:
                write_json(path / CONTENTS, {"files": files})
        else:
            if is_finished(path):
                check_finished(path)
            else:
                _check_machine(path, config)
        run = cls(path, config, log_to)
        run.fresh, run._made = fresh, made
        run._acquire()
        if fresh and _BEGUN:
            _BEGUN[-1].append(run)
        if run.finished:
            run._drop_checkpoints()  # of a process that was killed between marking the run and dropping them
            if run.logbook is not None:
                run.logbook.finish()
        if data_dir is not None and not run.finished:
            with atomic(path / "local.json") as temporary:
                temporary.write_text(json.dumps({"data_dir": str(Path(data_dir).resolve())}) + "\n", encoding="utf-8")
        log.info("%s %s", "finished already:" if run.finished else "run folder:", path)
        return run

    def write_json(self, name: str, value: Any) -> Path:
        """Write `value` as JSON to the file `name` of the folder."""
        write_json(self.path / name, value)
        return self.path / name

    def write_text(self, name: str, text: str) -> Path:
        """Write a UTF-8 text file."""
        write_text(self.path / name, text)
        return self.path / name

    def write_csv(self, name: str, table: Any) -> Path:
        """Write a pandas DataFrame as CSV, without its index; floats with 9 significant digits (float32 survives the round trip)."""
        with atomic(self.path / name) as temporary:
            table.to_csv(temporary, index=False, float_format="%.9g", errors="surrogateescape")
        return self.path / name

    def save_model(self, model: Any, name: str = "model.keras") -> Path:
        """Save a whole Keras model, without its optimizer and loss: a third of the size, and loadable without our losses."""
        import keras  # here, so that run folders can be read without it

        if getattr(model, "inputs", None):
            # Not `inputs` and `outputs`, which are lists: the loaded model would then return a list of one.
            model = keras.Model(model.input, model.output, name=model.name)
        with atomic(self.path / name) as temporary:
            model.save(temporary)
        return self.path / name

    def subrun(self, name: str, settings: Mapping[str, Any]) -> Run:
        """A complete run folder inside this one (the control run beside the method), with its own settings."""
        return Run.open(
            self.config["study"],
            f"{self.config['experiment']}-{name}",
            settings,
            run_dir=self.path / name,
            fingerprint=self.config["data_fingerprint"],
            data_dir=self.data_dir,
            files=contents_of(self.path),
            log_to=self.log_to,
        )

    @property
    def data_dir(self) -> Path | None:
        """Where the images lay on this machine, or None when local.json is absent (a published run)."""
        local = self.path / "local.json"
        return Path(read_json(local)["data_dir"]) if local.is_file() else None

    def finish(self) -> None:
        """Mark the run as finished and drop its checkpoints: the model and the report hold all that matters."""
        # In this order: without checkpoints and without the mark a killed run would be trained from its beginning again.
        files = {name: {"bytes": (self.path / name).stat().st_size, "sha256": sha256(self.path / name)} for name in self._results()}
        self.write_json(_FINISHED, {"files": files})
        self._drop_checkpoints()
        self.finished = True
        if self.logbook is not None:
            self.logbook.finish()
        self.release()
        log.info("finished: %s", self.path)

    def abandon(self) -> None:
        """Give a run up: let go of the folder and, where this process began the run and nothing was trained in it, remove what it wrote.

        A folder that was there before stays, empty as it was; folders that `open` made go too.
        """
        self.release()
        if not self.fresh or any(next(self.path.rglob(name), None) for name in _WORK):
            return
        for item in list(self.path.iterdir()):
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item, ignore_errors=True)
            else:
                item.unlink(missing_ok=True)
        for folder in self._made:  # innermost first; one that another run uses by now is not empty and stays
            with suppress(OSError):
                folder.rmdir()

    def _results(self) -> list[str]:
        return [name for name in _RESULTS if (self.path / name).is_file()]

    def _drop_checkpoints(self) -> None:
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)

    def release(self) -> None:
        """Let other processes use the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _acquire(self) -> None:
        if self.finished:
            return
        self._lock = lock(self.path)
        if self._lock is None:
            raise UsageError(f"{self.path}: another process is at work on this run; wait for it or choose another --run-dir")
        remove_left_overs(self.path)


_BEGUN: list[list[Run]] = []  # by this process, in each `nothing_half_written`


@contextmanager
def nothing_half_written() -> Iterator[None]:
    """A command that fails before it has trained anything leaves no run folder behind, so that the corrected one may use the same."""
    _BEGUN.append([])
    try:
        yield
    except BaseException:
        for run in reversed(_BEGUN[-1]):
            run.abandon()
        raise
    finally:
        _BEGUN.pop()


def run_path(study: str, experiment: str, settings: Mapping[str, Any], *, name_parts: Iterable[str] = (), fingerprint: str = "") -> Path:
    """The folder that `Run.open` makes for these arguments when it is given none: readable parts and a hash of all that decides the run."""
    identity = json.dumps(_identity(study, experiment, settings, fingerprint), sort_keys=True)
    return RUNS / study / experiment / "-".join([*name_parts, hashlib.sha256(identity.encode()).hexdigest()[:8]])


def _identity(study: str, experiment: str, settings: Mapping[str, Any], fingerprint: str) -> dict[str, Any]:
    values = plain(dict(settings))
    if isinstance(values.get("weights"), str):
        # A weights file by its name: config.json is published, and the same file in another folder is the same setting.
        values["weights"] = Path(values["weights"]).name
    return {"study": study, "experiment": experiment, "settings": values, "data_fingerprint": fingerprint}


def check_finished(path: Path) -> None:
    """UsageError when a file of the finished run in the folder `path` is gone or is not what it was when the run finished.

    Runs from before the files were noted pass.
    """
    for name, noted in read_json(path / _FINISHED).get("files", {}).items():
        file = path / Path(name).name
        if not file.is_file():
            raise UsageError(f"{file} is missing from a finished run; restore it, or delete {path / _FINISHED} to train it again")
        if file.stat().st_size != noted.get("bytes") or sha256(file) != noted.get("sha256"):
            raise UsageError(
                f"{file} is not what it was when the run finished (damaged or changed); restore it, or delete {path / _FINISHED} to train "
                "it again"
            )


def _check_machine(path: Path, config: dict[str, Any]) -> None:
    """Another backend is another training and refused; another number of threads adds in another order, which is said."""
    from common import device

    now = device.describe()
    if config.get("backend") not in (None, now["backend"]):
        raise UsageError(f"{path}: began on the backend {config['backend']}, now it is {now['backend']}; choose another --run-dir")
    if config.get("threads") not in (None, now["threads"]):
        log.warning(
            "%s: began with %s threads, now there are %d: the result will not be what it would have been",
            path,
            config["threads"],
            now["threads"],
        )


def _existing(path: Path, identity: dict[str, Any], files: Mapping[str, str]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    if not (path / "config.json").is_file():
        if any(item for item in path.iterdir() if item.name != ".lock" and ".tmp-" not in item.name):
            raise UsageError(f"--run-dir {path}: holds files but no config.json; expected a new, an empty or a run folder")
        return None
    refuse_links(path)
    config = read_json(path / "config.json")
    if {key: config.get(key) for key in identity} == identity:
        return config
    if same_but_data(config, identity):
        old = contents_of(path)
        what = difference(old, files) if old and files else "images, labels, groups or masks"
        raise UsageError(f"--run-dir {path}: the data changed since this run began ({what}); put them back, or choose another --run-dir")
    raise UsageError(f"--run-dir {path}: holds a run of other settings ({_difference(config, identity)}); choose another --run-dir")


def _difference(config: dict[str, Any], identity: dict[str, Any]) -> str:
    old = {**config.get("settings", {}), "experiment": config.get("experiment"), "data": config.get("data_fingerprint")}
    new = {**identity["settings"], "experiment": identity["experiment"], "data": identity["data_fingerprint"]}
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    shown = [f"{key} was {json.dumps(old.get(key))[:60]}, now {json.dumps(new.get(key))[:60]}" for key in keys[:3]]
    return "; ".join(shown) + ("; …" if len(keys) > 3 else "")
