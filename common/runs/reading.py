"""A run folder as the evaluation sees it: files that are read, and files that are written whole (temporary name, then rename)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from common.errors import UsageError
from common.runs.contents import contents_of
from common.runs.files import atomic, read_json, write_json, write_text
from common.runs.schema import check_manifest
from common.settings import check_run


@dataclass(frozen=True)
class RunFolder:
    """The files of one run. `RunFolder.of` takes a path or anything with a `.path`, such as a `Run`."""

    path: Path

    @classmethod
    def of(cls, run: Any) -> "RunFolder":
        return run if isinstance(run, cls) else cls(Path(getattr(run, "path", run)))

    @classmethod
    def existing(cls, path: Path) -> "RunFolder":
        """The folder of a run that was started. UsageError for a folder that is no run."""
        check_run(Path(path))
        return cls(Path(path))

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def read_json(self, name: str) -> dict:
        """UsageError when the file is missing, is no JSON object or not what its name promises (`common.runs.schema`)."""
        result = read_json(self.path / name)
        if not isinstance(result, dict):
            raise UsageError(f"{self.path / name} should hold a JSON object")
        return result

    def read_table(self, name: str, **options: Any) -> pd.DataFrame:
        """A CSV, with options of `pandas.read_csv`. UsageError when it is missing, no CSV or not what its name promises."""
        path = self.path / name
        if not path.is_file():
            raise UsageError(f"{path} is missing: the run did not get that far (start it again to go on)")
        try:
            table = pd.read_csv(path, encoding_errors="surrogateescape", **options)
        except (ValueError, OverflowError, OSError, RecursionError) as error:  # pandas's own errors are ValueErrors
            raise UsageError(f"{path} is not a readable CSV: {str(error)[:200]}") from None
        if name == "manifest.csv":
            check_manifest(path, table)
        if name == "history.csv":
            _check_history(path, table)
        return table

    def write_json(self, name: str, content: dict) -> Path:
        write_json(self.path / name, content)
        return self.path / name

    def write_table(self, name: str, table: pd.DataFrame) -> Path:
        """Write a CSV without its index, every digit kept."""
        with atomic(self.path / name) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n", errors="surrogateescape")
        return self.path / name

    def write_text(self, name: str, text: str) -> Path:
        write_text(self.path / name, text)
        return self.path / name


def _check_history(path: Path, history: pd.DataFrame) -> None:
    """UsageError unless a history holds an epoch, and numbers but for its stages."""
    if "epoch" not in history or history.empty:
        raise UsageError(f"{path}: {'holds no epoch' if 'epoch' in history else 'lacks the column epoch'}")
    for column in history.columns.drop("stage", errors="ignore"):
        try:
            pd.to_numeric(history[column])
        except ValueError:
            raise UsageError(f"{path}: a value of {str(column)[:80]} is no number; remove the file, or start the run anew") from None


def read_option_table(option: str, path: Path) -> pd.DataFrame:
    """The CSV that an option names, every cell as text. UsageError, naming the option, where it is none."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding_errors="surrogateescape")
    except FileNotFoundError:
        raise UsageError(f"{option} {path}: no such file") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} {path}: not a readable CSV ({str(error).splitlines()[0]})") from None


def data_dir_of(folder: RunFolder, given: Path | None) -> Path:
    """Where a run's images lie: `given` (--data-dir), else what its local.json says. UsageError when neither is a folder."""
    path = given or (Path(folder.read_json("local.json")["data_dir"]) if folder.has("local.json") else None)
    if path is None:
        raise UsageError(f"{folder.path}: the run does not say where its images lie (no local.json): give --data-dir")
    if not path.is_dir():
        raise UsageError(f"{path}: the images of the run are not there any more: give --data-dir")
    return path


def run_files(folder: RunFolder, data_dir: Path | None, names: Iterable[str]) -> list[Path]:
    """Paths of images or masks of the run's data, below `data_dir_of`. UsageError when one is not what it was when the run began."""
    from common.data.fingerprint import file_hashes

    root, noted, wanted = data_dir_of(folder, data_dir), contents_of(folder.path), list(names)
    now = file_hashes(root, [name for name in wanted if name in noted], missing="")
    changed = [name for name in now if now[name] not in ("", noted[name])]
    if changed:
        shown = ", ".join(changed[:3]) + (", …" if len(changed) > 3 else "")
        raise UsageError(f"{root}: {len(changed)} files changed since {folder.path} began ({shown}); put them back, or train again")
    return [root / name for name in wanted]


def find_metric(metrics: Mapping[str, Any], name: str) -> tuple[bool, float | None, list[float] | None]:
    """Whether a metric exists, its value and its interval. Dots lead into nested dicts; a key with a dot in it is found as well."""
    if name in metrics and not isinstance(metrics[name], Mapping):
        interval = (metrics.get("intervals") or {}).get(name) or metrics.get(f"{name}_interval")
        return True, metrics[name], interval
    for split in (index for index, letter in enumerate(name) if letter == "."):
        inner = metrics.get(name[:split])
        if isinstance(inner, Mapping):
            found = find_metric(inner, name[split + 1 :])
            if found[0]:
                return found
    return False, None, None
