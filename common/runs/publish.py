"""`python -m common.runs.publish RUN… FOLDER`: copy what may be committed of finished runs: no model, no images, no folder of this machine.

Run folders inside a run (its control) come along.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from common.errors import UsageError
from common.runs.files import atomic
from common.runs.folder import is_finished

KEPT_SUFFIXES = {".json", ".md", ".csv", ".png"}
# local.json says where the data lies on this machine; the manifest is big and follows from the data, the split and the seed.
LEFT_OUT = {"local.json", "manifest.csv", "finished.json"}


def publish(run: Path, folder: Path) -> list[Path]:
    """Copy the publishable files of a finished run into `folder` and return their new paths.

    Raises:
        UsageError: `run` is no finished run folder.
    """
    if not is_finished(run):
        raise UsageError(f"{run}: not a finished run folder; run its command again to finish it")
    copied = []
    for source in sorted(run.rglob("*")):
        inner = source.relative_to(run)
        hidden = any(part.startswith(".") or part == "checkpoints" for part in inner.parts)
        if source.is_file() and not hidden and source.suffix in KEPT_SUFFIXES and source.name not in LEFT_OUT:
            with atomic(folder / inner) as temporary:
                shutil.copyfile(source, temporary)
            copied.append(folder / inner)
    return copied


def main(arguments: list[str]) -> int:
    """Last argument: the folder; one run is copied into it, several into subfolders of their names."""
    if len(arguments) < 2:
        print("usage: python -m common.runs.publish RUN… FOLDER", file=sys.stderr)
        return 2
    *runs, folder = map(Path, arguments)
    try:
        for run in runs:
            copied = publish(run, folder if len(runs) == 1 else folder / run.name)
            print(f"{run}: {len(copied)} files")
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
