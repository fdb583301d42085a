"""What is on disk: counts, unreadable files, copies, overlap with ISIC 2019, leakage of each split (figures 5.1 to 5.3).

Also class distributions and a sheet of samples with their masks. Printed: 1951 NV, 437 MEL, 172 BKL (the files: 1866, 519, 208), 627
images shared with ISIC 2019 (counted: 2593). Cost: one reading of every image; nothing is trained.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.commands.audit import Audit
from common.settings import Command, Source, check_group_pattern, check_path, require
from feedback.experiments.baseline import DATASETS


@dataclass(frozen=True, kw_only=True)
class AuditSettings(Audit, Source):
    """An audit of one data set in one role."""

    reading: Literal["described", "corrected"] = "described"
    """Which sample `--dataset sample` means (the readings' bases differ)."""
    role: Literal["base", "simulation"] = "simulation"
    """Images for the base classifier, or for the simulation (with masks)."""
    labels_csv: Path | None = None
    """ISIC 2019's ground truth, where it does not lie beside the images."""
    mask_dir: Path | None = None
    """Folder with the masks, where they do not lie beside the images."""
    group_pattern: str | None = None
    """Regular expression with one group, matched on the image path, that names the lesion or patient (for `folders`)."""

    def check(self) -> None:
        super().check()
        require(self.dataset in DATASETS, f"--dataset {self.dataset}: unknown; expected one of {', '.join(DATASETS)}")
        check_group_pattern(self.group_pattern)

    def check_paths(self) -> None:
        super().check_paths()
        check_path("labels-csv", self.labels_csv, "file")
        check_path("mask-dir", self.mask_dir, "folder")


def default(reading: str, dataset: str) -> AuditSettings:
    """The reading's."""
    return AuditSettings(reading="corrected" if reading == "corrected" else "described", dataset=dataset)


COMMAND = Command(AuditSettings, "feedback.audit:run_audit", __doc__ or "", default)
