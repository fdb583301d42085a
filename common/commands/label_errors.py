"""Which labels are probably wrong? Confident learning (Northcutt et al. 2021, by `cleanlab`) on a finished run's own test images.

The run never trained on them, so its probabilities are out of sample; an image whose probability for its label is far below that of images
which really have the label is listed, the least probable label first. Repeated runs on other splits cover the other images. Writes
label_errors.csv and a sheet of the pictures into the run folder. Seconds; somebody who knows must look at them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.cli import Positional, check_run
from common.settings import Command, Settings, check_path, check_range


@dataclass(frozen=True, kw_only=True)
class LabelErrorsOptions(Settings):
    run: Positional[Path]
    """Run folder that holds predictions.csv."""
    data_dir: Path | None = None
    """Folder of the run's images, for the sheet; None: where they lay when it was trained."""
    shown: int = 20
    """Pictures on the sheet."""

    def check(self) -> None:
        super().check()
        check_range("shown", self.shown, 1, 100)

    def check_paths(self) -> None:
        super().check_paths()
        check_run(self.run, "predictions.csv")
        check_path("data-dir", self.data_dir, "folder")


COMMAND = Command(LabelErrorsOptions, "common.report.label_errors:label_errors_command", __doc__ or "")
