"""Counts against the official ones (4049: 813, 825, 793, 787, 831), unreadable files, odd modes, copies, sizes, and leakage of both splits.

In the printed split 710 of 812 test cells share a cluster image with training cells. About a minute for SIPaKMeD.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cervical.experiments.base import CellSource
from common.settings import LARGEST_SEED, Command, check_range, check_run_dir


@dataclass(frozen=True, kw_only=True)
class AuditSettings(CellSource):
    """What a data set holds, and what its splits let through."""

    split_seed: int = 42
    """Seed of both splits."""
    run_dir: Path | None = None
    """Folder for the report; default runs/cervical/audit/<data set>."""

    def check(self) -> None:
        super().check()
        check_range("split-seed", self.split_seed, 0, LARGEST_SEED)

    def check_paths(self) -> None:
        super().check_paths()
        check_run_dir(self.run_dir)

    def unused(self) -> dict[str, str]:
        return super().unused() | {"skip_unreadable": "an audit lists every unreadable file"}


COMMAND = Command(AuditSettings, "cervical.audit:run_audit", __doc__)
