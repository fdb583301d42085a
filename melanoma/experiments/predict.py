"""Diagnosis for new images as CSV, and with `--output-dir` each indicator's probability and mask: what the paper promises a doctor.

The folder gets indicators.csv, a PNG mask per image and indicator, and a sheet per image; the run must have U-Nets (`train`, `shared`).
About 0.6 s an image with five masks on two CPU cores with a small network (`make bench`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.commands.predict import PredictOptions
from common.settings import Command, require


@dataclass(frozen=True, kw_only=True)
class DrawOptions(PredictOptions):
    """Classify images with a finished run, and draw their indicators."""

    output_dir: Path | None = None
    """Folder for indicators.csv, masks (`<image>_<indicator>.png`) and sheets (`<image>_sheet.png`). None: no masks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.output_dir is None or not self.output_dir.is_file(), f"--output-dir {self.output_dir}: is a file; expected a folder")
        alone = not self.with_runs and self.views == 1 and self.decision == "argmax"
        require(self.output_dir is None or alone, "--output-dir: sheets say what the run alone says; leave out --with, --views, --decision")


COMMAND = Command(DrawOptions, "melanoma.drawing:predict_command", __doc__)
