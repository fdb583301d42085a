"""What decides a result, by content: a hash of every file, cached by size and times, and the fingerprint of a data set."""

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from common.data.cache import digest, for_each, keep_note, noted
from common.data.dataset import Dataset
from common.errors import UsageError

# A file that changed within this time before it was read may change again without another time stamp: its hash is not kept.
SETTLED_SECONDS = 2.0


def file_hashes(root: Path, names: Iterable[str], cache_dir: Path | str | None = None, missing: str | None = None) -> dict[str, str]:
    """Name -> 32 hexadecimal digits (BLAKE2b) of the file's content, for each different name below `root`.

    With `cache_dir` hashes are kept there, each with its file's size and times of change; only files where these differ are read again.

    Raises:
        UsageError: a file that is missing or cannot be read, unless `missing` is given, which then stands for it.
    """
    wanted = list(dict.fromkeys(names))
    note = None if cache_dir is None else Path(cache_dir) / "hashes" / f"{digest([Path(root).resolve()])}.json"
    known = noted(note) or {}
    found: list[str] = [""] * len(wanted)
    stamps: list[list[int]] = [[]] * len(wanted)
    stale = []
    for index, name in enumerate(wanted):
        try:
            status = os.stat(f"{root}/{name}")
        except OSError:
            if missing is None:
                raise UsageError(f"image not found: {root}/{name}") from None
            found[index] = missing
            continue
        stamps[index] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        entry = known.get(name)
        if isinstance(entry, list) and len(entry) == 4 and entry[:3] == stamps[index]:
            found[index] = entry[3]
        else:
            stale.append(index)
    now = time.time_ns()

    def work(number: int) -> None:
        index = stale[number]
        try:
            with open(f"{root}/{wanted[index]}", "rb", buffering=0) as file:
                content = hashlib.blake2b(digest_size=16)
                while block := file.read(2**20):
                    content.update(block)
        except OSError as error:
            if missing is None:
                raise UsageError(f"cannot read {root}/{wanted[index]}: {error.strerror}") from None
            found[index], stamps[index] = missing, []
        else:
            found[index] = content.hexdigest()

    for_each(work, len(stale), "hashing files", progress=True)
    if note is not None and stale:
        fresh = {
            wanted[index]: [*stamps[index], found[index]]
            for index in stale
            if stamps[index] and now - max(stamps[index][1:]) > SETTLED_SECONDS * 1e9
        }
        if fresh:
            keep_note(note, {**known, **fresh})
    return dict(zip(wanted, found, strict=True))


def content_key(root: Path, names: Sequence[str], cache_dir: Path | str | None, *settings: object, missing: str | None = None) -> str:
    """A key that changes with the names, their order, each file's content, and the settings.

    Not with labels or splits: those may change without decoding anything again. UsageError as `file_hashes`.
    """
    hashes = file_hashes(root, [name for name in names if name], cache_dir, missing)
    return digest([*settings, *(f"{name}:{hashes[name]}" if name else "" for name in names)])


def contents(dataset: Dataset, masks: bool = True) -> dict[str, str]:
    """Image and mask files, as in the manifest -> hash of their content; `masks=False` where no training looks at them."""
    columns = ("image", *(_mask_columns(dataset) if masks else ()))
    names = [str(name) for column in columns for name in dataset.manifest[column] if name]
    return file_hashes(dataset.data_dir, names, dataset.cache_dir)


def fingerprint(dataset: Dataset, masks: bool = True) -> str:
    """16 hexadecimal digits that stand for the data: image name, label, group and the content of the image and its masks, sorted by image.

    `masks` as for `contents`. Hashes are kept in the cache folder that `check_readable` was given.
    """
    columns = _mask_columns(dataset) if masks else []
    hashes = {"": "", **contents(dataset, masks)}
    table = dataset.manifest[["image", "label", "group", *columns]].astype(str).sort_values("image")
    table.insert(3, "content", table["image"].map(hashes))
    for column in columns:
        table[column] = table[column].map(hashes)
    return digest([*columns, "", *(value for row in table.itertuples(index=False) for value in row)])


def _mask_columns(dataset: Dataset) -> list[str]:
    return sorted(name for name in dataset.manifest if str(name).startswith("mask_"))
