"""An append-only record whose every line holds the SHA-256 of the line before: what was once written cannot be changed unnoticed.

    journal.jsonl   one JSON object a line: {"previous": …, "number": …, "changes": {…}, …}
    head.json       how many lines there are and the hash of the last: a line cut off at the end is missed

Somebody who may write the folder and knows this file can write a whole new chain. Against that stands only a copy of the head elsewhere:
exports carry it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from common.errors import UsageError
from common.runs.files import MAX_JSON_BYTES, plain, read_json, write_json

log = logging.getLogger(__name__)
START = "0" * 64


class Journal:
    """The record of a folder; reading it checks it.

    Attributes:
        records: the lines, as dicts.
        head: hash of the last line.

    Raises:
        UsageError: a line does not fit the one before; names the entry.
    """

    def __init__(self, folder: Path) -> None:
        self.path, self._head = folder / "journal.jsonl", folder / "head.json"
        self.records: list[dict[str, Any]] = []
        self.head, self.size = START, 0
        if not self.path.is_file():
            if self._head.exists():
                raise UsageError(f"{self.path} is missing: the record of the corrections is gone; restore it")
            return
        content = self.path.read_bytes()
        if len(content) > 8 * MAX_JSON_BYTES:
            raise UsageError(f"{self.path}: has {len(content) / 2**20:.0f} MiB; at most {8 * MAX_JSON_BYTES // 2**20} are read")
        *lines, torn = content.split(b"\n")
        for line in lines:
            self._take(line)
        if not self._head.is_file() and len(self.records) > 1:
            raise UsageError(f"{self._head} is missing: whether the last corrections are there cannot be told; restore it")
        known = read_json(self._head) if self._head.is_file() else {}
        count = known.get("records", 0)
        if torn:
            # A kill or a power cut while the last line was written: what it said is lost, what was before is not.
            log.warning("%s: the last line is torn; that change is lost, the log is as it was before it", self.path)
            os.truncate(self.path, self.size)
            count = min(count, len(self.records)) if count <= len(self.records) + 1 else count
        place = len(self.records)
        if count > place:
            raise UsageError(f"{self.path}: {count - place} of {count} changes are gone, the first of them after {self._named(place)}")
        if count > 0 and known.get("sha256") != self._hash_at(lines, count) and not (torn and count == place):
            raise UsageError(f"{self._head}: does not fit {self._named(count)}; the log was changed")
        if (count, known.get("sha256")) != (place, self.head):
            self._write_head()

    def append(self, record: dict[str, Any]) -> None:
        """Write one more line; it is on the disk when this returns, or not in the file at all."""
        record = {"previous": self.head, **plain(record)}
        line = json.dumps(record, ensure_ascii=False, allow_nan=False, sort_keys=True).encode()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            if os.fstat(descriptor).st_size != self.size:
                raise UsageError(f"{self.path}: was changed while this session had it open; nothing more is written to it")
            try:
                written = os.write(descriptor, line + b"\n")
                if written != len(line) + 1:
                    raise OSError(28, "No space left on device", str(self.path))
                os.fsync(descriptor)
            except BaseException:
                os.ftruncate(descriptor, self.size)
                raise
        finally:
            os.close(descriptor)
        self._take(line)
        self._write_head()

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            fits = record["previous"] == self.head and isinstance(record["number"], int) and isinstance(record["changes"], dict)
        except (ValueError, KeyError, TypeError, RecursionError):
            record, fits = {}, False
        if not fits:
            raise UsageError(
                f"{self.path}: line {len(self.records) + 1} does not fit what stands before it ({self._named(len(self.records))})"
            )
        self.records.append(record)
        self.head, self.size = hashlib.sha256(line).hexdigest(), self.size + len(line) + 1

    def _write_head(self) -> None:
        write_json(self._head, {"records": len(self.records), "sha256": self.head})

    def _named(self, count: int) -> str:
        """The entry that the line number `count` is about."""
        number = self.records[count - 1]["number"] if 0 < count <= len(self.records) else 0
        return f"correction {number}" if number else "the beginning"

    @staticmethod
    def _hash_at(lines: list[bytes], count: int) -> str:
        return hashlib.sha256(lines[count - 1]).hexdigest()
