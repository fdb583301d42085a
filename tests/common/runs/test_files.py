"""Files that are whole or absent, and values in the types JSON has."""

import errno
import fcntl
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest

from common.data.cache import cached_array
from common.errors import UsageError
from common.runs import files
from common.runs.files import atomic, cell, lock, plain, read_json, write_json, write_text


def test_atomic_makes_folders_and_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic(tmp_path / "deep" / "model.keras") as temporary:
        assert temporary.suffix == ".keras" and temporary.parent == tmp_path / "deep"
        temporary.write_text("whole")
        assert not (tmp_path / "deep" / "model.keras").exists()
    assert [item.name for item in (tmp_path / "deep").iterdir()] == ["model.keras"]
    with atomic(tmp_path / "encoder.weights.h5") as temporary:  # Keras writes weights to no other ending
        assert temporary.name.endswith(".weights.h5") and ".tmp-" in temporary.name
        temporary.write_text("whole")
    assert (tmp_path / "encoder.weights.h5").is_file()


def test_a_full_disk_leaves_no_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space"), atomic(tmp_path / "a.json") as temporary:
        temporary.write_text("ha")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_json_round_trip_of_what_studies_hold(tmp_path: Path) -> None:
    value = {1: (np.float32(0.5), np.int64(3)), "path": Path("/somewhere/w.h5"), "array": np.arange(3), "nan": math.nan, "text": "μ"}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == {"1": [0.5, 3], "path": "w.h5", "array": [0, 1, 2], "nan": None, "text": "μ"}
    assert "μ" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert plain({"set": {1}}) == {"set": [1]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"endless": math.inf})
    assert not (tmp_path / "b.json").exists()


def test_a_file_system_without_locks_is_said_and_worked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """wolph/portalocker#92, bigscience-workshop/petals#515: NFS without a lock daemon."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    handle = files.lock(tmp_path)
    assert handle is not None and "this file system has no locks" in caplog.text
    handle.close()
    caplog.clear()
    array = cached_array(tmp_path / "cache" / "x.npy", (3, 2), lambda row, out: out.fill(row))
    assert array[2].tolist() == [2, 2] and "this file system has no locks" in caplog.text


def test_cells_are_no_formulas() -> None:
    assert [cell(value) for value in ("=1+1", "+a", "-a", "@a", "a=1", 0.5, "")] == ["'=1+1", "'+a", "'-a", "'@a", "a=1", 0.5, ""]


def test_a_lock_is_one_processs_and_follows_no_link(tmp_path: Path) -> None:
    held = lock(tmp_path)
    assert held is not None and lock(tmp_path) is None
    held.close()
    (tmp_path / ".lock").write_text("kept")
    again = lock(tmp_path)
    assert again is not None and (tmp_path / ".lock").read_text() == "kept"
    again.close()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".lock").symlink_to(tmp_path / ".lock")
    with pytest.raises(UsageError, match="is a link"):
        lock(tmp_path / "other")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 10**5, b'{"a": NaN}', b"1" * 6000])
def test_damaged_json_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UsageError, match="a.json is not valid JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UsageError, match="is missing"):
        read_json(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "<img src=x>",
        "![x](http://evil.example/p.png)",
        "[x](javascript:alert(1))",
        "[x](//evil.example)",
        "<http://x>",
    ],
)
def test_names_in_markdown_are_neither_tags_nor_links_to_other_sites(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / "report.md", f"| {name} | 0.5 < 1 | [table](results/a/report.md) ![f](figures/f.png) |")
    written = (tmp_path / "report.md").read_text()
    assert not re.search(r"<\S|[^\\]\]\(([a-z]+:|//)", written)
    assert written.endswith("0.5 < 1 | [table](results/a/report.md) ![f](figures/f.png) |")
    write_text(tmp_path / "notes.txt", name)
    assert (tmp_path / "notes.txt").read_text() == name
