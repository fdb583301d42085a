"""The table of images that every other room reads: one row per image, with its label, its group and its masks."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from common.errors import UsageError


@dataclass(frozen=True)
class Dataset:
    """A data set on disk.

    `manifest` has the columns `image` (posix path relative to `data_dir`, unique), `label` (class name, "" if
    unlabelled), `group` (images of one slide, lesion or patient share it) and any number of `mask_<name>` (relative
    path, "" = none). A study adds `split`. `left_out` counts by reason what lies in the folder and is not used.
    """

    name: str
    data_dir: Path
    manifest: pd.DataFrame
    synthetic: bool = False
    official_counts: dict[str, int] | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    cache_dir: Path | None = None

    def __post_init__(self) -> None:
        missing = {"image", "label", "group"} - set(self.manifest.columns)
        if missing:
            raise ValueError(f"the manifest lacks the columns {sorted(missing)}")
        twice = self.manifest["image"][self.manifest["image"].duplicated()]
        if len(twice):
            raise UsageError(f"{self.data_dir}: the image {twice.iloc[0]} is listed more than once")


def class_names(manifest: pd.DataFrame) -> tuple[str, ...]:
    """The class names, sorted; unlabelled rows do not count."""
    return tuple(sorted({str(label) for label in manifest["label"] if label}))
