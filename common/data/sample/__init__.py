"""The embedded data sets: small images drawn from a seed, written in each real data set's own layout and file formats.

They let every command and test run without any download, through the same loaders as the real data. They resemble the real images
only in structure and teach nothing about medicine: whatever is measured on them is labelled synthetic.
"""

import importlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from common.errors import UsageError

# kind -> module of this package with a function draw(kind, folder, seed); modules are loaded only when their data are drawn.
DRAWERS = {
    "sipakmed": "cells",
    "isic2018": "dermoscopy",
    "isic2019": "dermoscopy",
    "ham10000": "dermoscopy",
    "odir5k": "fundus",
    "covid_radiography": "chest",
}
KINDS = tuple(DRAWERS)
VERSION = 3  # raise it when a drawing changes, so that older caches are not used for it

NOTE = "Drawn by common/data/sample from a seed. These are not medical images: whatever is measured on them is synthetic.\n"


def default_cache_dir() -> Path:
    """`$REPLICATION_CACHE`, or `.cache` in the working directory."""
    return Path(os.environ.get("REPLICATION_CACHE") or ".cache")


def ensure_sample(kind: str, cache_dir: str | Path | None = None, seed: int = 0) -> Path:
    """Folder of the drawn data set `kind`, drawn now if it is not there yet.

    The same kind and seed give the same bytes (with the pinned NumPy, OpenCV and Pillow). The folder is
    `<cache_dir>/samples/<kind>-seed<seed>-v<VERSION>`. It is written under a temporary name beside it and renamed when complete, so
    a killed process leaves nothing half-drawn and two processes may ask at the same time. Raises UsageError for an unknown kind, a
    negative seed, or a cache folder that cannot be written (no right to, full disk).
    """
    if kind not in DRAWERS:
        raise UsageError(f"no sample called {kind!r}: choose one of {', '.join(sorted(DRAWERS))}")
    if seed < 0:
        raise UsageError(f"the sample's seed must not be negative, got {seed}")
    parent = Path(cache_dir if cache_dir is not None else default_cache_dir()) / "samples"
    final = parent / f"{kind}-seed{seed}-v{VERSION}"
    if final.is_dir():
        return final
    try:
        parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(parent, final.name)
        draw_beside(kind, final, seed)
    except OSError as error:
        raise UsageError(f"cannot write the {kind} sample under {parent} (--cache-dir): {error.strerror or error}") from error
    return final


def draw_beside(kind: str, final: Path, seed: int) -> None:
    """Draws into a temporary folder beside `final` and renames it. Nothing stays behind when the drawing fails."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        importlib.import_module(f"{__name__}.{DRAWERS[kind]}").draw(kind, temporary, seed)
        (temporary / "SYNTHETIC.txt").write_text(NOTE, encoding="utf-8")
        temporary.chmod(0o755)
        try:
            temporary.rename(final)
        except OSError:
            # Another process was faster; its folder holds the same bytes.
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(parent: Path, name: str) -> None:
    """Removes temporary folders of drawings that were killed. A drawing takes seconds, so one that is an hour old is dead."""
    for folder in parent.glob(f".{name}-*"):
        if time.time() - folder.stat().st_mtime > 3600:
            shutil.rmtree(folder, ignore_errors=True)
