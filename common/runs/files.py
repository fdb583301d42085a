"""Files that are whole or absent: written under a temporary name beside the final one, then renamed. And reading what others wrote."""

from __future__ import annotations

import atexit
import errno
import fcntl
import hashlib
import json
import logging
import lzma
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from common.errors import UsageError

log = logging.getLogger(__name__)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
# A config.json has some kilobytes; the metrics of a grid's table some hundred.
MAX_JSON_BYTES = 32 * 2**20
# The images come again in every run of a table, further apart than gzip looks back: half the size.
_PRESET = 9 | lzma.PRESET_EXTREME
_COPIES: list[Path] = []


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Temporary path to write to; becomes `path` when the block ends well and vanishes when it does not (a full disk, a kill).

    The suffix is kept (`model.tmp-123-9f3c.keras`), since Keras and Matplotlib choose the format by it. Nobody can know the name before,
    so no link can lie in wait there. The content is on the disk before the name is: a power cut leaves the old file or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = ".weights.h5" if path.name.endswith(".weights.h5") else path.suffix
    temporary = path.with_name(f"{path.name.removesuffix(suffix)}.tmp-{os.getpid()}-{secrets.token_hex(4)}{suffix}")
    try:
        yield temporary
        _to_disk(temporary)
        os.replace(temporary, path)
        _to_disk(path.parent)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(folder: Path) -> IO[bytes] | None:
    """The open lock file of `folder`, or None when another process holds it; the system frees it when this process dies, however it dies.

    The file is opened without following a link and never emptied. UsageError when it is a link or no file.
    """
    path = Path(folder) / ".lock"
    try:
        handle = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666), "rb", buffering=0)
    except OSError as error:
        if path.is_symlink() or path.is_dir():
            raise UsageError(
                f"{path}: is a {'link' if path.is_symlink() else 'folder'}; expected a file of this program, or none"
            ) from None
        raise UsageError(f"{path}: cannot be opened ({error.strerror}); expected a folder that can be written") from None
    try:
        flock(handle, path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    return handle


def flock(handle: IO, path: Path, flags: int = fcntl.LOCK_EX) -> bool:
    """`fcntl.flock`; False, and a warning, where the file system has none (NFS nolock, some Lustre and FUSE mounts).

    OSError when another process holds a lock that is not waited for.
    """
    try:
        fcntl.flock(handle, flags)
        return True
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("%s: this file system has no locks; do not start the same command twice at a time", path.parent)
        return False


def of_this_process(path: Path) -> Path:
    """The folder itself; for every process but the first of a training on several hosts a copy, which goes when the process ends.

    Each begins with what the first one has, before any of them trains, and writes what nobody reads.
    """
    if os.environ.get("KERAS_DISTRIBUTION_PROCESS_ID", "0") == "0" or any(path.is_relative_to(each) for each in _COPIES):
        return path
    copy = Path(tempfile.mkdtemp(prefix="replication-")).resolve()
    _COPIES.append(copy)
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    if path.is_dir():
        shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns(".lock", "*.tmp-*"))
    return copy / path.name


def refuse_links(folder: Path) -> None:
    """UsageError when something in a run folder is a link or no file: what is read would come, and what is written go, elsewhere."""
    folders = [Path(folder)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    raise UsageError(f"{entry.path}: is a link; a run folder holds its files itself: put the file in its place")
                if entry.is_dir():
                    folders.append(Path(entry.path))
                elif not entry.is_file():
                    raise UsageError(f"{entry.path}: is no file; a run folder holds files and folders only")


def remove_left_overs(folder: Path) -> None:
    """Delete what processes that were killed while they wrote have left below `folder`."""
    for left_over in list(folder.rglob("*.tmp-*")):
        if left_over.is_dir() and not left_over.is_symlink():
            shutil.rmtree(left_over, ignore_errors=True)
        else:
            left_over.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """64 hexadecimal digits of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file. In Markdown nothing is a tag or a link to another site: class and file names in it may be anybody's."""
    if path.suffix == ".md":
        text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
        text = re.sub(r"\](?=\(\s*(?:[a-z][a-z0-9+.-]*:|//))", r"\\]", text, flags=re.IGNORECASE)
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Write `value` as JSON, indented or (None) on one line; packed where the name ends in .xz.

    Paths become their last part (no report names a folder of somebody's machine); NaN becomes null.
    """
    with atomic(path) as temporary:
        text = json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
        # A byte of a name that is no UTF-8 as an escape, which JSON reads back.
        data = text.encode("utf-8", errors="backslashreplace")
        temporary.write_bytes(pack(data) if path.suffix == ".xz" else data)


def pack(data: bytes) -> bytes:
    """`data` as the content of an .xz file, the same bytes for the same data."""
    return lzma.compress(data, preset=_PRESET)


def unpacked(path: Path, most: int) -> bytes:
    """Content of an .xz file. ValueError when it is damaged, cut short or has more than `most` bytes (few packed ones may be gigabytes)."""
    decoder = lzma.LZMADecompressor()
    try:
        data = decoder.decompress(path.read_bytes(), max_length=most + 1)
    except lzma.LZMAError as error:
        raise ValueError(str(error)) from None
    if len(data) > most:
        raise ValueError(f"it holds more than {most // 2**20} MiB")
    if not decoder.eof:
        raise ValueError("it is cut short")
    return data


def read_json(path: Path) -> Any:
    """Content of a JSON file, checked by its name where `common.runs.schema` knows it (config.json, metrics.json, …).

    Raises:
        UsageError: the file is missing, no regular file, too large, damaged, or not what its name promises.
    """
    from common.runs import schema

    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path} is missing: the run did not get that far (start it again to go on)")
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UsageError(f"{path}: has {path.stat().st_size / 2**20:.0f} MiB; expected at most {MAX_JSON_BYTES // 2**20}")
        data = unpacked(path, MAX_JSON_BYTES) if path.suffix == ".xz" else path.read_bytes()
        value = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise UsageError(f"{path} is not valid JSON ({str(error)[:100]}); the file is damaged: restore it, or start the run anew") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    schema.check(path, value)
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def cell(value: Any) -> Any:
    """`value` for a CSV that somebody opens in a spreadsheet: text that would be taken for a formula gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def plain(value: Any) -> Any:
    """`value` in the types JSON has: tuples to lists, NumPy scalars and arrays to numbers and lists, paths to names, NaN to None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return value.name
    if hasattr(value, "tolist") and not isinstance(value, str | bytes):
        return plain(value.tolist())
    if isinstance(value, float) and value != value:
        return None
    return value
