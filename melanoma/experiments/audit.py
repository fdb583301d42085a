"""Look through Dataset A and B: counts beside Table 1, broken and odd files, copies, leakage, overlap.

No training; a minute for 2600 images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.settings import LARGEST_SEED, Command, check_range, check_run_dir
from melanoma.experiments.base import Dermoscopy, reading


@dataclass(frozen=True, kw_only=True)
class AuditSettings(Dermoscopy):
    """Counts, broken files, copies and leakage of Dataset A, its indicators, and its overlap with Dataset B."""

    split_seed: int = 42
    """Seed of the splits that are looked at."""
    run_dir: Path | None = None
    """Folder for the findings; default runs/melanoma/audit/<data set>."""

    def check(self) -> None:
        super().check()
        check_range("split-seed", self.split_seed, 0, LARGEST_SEED)

    def check_paths(self) -> None:
        super().check_paths()
        check_run_dir(self.run_dir)


def default(name: str, dataset: str) -> AuditSettings:
    """The class's defaults for a data set."""
    return reading(AuditSettings(), name, dataset)


COMMAND = Command(AuditSettings, "melanoma.audit:audit_command", __doc__, default)
