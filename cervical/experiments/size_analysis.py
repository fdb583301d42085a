"""Where the 110 pixels come from: scatter, density and densest size of the images (thesis figure 5.2), and cells of each class (4.1-4.5).

Printed: 98.5 x 108.9, smallest 62x48, largest 531x553. Seconds; no training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cervical.experiments.base import CellSource
from common.settings import MOST_IMAGES, Command, Within, check_run_dir


@dataclass(frozen=True, kw_only=True)
class SizeAnalysisSettings(CellSource):
    """Image sizes of a data set."""

    limit: Annotated[int | None, Within(1, MOST_IMAGES)] = None
    """Use only N images in all, class-balanced (smoke runs); None: all."""
    run_dir: Path | None = None
    """Folder for the figures; default runs/cervical/size-analysis/<data set>."""

    def check_paths(self) -> None:
        super().check_paths()
        check_run_dir(self.run_dir)


COMMAND = Command(SizeAnalysisSettings, "cervical.figures:run_size_analysis", __doc__)
