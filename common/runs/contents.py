"""contents.json: which files a run was trained on, each by the hash of its content, so that what changed since is said by name."""

from __future__ import annotations

import glob
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import UsageError
from common.runs.files import read_json

log = logging.getLogger(__name__)
CONTENTS = "contents.json"


def contents_of(run: Path) -> dict[str, str]:
    """File relative to the data folder -> hash; {} of a run that noted none."""
    return read_json(run / CONTENTS)["files"] if (run / CONTENTS).is_file() else {}


def difference(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """ "2 files changed (a/x.png, a/y.png), 1 gone (b/z.png)", or that it is no file but labels or groups."""
    kinds = {
        "changed": [name for name, content in old.items() if new.get(name, content) != content],
        "gone": [name for name in old if name not in new],
        "new": [name for name in new if name not in old],
    }
    said = [
        f"{len(names)} files {kind} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" for kind, names in kinds.items() if names
    ]
    return ", ".join(said) or "labels, groups or which masks are used"


def same_but_data(config: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
    """Whether a run's config.json has this identity but for the data: its fingerprint, and what the settings say of a second data set."""
    return _without_data({**config, **identity}) == _without_data(config)


def _without_data(config: Mapping[str, Any]) -> dict[str, Any]:
    settings = {
        name: value for name, value in config.get("settings", {}).items() if not (isinstance(value, Mapping) and "fingerprint" in value)
    }
    return {**config, "settings": settings, "data_fingerprint": None}


def check_neighbours(path: Path, identity: Mapping[str, Any], data_dir: Path, files: Mapping[str, str]) -> None:
    """Look at default run folders beside `path` of a run with these settings, begun on other data from the same folder.

    Data that were only added to, or of which other masks or images are taken now, make a new run, and that is said.

    Raises:
        UsageError: a file of that run has another content now, or is gone; or only labels or groups were changed.
    """
    for found in sorted(path.parent.glob(f"{glob.escape(path.name.rpartition('-')[0])}-????????/config.json")):
        other = found.parent
        try:
            config, place, old = read_json(found), read_json(other / "local.json")["data_dir"], contents_of(other)
        except UsageError:  # a damaged folder, or one from elsewhere, is no reason to stop beside it
            continue
        if not old or not same_but_data(config, identity) or place != str(Path(data_dir).resolve()):
            continue
        if not _still(old, files, data_dir):
            raise UsageError(
                f"{data_dir}: the data changed since {other} began ({difference(old, files)}); put them back, or choose a --run-dir for "
                "the data as they are"
            )
        log.info("the data are not those of %s (%s): this is another run", other, difference(old, files))


def _still(old: Mapping[str, str], new: Mapping[str, str], data_dir: Path) -> bool:
    """Whether the old files are as they were, and it is the choice of files that is another."""
    return new != old and all(new.get(name, content) == content and (data_dir / name).exists() for name, content in old.items())
