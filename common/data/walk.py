"""One walk for every folder of images: data sets, masks, unlabelled images, `predict`'s arguments. Nothing is lost without a count."""

import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from common.errors import UsageError

IMAGE_SUFFIXES = (
    ".bmp", ".dcm", ".dib", ".dicom", ".gif",
    ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif",
    ".tiff", ".webp",
)  # fmt: skip
# Folders and files that systems and programs leave among the images, in small letters. Hidden names are helpers too.
HELPERS = {
    "@eadir", "__macosx", "lost+found", "$recycle.bin", "system volume information", "#recycle", "@recycle", "__pycache__", "thumbs.db",
    "ehthumbs.db", "desktop.ini",
}  # fmt: skip
OUTLINES = {"cytoplasm": "_cyt.dat", "nucleus": "_nuc.dat"}  # of cells, read as masks (`common.data.outlines`)
_STORES = {".git", ".datalad"}  # not looked into: their contents are copies under other names
IN_HELPERS, TWICE, BROKEN, NO_FILE = "images in helper folders", "linked folders already read", "broken links", "special files"


@dataclass(frozen=True)
class Walk:
    """What lies below a folder.

    Attributes:
        images: paths relative to the folder, with `/`, sorted by their parts. A link whose target is missing is among them when its name
            is an image's: whoever reads it says so.
        folders: names of the folders directly in it, helpers left out, sorted.
        passed: (first folder or "", reason) -> number of files passed over.
    """

    images: tuple[str, ...]
    folders: tuple[str, ...]
    passed: Counter[tuple[str, str]] = field(default_factory=Counter)

    def reasons(self, folder: str | None = None) -> dict[str, int]:
        """Files passed over by reason, in `folder` (one of `folders`) or in all; the most frequent first."""
        counts: Counter[str] = Counter()
        for (top, reason), number in self.passed.items():
            if folder in (None, top):
                counts[reason] += number
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def is_outline(path: Path | str) -> bool:
    """Whether the name is that of an outline, which is no picture of a mask."""
    return str(path).endswith(tuple(OUTLINES.values()))


def is_image(path: Path | PurePosixPath | str) -> bool:
    """Whether the name is an image's: known suffix in any case, not hidden (macOS leaves `._x.jpg` files in archives)."""
    name = os.path.basename(path)
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_helper(name: str) -> bool:
    """Whether a file or folder of this name is a program's own, such as `.ipynb_checkpoints`, `@eaDir` or `Thumbs.db`."""
    return name.startswith(".") or name.lower() in HELPERS


def walk(folder: Path | str, option: str = "--data-dir", without: Iterable[Path | str] = ()) -> Walk:
    """Everything below `folder`. Links are followed, each folder is read once (so a link that leads back ends there).

    Args:
        option: the option that named the folder, for messages.
        without: folders below it that belong to something else (masks beside the images).

    Raises:
        UsageError: a folder that is missing or that may not be read.
    """
    root = os.fspath(folder)
    excluded = {_key(other) for other in without} - {None, _key(root)}
    seen = set(excluded)
    images: list[str] = []
    tops: list[str] = []
    passed: Counter[tuple[str, str]] = Counter()
    # Linked folders wait until everything that lies here itself was read: the real path names an image that has both. Helper folders come
    # last, for the count alone: what a link shows of them (a store such as `.data/`) is wanted.
    waiting, linked, helpers = [""], list[str](), list[str]()
    while waiting or linked or helpers:
        helper = not (waiting or linked)
        below = (waiting or linked or helpers).pop()
        path = f"{root}/{below}" if below else root
        top = below.split("/", 1)[0]
        key = _key(path)
        if key in seen:
            passed[top, TWICE] += not helper and key not in excluded
            continue
        seen.add(key)
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except OSError as error:
            if helper:
                continue
            raise UsageError(f"{option} {path}: this folder cannot be read ({error.strerror}); expected one that may be listed") from None
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            if _is_folder(entry):
                if entry.name in _STORES:
                    continue
                if helper or is_helper(entry.name):
                    helpers.append(name)
                    continue
                if not below and _key(entry.path) not in excluded:
                    tops.append(entry.name)
                (linked if entry.is_symlink() else waiting).append(name)
            elif helper:
                passed[top, IN_HELPERS] += is_image(entry.name)
            elif is_helper(entry.name):
                passed[top, "hidden files"] += 1
            elif is_image(entry.name):
                kind = _mode(entry.path)
                if kind is None or stat.S_ISREG(kind):
                    images.append(name)
                else:
                    passed[top, NO_FILE] += 1
            elif _mode(entry.path) is None:
                passed[top, BROKEN] += 1
            else:
                passed[top, f"{os.path.splitext(entry.name)[1].lower() or 'suffixless'} files"] += 1
    passed += Counter()  # drops zeros
    return Walk(tuple(sorted(images, key=lambda name: name.split("/"))), tuple(sorted(tops)), passed)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _mode(path: str) -> int | None:
    """File kind and permissions, None where a link leads nowhere."""
    try:
        return os.stat(path).st_mode
    except OSError:
        return None


def _key(path: Path | str) -> tuple[int, int] | None:
    """What makes a folder the same under two names."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
