"""Counts against the official ones, unreadable files, copies, and how far each split leaks lesions or patients; draws fig. 2.

HAM10000's 10,015 images take about a minute on two CPU cores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from common.settings import LARGEST_SEED, MOST_IMAGES, Command, check_range, check_run_dir
from lmf.experiments.base import LmfSource


@dataclass(frozen=True, kw_only=True)
class AuditSettings(LmfSource):
    """Look at a data set without training."""

    limit: int | None = None
    """Use only N images in all; None: all."""
    split_seed: int = 42
    """Seed of both splits."""
    run_dir: Path | None = None
    """Folder to write to; default runs/lmf/audit/<data set>."""

    def check(self) -> None:
        super().check()
        check_range("limit", self.limit, 1, MOST_IMAGES)
        check_range("split-seed", self.split_seed, 0, LARGEST_SEED)

    def check_paths(self) -> None:
        super().check_paths()
        check_run_dir(self.run_dir)


def default(reading: str, dataset: str) -> AuditSettings:
    """The same for every reading."""
    return replace(AuditSettings(), dataset=dataset)


COMMAND = Command(AuditSettings, "lmf.audit:audit_command", __doc__ or "", default, everywhere={"output": ("run-dir",)})
