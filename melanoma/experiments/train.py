"""Train Bio-U-Net whole: SimCLR, classifier, twelve heatmaps to masks, five frozen encoders under one classifier (section 4).

Printed: accuracy 0.82; continuous Dice 15.16 % globules, 2.33 milia-like cysts, 20.89 negative network, 32.79 pigment network, 14.17
streaks (Tables 2 and 3). Five ResNet50 at 512 px want a GPU; the sample takes about five minutes on two CPU cores. Disk: 150 kB of cache
an image at 224 px, 100 MB an encoder in the saved model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from common.settings import Command, Count, Within
from melanoma.experiments.base import EVERYWHERE, MelanomaSettings, reading
from melanoma.experiments.pretrain import PretrainSettings

_OF_SIMCLR = ("temperature", "projection", "pretrain_batch")


@dataclass(frozen=True, kw_only=True)
class BioUNetSettings(PretrainSettings):
    """The four subnetworks."""

    # SimCLR's settings stand in a run's recipe as the pre-training's own recipe, given or made (`training.pretraining.origin`).
    NOT_RECIPE = MelanomaSettings.NOT_RECIPE | {"pretrained", "pretrain_epochs", *_OF_SIMCLR}

    pretrained: Path | None = None
    """Finished `pretrain` run whose encoder is used; None: the one of these settings, trained now if it is missing."""
    simclr: bool = True
    """Begin from subnetwork 1 (Table 3: f_CLR)."""
    segmentation: bool = True
    """Train subnetwork 3 (Table 3: f_Seg)."""
    encoders: Literal["plain", "equal"] = "plain"
    """What rows without f_Seg are. `plain`: f_Res, one encoder that predicts melanoma and decides by its own head. `equal`: the encoders,
    outputs and steps of the rows with f_Seg, only without the Dice loss."""
    head: Literal["described", "l2"] = "described"
    """Subnetwork 4. `described`: a softmax layer trained on the frozen features, f_Res keeps its own. `l2`: for every row a logistic
    regression with an L2 penalty (C = 0.01) on standardised features."""
    order: Literal["phases", "interleaved"] = "phases"
    """`phases`: SimCLR, then classifier, then classifier and segmentation in turn (A.3). `interleaved`: Algorithm 1, all in each step."""
    repeats: Annotated[int, Within(1, 20)] = 1
    """Segmentation updates an iteration (section 5.3, Table 4)."""
    tasks: Literal["one", "two", "five", "six"] = "one"
    """What an encoder predicts: its indicator; and melanoma; all indicators; all and melanoma (Table 5; DEVIATIONS rows 11, 12)."""
    target: Literal["auto", "indicator", "predicted", "melanoma"] = "auto"
    """Score whose gradient makes the heatmaps; `auto`: the indicator where it is an output, else the predicted diagnosis."""
    classifier_epochs: Count = 30
    """Epochs of subnetwork 2 (not stated)."""
    segmentation_epochs: Count = 30
    """Epochs of subnetwork 3 (not stated)."""
    head_epochs: Count = 100
    """Epochs of subnetwork 4 (not stated)."""
    classifier_batch: Count = 16
    """Images a classifier step (A.3)."""
    segmentation_batch: Count = 8
    """Images a segmentation step (A.3)."""
    patience: Count = 6
    """Epochs without a better validation loss before a stage stops (Algorithm 1 says "while not stop")."""
    watch: Literal["dice", "dice+bce"] = "dice"
    """Validation loss that selects the epoch of subnetwork 3: soft Dice, or its sum with the cross-entropy."""
    class_weights: bool = False
    """Weigh the positives of each output by negatives / positives."""
    segment_on: Literal["all", "nonempty"] = "all"
    """Images of subnetwork 3: all (section 4.3: "for every training image"), or those that have the indicator."""
    binarise: bool = False
    """Score maps cut to 0 and 1 at the threshold (Table 6 speaks of binary masks); otherwise what is above it keeps its values."""

    def check_paths(self) -> None:
        super().check_paths()
        self.check_pretrained(self.pretrained)

    def wants_dataset_b(self) -> bool:
        return self.simclr and (self.pretrained is None or self.order == "interleaved")

    def plain(self) -> bool:
        """Whether this is the plain classifier: one encoder, melanoma only."""
        return not self.segmentation and self.encoders == "plain"

    def unused(self) -> dict[str, str]:
        found = super().unused()
        if not self.simclr:
            found |= dict.fromkeys((*_OF_SIMCLR, "pretrain_epochs", "pretrained"), "there is no SimCLR (--no-simclr)")
        elif self.order == "interleaved":
            found |= dict.fromkeys(("pretrain_epochs", "pretrained"), "nothing begins from a pre-training (--order interleaved)")
        elif self.pretrained is not None:
            found |= dict.fromkeys((*_OF_SIMCLR, "pretrain_epochs"), "--pretrained brings its own")
        if self.segmentation:
            found |= {"encoders": "it says what rows without f_Seg are"}
        else:
            found |= dict.fromkeys(("repeats", "segment_on", "watch", "segmentation_batch"), "there is no f_Seg (--no-segmentation)")
        if self.plain():
            found |= {name: "f_Res predicts melanoma only" for name in ("tasks", "target")}
            if self.order == "phases":
                found |= {"segmentation_epochs": "f_Res has no third stage"}
        if self.head == "l2" or self.plain():
            found |= {"head_epochs": "a logistic regression has no epochs" if self.head == "l2" else "f_Res keeps its own head"}
        return found


DESCRIBED = BioUNetSettings()
default = partial(reading, DESCRIBED)
COMMAND = Command(BioUNetSettings, "melanoma.reporting:train_command", __doc__, default, EVERYWHERE)
