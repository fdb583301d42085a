"""When should the model stay silent? Calibrate a finished run on its validation images and measure on its test images what that gives.

Temperature scaling (Guo et al. 2017); prediction sets that hold the true class at a chosen coverage (split conformal, LAC or APS, also by
class) with the coverage and size measured; and the risk-coverage curve: the error among the images that the model is surest of. Writes
calibration.md, calibration.json and calibration.csv into the run folder; `predict` then adds the set and "unsure" to its rows. Seconds to a
minute; no training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from common.settings import Command, ExistingFolder, Settings, check_run, require


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions(Settings):
    run: Positional[Path]
    """Run folder that holds model.keras, manifest.csv and predictions.csv."""
    coverage: float = 0.9
    """Share of images whose set shall hold the true class, between 0 and 1."""
    score: Literal["lac", "aps"] = "lac"
    """`lac`: the smallest sets on average. `aps`: sets that grow with the model's doubt."""
    by_class: bool = False
    """Calibrate each class on its own images, so that the coverage holds for each class."""
    data_dir: ExistingFolder = None
    """Folder of the run's images; None: where they lay when it was trained."""

    def check(self) -> None:
        super().check()
        require(0 < self.coverage < 1, f"--coverage {self.coverage}: expected more than 0 and less than 1")

    def check_paths(self) -> None:
        super().check_paths()
        check_run(self.run, "model.keras", "manifest.csv", "predictions.csv")


COMMAND = Command(CalibrateOptions, "common.report.calibrate:calibrate_command", __doc__ or "")
