"""The correction log: a folder that holds everything a session did, whole at every moment, and enough to do it again.

    session.json       settings, classes, name of the base model's state
    base/model.keras   the model as it was before the first correction
    base/replay.npz    training images that every step sees again, where the run's were at hand
    journal.jsonl      every change, hash-chained (`feedback.page.chain`); head.json its end
    entries/0001.json  one correction each: image, case, classes, region, model before and after, result, time; made from the journal
    masks/0001.png     the region at the image's own size (0 or 255)
    images/<id>.png    what the network saw of the image, so that a replay needs no image folder
    uploads/           images that came through the browser
    states/0001.npz    weights after a correction (0000: base); the last ones only, the log can compute the others

An entry is written before anything is learned from it (status `received`) and again when the model has learned (`learned`). `confirmed`
means that there was nothing to learn, `refused` that learning failed, `undone` that it was taken back, `rolled_back` that the guard saw
harm and the model went back by itself; no entry is ever deleted.
Opening a log checks all of it, masks and images too, and names the first entry that is not what was written.
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from common.data.images import read_image
from common.data.masks import read_mask
from common.errors import UsageError
from common.runs.files import MAX_JSON_BYTES, atomic, lock, plain, read_json, refuse_links, remove_left_overs, sha256, write_json
from common.runs.schema import CLASS, check_fields, inside, integer, is_inner, one_of, text
from feedback.page.chain import Journal
from feedback.page.files import pixels_digest, write_png

ACTIVE = ("received", "learned", "confirmed")
ENTRY = {
    "number": integer(1, 10**6), "image": text(4096), "status": one_of(*ACTIVE, "refused", "undone", "rolled_back"),
    "seed": integer(0, 2**63), "class": CLASS, "class_shown": CLASS, "region": text(), "time": text(), "seen": inside("images"),
    "mask": inside("masks"), "model_before": text().or_none(), "model_after": text().or_none(),
}  # fmt: skip


class CorrectionLog:
    """A log folder, held by one process at a time. Use `create` or `open`.

    Attributes:
        path: the folder.
        session: content of session.json.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.session: dict[str, Any] = read_json(self.path / "session.json")
        self._lock: Any = None
        self.verify()

    def verify(self) -> None:
        """Read everything again. UsageError that names the first correction which is not what was written."""
        journal = self.journal = Journal(self.path)
        if not journal.records:
            raise UsageError(f"{self.path}: has no journal.jsonl; its corrections cannot be checked")
        begun = {name: known for record in journal.records if not record["number"] for name, known in record["changes"].items()}
        for name in {"session.json": None, "base/model.keras": None, **begun}:
            if not is_inner(name) or not (self.path / name).is_file() or sha256(self.path / name) != begun.get(name):
                raise UsageError(f"{self.path / name}: is not what it was when the log began; restore it, or choose another --log")
        entries: dict[int, dict[str, Any]] = {}
        earlier: dict[int, list[dict[str, Any]]] = {}
        for record in journal.records:
            number = record["number"]
            if not number:
                continue
            earlier.setdefault(number, []).append(entries.get(number, {}))
            entries[number] = {**entries.get(number, {}), **record["changes"]}
        for place, number in enumerate(entries, start=1):
            entry = entries[number]
            if place != number or entry.get("number") != number:
                raise UsageError(f"{self.path}: correction {place} is missing; the log was changed")
            check_fields(self.path / "entries" / f"{number:04d}.json", entry, ENTRY)
            for name in ("mask", "seen"):
                file = self.path / str(entry.get(name))
                if not file.is_file() or sha256(file) != entry.get(f"{name}_sha256"):
                    raise UsageError(f"{file}: is not what it was when correction {number} was made; the log was changed")
            self._check_view(number, entry, earlier[number][-1] if number == journal.records[-1]["number"] else entry)
        for file in sorted((self.path / "entries").glob("*.json")):
            if not file.stem.isdigit() or int(file.stem) not in entries:
                raise UsageError(f"{file}: is no correction of journal.jsonl; the log was changed")
        self._entries = entries

    def _check_view(self, number: int, entry: dict[str, Any], before: dict[str, Any]) -> None:
        """The entry's own file says the same; one that a kill kept from being written (it says `before`, is torn or missing) is written."""
        file = self.path / "entries" / f"{number:04d}.json"
        try:
            shown = json.loads(file.read_bytes()) if file.is_file() and file.stat().st_size <= MAX_JSON_BYTES else None
            torn = False
        except (ValueError, RecursionError):
            shown, torn = None, True
        if shown == entry:
            return
        if torn or (shown or {}) == before:
            write_json(file, entry)
            return
        different = [name for name in {**entry, **(shown or {})} if entry.get(name) != (shown or {}).get(name)]
        what = f"its {different[0]} was changed" if shown else "its file is gone"
        raise UsageError(f"{file}: does not fit the chain at correction {number} ({what})")

    @classmethod
    def create(cls, path: Path, session: dict[str, Any], model_file: Path) -> CorrectionLog:
        """A new log for the model in `model_file`, or the one that is there when it has the same settings; locked.

        Raises:
            UsageError: the folder holds something else, a log of other settings, or is in use.
        """
        path = Path(path)
        changes = (path / "journal.jsonl").read_bytes().count(b"\n") if (path / "journal.jsonl").is_file() else 0
        # None of these: a process was killed while it began the log, and nothing is in it yet.
        begun = (path / "head.json").exists() or (path / "entries").exists() or changes > 1
        if (path / "session.json").is_file() and begun:
            log = cls.open(path)
            differing = [key for key, value in plain(session).items() if log.session.get(key) != value]
            if differing:
                log.release()
                raise UsageError(f"--log {path}: belongs to another model or other settings ({', '.join(differing)}); choose another --log")
            return log
        known = {".lock", "base"} if begun else {".lock", "base", "session.json", "journal.jsonl"}
        if path.is_dir() and any(item.name not in known and ".tmp-" not in item.name for item in path.iterdir()):
            raise UsageError(f"--log {path}: holds files but no session.json; expected a new, an empty or a log folder")
        path.mkdir(parents=True, exist_ok=True)
        handle = _acquire(path)
        with atomic(path / "base" / "model.keras") as temporary:
            shutil.copyfile(model_file, temporary)
        write_json(path / "session.json", {**session, "created": now()})
        for name in ("journal.jsonl", "head.json"):  # of a process that was killed here
            (path / name).unlink(missing_ok=True)
        begun = {name: sha256(path / name) for name in ("session.json", "base/model.keras")}
        Journal(path).append({"number": 0, "changes": begun})
        log = cls(path)
        log._lock = handle
        return log

    @classmethod
    def open(cls, path: Path) -> CorrectionLog:
        """A log that exists; locked. UsageError when another process holds it."""
        path = Path(path)
        refuse_links(path)
        handle = _acquire(path)
        try:
            remove_left_overs(path)
            log = cls(path)
        except BaseException:
            handle.close()
            raise
        log._lock = handle
        return log

    def note(self, name: str) -> None:
        """Take a file of the beginning (base/replay.npz) into the chain, once."""
        if not any(name in record["changes"] for record in self.journal.records if not record["number"]):
            self.journal.append({"number": 0, "changes": {name: sha256(self.path / name)}})

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
        files = {"seen": f"images/{name}.png", "mask": f"masks/{number:04d}.png"}
        hashes = {f"{kind}_sha256": sha256(self.path / file) for kind, file in files.items()}
        self._write(number, {"number": number, "time": now(), **entry, **files, **hashes})
        return number

    def update(self, number: int, **changes: Any) -> dict[str, Any]:
        """Change fields of an entry; returns it."""
        self._write(number, changes)
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

    def _write(self, number: int, changes: dict[str, Any]) -> None:
        changes = plain(changes)
        self.journal.append({"number": number, "changes": changes})
        self._entries[number] = {**self._entries.get(number, {}), **changes}
        write_json(self.path / "entries" / f"{number:04d}.json", self._entries[number])


def now() -> str:
    """Time as the log keeps it: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _acquire(path: Path) -> Any:
    handle = lock(path)
    if handle is None:
        raise UsageError(f"{path}: another process works with this log; stop it or choose another --log")
    return handle
