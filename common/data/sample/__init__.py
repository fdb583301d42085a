"""The embedded data sets: small images drawn from a seed, written in each real data set's own layout and file formats.

They let every command and test run without any download, through the same loaders as the real data. They teach nothing about medicine:
whatever is measured on them is labelled synthetic.
"""

import importlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from common.errors import UsageError

# kind -> module of this package with a function draw_<kind>(folder, seed); modules are loaded only when their data are drawn.
DRAWERS = {
    "sipakmed": "cells", "isic2018": "dermoscopy", "isic2019": "dermoscopy", "ham10000": "dermoscopy", "odir5k": "fundus",
    "covid_radiography": "chest",
}  # fmt: skip
KINDS = tuple(DRAWERS)
VERSION = 5  # raise it when a drawing changes, so that older caches are not used for it


def ensure_sample(kind: str, cache_dir: str | Path | None = None, seed: int = 0) -> Path:
    """Folder of the drawn data set `kind`, drawn now if it is not there yet: `<cache_dir>/samples/<kind>-seed<seed>-v<VERSION>`, where
    the cache is `$REPLICATION_CACHE` or `.cache` unless it is given.

    The same kind and seed give the same bytes (with the pinned NumPy, OpenCV and Pillow). Raises UsageError for an unknown kind, a
    negative seed, or a cache folder that cannot be written (no right to, full disk).
    """
    if kind not in DRAWERS:
        raise UsageError(f"no sample called {kind!r}: choose one of {', '.join(sorted(DRAWERS))}")
    if seed < 0:
        raise UsageError(f"the sample's seed must not be negative, got {seed}")
    parent = Path(cache_dir or os.environ.get("REPLICATION_CACHE") or ".cache") / "samples"
    final = parent / f"{kind}-seed{seed}-v{VERSION}"
    try:
        if not final.is_dir():
            draw_beside(kind, final, seed)
    except OSError as error:
        raise UsageError(f"cannot write the {kind} sample under {parent} (--cache-dir): {error.strerror or error}") from error
    return final


def draw_beside(kind: str, final: Path, seed: int) -> None:
    """Draws into a temporary folder beside `final` and renames it when complete: a killed process leaves nothing half-drawn there, and
    two processes may ask at the same time."""
    final.parent.mkdir(parents=True, exist_ok=True)
    for folder in final.parent.glob(f".{final.name}-*"):
        if time.time() - folder.stat().st_mtime > 3600:  # a drawing takes seconds: whoever began it was killed
            shutil.rmtree(folder, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        getattr(importlib.import_module(f"{__name__}.{DRAWERS[kind]}"), f"draw_{kind}")(temporary, seed)
        (temporary / "SYNTHETIC.txt").write_text("Drawn from a seed, no medical images: whatever is measured on them is synthetic.\n")
        temporary.chmod(0o755)
        temporary.rename(final)
    except OSError:
        # Perhaps another process was faster; its folder holds the same bytes.
        if not final.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
