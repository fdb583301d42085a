"""Arrays that are built once, whole or not at all."""

import errno
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from common.data import cache
from common.data.cache import cached_array, check_free_disk, digest, for_each
from common.errors import UsageError


def number(row: int, out: np.ndarray) -> None:
    out[:] = row


def test_digest_keeps_its_parts_apart() -> None:
    assert digest(["ab", "c"]) != digest(["a", "bc"]) and digest([1, 2]) == digest(["1", "2"])
    assert len(digest([])) == 16 and int(digest([]), 16) >= 0


def test_an_array_is_built_once_and_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.npy"
    array = cached_array(path, (5, 2, 3), number)
    np.testing.assert_array_equal(array[:, 0, 0], range(5))
    assert array.dtype == np.uint8 and not array.flags.writeable
    again = cached_array(path, (5, 2, 3), lambda row, out: pytest.fail("built again"))
    np.testing.assert_array_equal(again, array)
    assert {item.name for item in path.parent.iterdir()} == {"a.npy", "a.lock"}


def test_errors_of_rows_are_one_line_and_leave_no_file(tmp_path: Path) -> None:
    def fill(row: int, out: np.ndarray) -> None:
        if row in (1, 3):
            raise UsageError(f"cannot read image {row}.png")

    with pytest.raises(UsageError, match=r"cannot read image 1.png \(and 1 more\); --skip-unreadable"):
        cached_array(tmp_path / "a.npy", (5, 2), fill)
    assert not list(tmp_path.glob("*.npy")) and not list(tmp_path.glob("*.partial*"))


def test_a_full_disk_is_told_before_and_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="the image cache needs .* MiB and only .* MiB are free"):
        check_free_disk(tmp_path, 2**62)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UsageError, match="the disk is full"):
        cached_array(tmp_path / "a.npy", (5, 2), number)
    assert not list(tmp_path.glob("*.npy")) and not list(tmp_path.glob("*.partial*"))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--cache-dir: cannot make the folder"):
        cached_array(tmp_path / "file" / "below" / "a.npy", (1, 1), number)


def test_two_that_want_the_same_array_build_it_once(tmp_path: Path) -> None:
    rows: list[int] = []

    def fill(row: int, out: np.ndarray) -> None:
        rows.append(row)
        out[:] = row

    threads = [threading.Thread(target=cached_array, args=(tmp_path / "a.npy", (50, 2), fill)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(rows) == list(range(50))


def test_for_each_calls_every_number_once_and_passes_errors_on() -> None:
    seen: list[int] = []
    for_each(seen.append, 40, "counting")
    assert sorted(seen) == list(range(40))

    def broken(index: int) -> None:
        raise KeyError(index)

    with pytest.raises(KeyError):
        for_each(broken, 3, "breaking")
    assert cache.SPARE_BYTES > 0


def test_an_array_that_was_cut_off_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made: list[int] = []

    def fill(row: int, out: np.ndarray) -> None:
        made.append(row)
        out[:] = 7

    path = tmp_path / "x.npy"
    cached_array(path, (4, 100), fill)
    whole = path.read_bytes()
    garbled = whole[:200] + b"8" + whole[201:]
    reshaped, other_type = whole.replace(b"(4, 100)", b"(5, 80) "), whole.replace(b"|u1", b"|i1")
    for damaged in (b"", whole[:60], whole[:300], garbled, reshaped, other_type, whole + b"x"):
        path.write_bytes(damaged)
        os.utime(path, ns=(0, 0))  # the clock of a file system may not have ticked since
        made.clear()
        assert (cached_array(path, (4, 100), fill) == 7).all() and len(made) == 4
        assert "x.npy was cut off or changed and is made again" in caplog.text
        caplog.clear()
    for trusted in (path.stat().st_mtime_ns, 1):  # summed once a process: only a file that looks untouched is not summed again
        path.write_bytes(garbled)
        os.utime(path, ns=(trusted, trusted))
        made.clear()
        cached_array(path, (4, 100), fill)
        assert len(made) == (0 if trusted > 1 else 4)
    path.write_bytes(whole[:-8])  # without its sum, as older ones are
    made.clear()
    assert (cached_array(path, (4, 100), fill) == 7).all() and not made


def test_a_whole_array_is_used_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached_array(tmp_path / "x.npy", (4, 2), number)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    for name in ("flock", "check_free_disk", "_build"):
        monkeypatch.setattr(cache, name, refuse)
    (tmp_path / "x.lock").unlink()
    assert len(cached_array(tmp_path / "x.npy", (4, 2), number)) == 4
    assert not (tmp_path / "x.lock").exists()


def test_a_cache_that_is_deleted_while_it_is_built_ends_neither_of_two_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, deleted = tmp_path / "cache" / "x.npy", threading.Event()

    def fill(row: int, out: np.ndarray) -> None:
        if row == 3 and not deleted.is_set():
            deleted.set()
            shutil.rmtree(path.parent)
        out[:] = row

    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(cached_array(path, (8, 2), fill))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [array[:, 0].tolist() for array in found] == [list(range(8))] * 2
    assert "was deleted while it was used" in caplog.text
