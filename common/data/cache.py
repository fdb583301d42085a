"""Arrays kept on disk: built once, memory-mapped afterwards, safe for two processes and for a full disk."""

import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UsageError
from common.runs.files import atomic, flock

log = logging.getLogger(__name__)
SPARE_BYTES = 64 * 2**20  # left free for logs, run folders and other processes
_SUM_BYTES, _OLDER = 8, (0, 4)  # behind each array; older forms had nothing, or a sum of the whole file, which is not checked
_checked: set[tuple[Path, int, int, int]] = set()  # arrays that this process built or summed, as they were then


def digest(parts: Iterable[object]) -> str:
    """16 hexadecimal digits of the SHA-256 of the parts' texts, kept apart: ("ab", "c") is not ("a", "bc")."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def noted(note: Path | None) -> dict[str, Any] | None:
    """What `keep_note` kept; None when there is none or it was cut off, which is said."""
    if note is None or not note.is_file():
        return None
    with suppress(ValueError):
        found = json.loads(note.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    log.warning("%s was cut off and is made again", note)
    return None


def keep_note(note: Path | None, value: Any) -> None:
    """Write `value` as JSON for `noted`. UsageError where the folder cannot be written."""
    if note is None:
        return
    try:
        with atomic(note) as temporary:
            temporary.write_text(json.dumps(value), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--cache-dir: {note} cannot be written ({error.strerror}); name another folder") from None


def check_free_disk(folder: Path, needed: int) -> None:
    """Raise UsageError when `folder`'s disk has fewer than `needed` bytes (and some to spare) free."""
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise UsageError(
            f"--cache-dir {folder}: the image cache needs {needed / 2**20:.0f} MiB and only {free / 2**20:.0f} MiB are free;"
            " free some space or name another folder"
        )


def cached_array(
    path: Path, shape: tuple[int, ...], fill: Callable[[int, np.ndarray], None], title: str = "caching", progress: bool = False
) -> np.ndarray:
    """The read-only memory-mapped uint8 array at `path` (.npy), built first when it is missing.

    `fill(row, out)` sets one row; `out` has the shape `shape[1:]` and holds zeros. Rows are filled by a thread per core,
    and the UsageErrors that `fill` raises are gathered into one. A second process that wants the same array waits for
    the first. The file is written under another name and renamed when it is whole, so a killed process leaves no half
    array behind. UsageError also when the folder cannot be made or the disk is full.
    """
    for left in (2, 1, 0):
        try:
            return _opened(path, shape, fill, title, progress)
        except FileNotFoundError as error:
            if not left or Path(error.filename or "/").parent not in (path.parent, path.parent.parent):
                raise
            log.warning("%s was deleted while it was used and is made again", path.parent)
    raise AssertionError


def _opened(path: Path, shape: tuple[int, ...], fill: Callable[[int, np.ndarray], None], title: str, progress: bool) -> np.ndarray:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--cache-dir: cannot make the folder {path.parent}: {error.strerror}") from error
    if not _whole(path, shape):
        with open(path.with_suffix(".lock"), "a") as handle:
            # Without locks two processes may build the same file, each under its own name, and the last one stays.
            alone = flock(handle, path)
            if os.fstat(handle.fileno()).st_ino != path.with_suffix(".lock").stat().st_ino:
                raise FileNotFoundError(errno.ENOENT, "another lock file now", str(handle.name))
            for left_over in path.parent.glob(f"{path.stem}.partial-*") if alone else ():  # of a process that was killed
                left_over.unlink(missing_ok=True)
            if not _whole(path, shape):
                _build(path, shape, fill, title, progress)
    array = np.load(path, mmap_mode="r")
    # A plain view: indexing a np.memmap costs several times more than indexing an ndarray.
    return array.view(np.ndarray)


