"""What is on disk: counts, unreadable files, copies, overlap with ISIC 2019, leakage of each split (figures 5.1 to 5.3).

Also class distributions and a sheet of samples with their masks. Printed: 1951 NV, 437 MEL, 172 BKL (the files: 1866, 519, 208), 627
images shared with ISIC 2019 (counted: 2593). Cost: one reading of every image; nothing is trained.
"""

from dataclasses import dataclass
from typing import Literal

from common.commands.audit import Audit
from common.settings import Command
from feedback.experiments.baseline import MarkedLesions


@dataclass(frozen=True, kw_only=True)
class AuditSettings(Audit, MarkedLesions):
    """An audit of one data set in one role."""

    reading: Literal["described", "corrected"] = "described"
    """Which sample `--dataset sample` means (the readings' bases differ)."""
    role: Literal["base", "simulation"] = "simulation"
    """Images for the base classifier, or for the simulation (with masks)."""


def default(reading: str, dataset: str) -> AuditSettings:
    """The reading's."""
    return AuditSettings(reading="corrected" if reading == "corrected" else "described", dataset=dataset)


COMMAND = Command(AuditSettings, "feedback.audit:run_audit", __doc__ or "", default)
