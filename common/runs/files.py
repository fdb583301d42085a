"""Files that are whole or absent: written under a temporary name beside the final one, then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Temporary path to write to; becomes `path` when the block ends well and vanishes when it does not (a full disk, a kill).

    The suffix is kept (`model.tmp-123.keras`), since Keras and Matplotlib choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.tmp-{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON. Paths become their last part (no report names a folder of somebody's machine); NaN becomes null."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Content of a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


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