def _whole(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether the array is there; one that was cut off (a copy, a full disk) or changed is said and made again."""
    try:
        array, state = np.load(path, mmap_mode="r"), path.stat()
        marks = (path, state.st_ino, state.st_size, state.st_mtime_ns)
        if (array.shape, array.dtype) == (shape, np.uint8) and marks in _checked:
            return True
        with path.open("rb") as file:
            file.seek(array.offset + array.nbytes)
            kept = file.read(_SUM_BYTES + 1)
        if (array.shape, array.dtype) == (shape, np.uint8) and (len(kept) in _OLDER or kept == _sum_of(array)):
            _checked.add(marks)
            return True
    except FileNotFoundError:
        return False
    except (ValueError, EOFError, OSError):
        pass
    log.warning("%s was cut off or changed and is made again", path)
    return False


def _rows_at_once(shape: tuple[int, ...]) -> int:
    """Rows of about a mebibyte, at most 64: what a thread builds, writes and sums at a time."""
    return max(1, min(64, 2**20 // max(int(np.prod(shape[1:], dtype=np.int64)), 1)))


def _sum_of(array: np.ndarray) -> bytes:
    """What stands behind an array: see `_sum`."""
    step = _rows_at_once(array.shape)
    parts = [0] * -(-len(array) // step)

    def span(start: int, stop: int) -> None:
        parts[start // step] = zlib.crc32(array[start:stop])

    _for_spans(span, len(array), step, "checking", False)
    return _sum(parts)


def _sum(parts: list[int]) -> bytes:
    """A mark of the form and the CRC-32 of the CRC-32s of the array's parts, which the threads that build it can take on the way."""
    return b"CRC2" + zlib.crc32(np.asarray(parts, "<u4").tobytes()).to_bytes(4, "big")


def _build(path: Path, shape: tuple[int, ...], fill: Callable[[int, np.ndarray], None], title: str, progress: bool) -> None:
    partial = path.with_suffix(f".partial-{os.getpid()}-{secrets.token_hex(4)}")
    row_bytes = int(np.prod(shape[1:], dtype=np.int64))
    check_free_disk(path.parent, shape[0] * row_bytes)
    errors: list[str] = []
    try:
        with open(partial, "w+b") as handle:
            np.lib.format.write_array_header_1_0(handle, {"descr": "|u1", "fortran_order": False, "shape": shape})
            handle.flush()
            head, descriptor = handle.tell(), handle.fileno()
            step = _rows_at_once(shape)
            parts = [0] * -(-shape[0] // step)

            def span(start: int, stop: int) -> None:
                # By block, not through a memory map: quicker, and on a full disk an error instead of a killed process.
                block = np.zeros((stop - start, *shape[1:]), dtype=np.uint8)
                for row in range(start, stop):
                    try:
                        fill(row, block[row - start])
                    except UsageError as error:
                        errors.append(str(error))
                parts[start // step] = zlib.crc32(block)
                left, offset = memoryview(block).cast("B"), head + start * row_bytes
                while left:
                    written = os.pwrite(descriptor, left, offset)
                    left, offset = left[written:], offset + written

            _for_spans(span, shape[0], step, title, progress)
            handle.seek(0, os.SEEK_END)
            handle.write(_sum(parts))
        if errors:
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            raise UsageError(f"{sorted(errors)[0]}{more}; --skip-unreadable goes on without unreadable images")
        state = partial.stat()
        os.replace(partial, path)
        _checked.add((path, state.st_ino, state.st_size, state.st_mtime_ns))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UsageError(f"--cache-dir {path.parent}: the disk is full ({shape[0] * row_bytes / 2**20:.0f} MiB needed)") from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def for_each(work: Callable[[int], None], count: int, title: str, progress: bool = False) -> None:
    """Call `work(0)` … `work(count - 1)` on a thread per core (decoding and resizing release Python's lock).

    With `progress` a line is logged every few seconds.
    """

    def span(start: int, stop: int) -> None:
        for index in range(start, stop):
            work(index)

    _for_spans(span, count, 16, title, progress)


def _for_spans(work: Callable[[int, int], None], count: int, step: int, title: str, progress: bool) -> None:
    """`work(start, stop)` on a thread per core, `step` at a time, which keeps the queue's own cost small."""
    started = last = time.monotonic()
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        futures = [pool.submit(work, start, min(start + step, count)) for start in range(0, count, step)]
        try:
            for done, future in enumerate(futures, start=1):
                future.result()
                now = time.monotonic()
                if progress and now - last > 3:
                    last = now
                    seconds = (now - started) * (len(futures) - done) / done
                    log.info("%s: %d of %d, %.0f s left", title, min(done * step, count), count, seconds)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
