"""The correction log: a folder that holds everything a session did, whole at every moment, and enough to do it again.

    session.json       settings, classes, name of the base model's state
    base/model.keras   the model as it was before the first correction
    base/replay.npz    training images that every step sees again, where the run's were at hand
    entries/0001.json  one correction each: image, case, classes, region, model before and after, result, time
    masks/0001.png     the region at the image's own size (0 or 255)
    images/<id>.png    what the network saw of the image, so that a replay needs no image folder
    uploads/           images that came through the browser
    states/0001.npz    weights after a correction (0000: base); the last ones only, the log can compute the others

An entry is written before anything is learned from it (status `received`) and again when the model has learned (`learned`). `confirmed`
means that there was nothing to learn, `refused` that learning failed, `undone` that it was taken back, `rolled_back` that the guard saw
harm and the model went back by itself; no entry is ever deleted.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from common.data.images import read_image, read_mask
from common.errors import UsageError
from common.runs import atomic, read_json
from common.runs.files import lock, plain, write_json
from feedback.page.files import pixels_digest, write_png

ACTIVE = ("received", "learned", "confirmed")


class CorrectionLog:
    """A log folder, held by one process at a time. Use `create` or `open`.

    Attributes:
        path: the folder.
        session: content of session.json.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.session: dict[str, Any] = read_json(self.path / "session.json")
        self._entries = {int(file.stem): read_json(file) for file in sorted((self.path / "entries").glob("[0-9]*[0-9].json"))}
        self._lock: Any = None

    @classmethod
    def create(cls, path: Path, session: dict[str, Any], model_file: Path) -> CorrectionLog:
        """A new log for the model in `model_file`, or the one that is there when it has the same settings; locked.

        Raises:
            UsageError: the folder holds something else, a log of other settings, or is in use.
        """
        path = Path(path)
        if (path / "session.json").is_file():
            log = cls.open(path)
            differing = [key for key, value in plain(session).items() if log.session.get(key) != value]
            if differing:
                log.release()
                raise UsageError(f"--log {path}: belongs to another model or other settings ({', '.join(differing)}); choose another --log")
            return log
        if path.is_dir() and any(item.name not in (".lock", "base") and ".tmp-" not in item.name for item in path.iterdir()):
            raise UsageError(f"--log {path}: holds files but no session.json; expected a new, an empty or a log folder")
        path.mkdir(parents=True, exist_ok=True)
        handle = _acquire(path)
        with atomic(path / "base" / "model.keras") as temporary:
            shutil.copyfile(model_file, temporary)
        write_json(path / "session.json", {**session, "created": now()})
        log = cls(path)
        log._lock = handle
        return log

    @classmethod
    def open(cls, path: Path) -> CorrectionLog:
        """A log that exists; locked. UsageError when another process holds it."""
        handle = _acquire(Path(path))
        for left_over in list(Path(path).rglob("*.tmp-*")):  # of a process that was killed while it wrote
            if left_over.is_dir():  # an export is a folder
                shutil.rmtree(left_over, ignore_errors=True)
            else:
                left_over.unlink(missing_ok=True)
        log = cls(path)
        log._lock = handle
        return log

    @property
    def replay_file(self) -> Path:
        """Where the replay set is kept."""
        return self.path / "base" / "replay.npz"

    def release(self) -> None:
        """Let other processes use the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def entries(self) -> list[dict[str, Any]]:
        """All entries in the order in which they came."""
        return [self._entries[number] for number in sorted(self._entries)]

    def active(self) -> list[dict[str, Any]]:
        """Entries that count: neither undone nor refused."""
        return [entry for entry in self.entries() if entry["status"] in ACTIVE]

    def append(self, entry: dict[str, Any], seen: np.ndarray, mask: np.ndarray) -> int:
        """Write a new entry with its image and mask, files first; returns its number.

        Args:
            entry: JSON-able.
            seen: what the network sees, `(size, size, 3)` uint8.
            mask: `(height, width)` bool at the image's own size.
        """
        number = max(self._entries, default=0) + 1
        name = pixels_digest(seen)
        if not (self.path / "images" / f"{name}.png").is_file():
            write_png(self.path / "images" / f"{name}.png", seen)
        write_png(self.path / "masks" / f"{number:04d}.png", mask)
        self._write(number, {"number": number, "time": now(), **entry, "seen": f"images/{name}.png", "mask": f"masks/{number:04d}.png"})
        return number

    def update(self, number: int, **changes: Any) -> dict[str, Any]:
        """Change fields of an entry; returns it."""
        self._write(number, {**self._entries[number], **changes})
        return self._entries[number]

    def seen(self, entry: dict[str, Any]) -> np.ndarray:
        """What the network saw, `(size, size, 3)` uint8. UsageError when the file is damaged."""
        image = read_image(self.path / entry["seen"])
        if pixels_digest(image) != Path(entry["seen"]).stem:
            raise UsageError(f"{self.path / entry['seen']}: its pixels have changed since correction {entry['number']}")
        return image

    def mask(self, entry: dict[str, Any]) -> np.ndarray:
        """Region at the image's own size, `(height, width)` bool."""
        return read_mask(self.path / entry["mask"])

    def state(self, number: int) -> Path:
        """File of the weights after correction `number`; 0: before the first."""
        return self.path / "states" / f"{number:04d}.npz"

    def drop_states(self, keep: int) -> None:
        """Delete all weight files but the base's and the last `keep`."""
        for path in sorted((self.path / "states").glob("[0-9]*[0-9].npz"))[1:-keep]:
            path.unlink(missing_ok=True)

    def _write(self, number: int, entry: dict[str, Any]) -> None:
        write_json(self.path / "entries" / f"{number:04d}.json", entry)
        self._entries[number] = plain(entry)


def now() -> str:
    """Time as the log keeps it: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _acquire(path: Path) -> Any:
    handle = lock(path)
    if handle is None:
        raise UsageError(f"{path}: another process works with this log; stop it or choose another --log")
    return handle
