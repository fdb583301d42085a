"""Why a run decides as it does; with --beside, the Grad-CAM of runs with different losses side by side, with a doctor's boxes where given
(fig. 3, pictures only).

Seconds a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from common.explanation.options import ExplainOptions
from common.settings import Command, ExistingFile, check_run

# Options of the sheet of one run that fig. 3 has no use for.
OF_ONE_RUN = (
    "images", "methods", "engine", "lime_samples", "lime_superpixels", "seed", "faithfulness", "faithfulness_images", "sanity",
    "sanity_images",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LossMapsOptions(ExplainOptions):
    """Explain a run; with --beside, several runs side by side as in fig. 3."""

    run: Positional[Path]
    """Run folder that holds model.keras and predictions.csv."""
    beside: tuple[Path, ...] = ()
    """Run folders with other losses (or data sets): draws the Grad-CAM of all runs side by side, one test image a data set."""
    boxes: ExistingFile = None
    """CSV `image,x,y,width,height` with a doctor's boxes to draw: image as in manifest.csv, pixels of the original from its top left."""

    def check_paths(self) -> None:
        super().check_paths()
        for path in self.beside:
            check_run(path, "model.keras", "predictions.csv")

    def unused(self) -> dict[str, str]:
        why = "--beside and --boxes draw the Grad-CAM of test images"
        return super().unused() | (dict.fromkeys(OF_ONE_RUN, why) if self.side_by_side else {})

    @property
    def side_by_side(self) -> bool:
        """Whether fig. 3 is drawn, not the sheet of one run."""
        return bool(self.beside) or self.boxes is not None


COMMAND = Command(LossMapsOptions, "lmf.explain:explain_command", __doc__ or "")
