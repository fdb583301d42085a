"""Arrays kept on disk: built once, memory-mapped afterwards, safe for two processes and for a full disk."""

import errno
import fcntl
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from common.errors import UsageError

log = logging.getLogger(__name__)
SPARE_BYTES = 64 * 2**20  # left free for logs, run folders and other processes


def digest(parts: Iterable[object]) -> str:
    """16 hexadecimal digits of the SHA-256 of the parts' texts, separated, so that ("ab", "c") differs from ("a",
    "bc").
    """
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()[:16]


def write_whole(path: Path, text: str) -> None:
    """Write a text file under another name, then rename it: a reader sees the old file or the new one, never half of
    it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.write_text(text)
    os.replace(beside, path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` (made if missing). The system frees it when the process dies: none is ever
    stale.
    """
    with open(path, "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)


def check_free_disk(folder: Path, needed: int) -> None:
    """Raise UsageError when `folder`'s disk has fewer than `needed` bytes (and some to spare) free."""
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise UsageError(
            f"--cache-dir {folder}: the image cache needs {needed / 2**20:.0f} MiB and only {free / 2**20:.0f} MiB are free;"
            " free some space or name another folder"
        )


def cached_array(path: Path, shape: tuple[int, ...], fill: Callable[[np.ndarray], None]) -> np.ndarray:
    """The read-only memory-mapped uint8 array at `path` (.npy); when it is missing `fill(array)` writes it first.

    A second process that wants the same array waits for the first. The file is written under another name and renamed
    when it is whole, so a killed process leaves no half array behind. UsageError when the folder cannot be made or the
    disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--cache-dir: cannot make the folder {path.parent}: {error.strerror}") from error
    if not path.exists():
        with locked(path.with_suffix(".lock")):
            if not path.exists():
                _build(path, shape, fill)
    array = np.load(path, mmap_mode="r")
    # A plain view: indexing a np.memmap costs several times more than indexing an ndarray.
    return array.view(np.ndarray)


def _build(path: Path, shape: tuple[int, ...], fill: Callable[[np.ndarray], None]) -> None:
    partial = path.with_suffix(".partial")
    needed = int(np.prod(shape, dtype=np.int64))
    check_free_disk(path.parent, needed)
    try:
        array = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        # Reserve the blocks now: writing to a memory map on a full disk kills the process instead of raising an error.
        with open(partial, "r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, os.path.getsize(partial))
        fill(array)
        array.flush()
        del array
        os.replace(partial, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UsageError(f"--cache-dir {path.parent}: the disk is full ({needed / 2**20:.0f} MiB needed)") from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def for_each(work: Callable[[int], None], count: int, title: str, progress: bool = False) -> None:
    """Call `work(0)` … `work(count - 1)` on a thread per core (decoding and resizing release Python's lock).

    With `progress` a line is logged every few seconds.
    """
    started = last = time.monotonic()
    step = 16  # a whole handful at a time keeps the queue's own cost small
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        futures = [pool.submit(_run_span, work, start, min(start + step, count)) for start in range(0, count, step)]
        try:
            for done, future in enumerate(futures, start=1):
                future.result()
                now = time.monotonic()
                if progress and now - last > 3:
                    last = now
                    share = done / len(futures)
                    log.info(
                        "%s: %d of %d, %.0f s left",
                        title,
                        min(done * step, count),
                        count,
                        (now - started) * (1 - share) / share,
                    )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _run_span(work: Callable[[int], None], start: int, stop: int) -> None:
    for index in range(start, stop):
        work(index)
