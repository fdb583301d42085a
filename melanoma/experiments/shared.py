"""What a careful practitioner would build on the idea: one encoder, a head for melanoma, heads for the indicators, a U-Net that draws.

Not in the paper (reading `corrected`). The explanation is the U-Net's own drawing, made from the image and not from heatmaps. The losses
are weighed by learned uncertainties (Kendall et al. 2018). Every row takes the same number of steps on a cosine and keeps its last epoch:
`--no-segmentation` is the same training without the drawing, and `--no-indicator-heads --no-segmentation` a plain classifier. Costs about
a classifier; the sample takes a minute on two CPU cores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from common.settings import Command, Count, Within, require
from melanoma.experiments.base import MelanomaSettings, reading

ROWS = {
    "f_res": {"indicator_heads": False, "segmentation": False},
    "f_res_seg": {"indicator_heads": False, "segmentation": True},
    "indicators": {"indicator_heads": True, "segmentation": False},
    "whole": {"indicator_heads": True, "segmentation": True},
}


@dataclass(frozen=True, kw_only=True)
class SharedSettings(MelanomaSettings):
    """One encoder for everything."""

    NOT_RECIPE = MelanomaSettings.NOT_RECIPE | {"pretrained"}

    pretrained: Path | None = None
    """Finished `pretrain` run whose encoder is used; None: begin from --weights."""
    indicator_heads: bool = True
    """Also predict the indicators that vary."""
    segmentation: bool = True
    """Also draw: a mask an indicator that has masks, or the lesion's."""
    weighting: Literal["uncertainty", "sum"] = "uncertainty"
    """`uncertainty`: each loss by a learned variance (Kendall et al. 2018, eq. 7 and 10). `sum`: all alike."""
    calibrated_drawing: bool = True
    """Put the trained drawing's logits on a line that is fitted to the validation masks (Platt 1999): its grey background darkens."""
    decoder_width: Annotated[float, Within(1 / 16, 4)] = 1.0
    """Channels of the U-Net's decoder, share of Bio-U-Net's 256 to 16."""
    epochs: Count = 30
    """Epochs, all of them: the rate falls on a cosine and the last epoch is kept."""
    shared_batch: Annotated[int, Within(2)] = 16
    """Images a step."""
    class_weights: bool = True
    """Weigh the positives of each output by negatives / positives."""

    def check(self) -> None:
        super().check()
        require(self.reading == "corrected", f"--reading {self.reading}: this design is not the paper's; expected corrected")

    def check_paths(self) -> None:
        super().check_paths()
        self.check_pretrained(self.pretrained)

    def unused(self) -> dict[str, str]:
        found = super().unused() | {"unlabelled_dir": "Dataset B is read by the command pretrain"}
        undrawn = "there is nothing to draw (--no-segmentation)"
        found |= {} if self.segmentation else {"decoder_width": undrawn, "calibrated_drawing": undrawn}
        alone = not self.segmentation and not self.indicator_heads
        return found | ({"weighting": "there is one loss only"} if alone else {})


DESCRIBED = SharedSettings(reading="corrected")


def default(name: str, dataset: str) -> SharedSettings:
    """The design's settings, whatever the reading; small on the sample."""
    found = reading(DESCRIBED, "corrected", dataset)
    return replace(found, decoder_width=0.25) if dataset == "sample" else found


EVERYWHERE = {"batch-size": ("shared-batch",)}
COMMAND = Command(SharedSettings, "melanoma.reporting:shared_command", __doc__, default, EVERYWHERE)
