"""Supervised contrastive learning in two stages (paper III-C.3, thesis 3.3 and 5.3 c; paper Table III, thesis Table 6.4).

Printed: VGG16 0.9729, VGG19 0.9668, ResNet50 0.9643, MobileNetV2 0.9581, DenseNet169 0.9347. `--control` adds the same network with plain
cross-entropy, which the authors ran and did not publish (VGG16 0.9791). On the default `sample` (300 drawn cells, 64 px, MobileNetV2 0.35
from scratch) it is a demonstration: 24 + 20 epochs, under 3 minutes on 2 cores, 60 MB of disk. SIPaKMeD at the paper's size (18,123
images, 50 epochs): 3 to 20 minutes a network on a large GPU, about 3.5 hours for MobileNetV2 on 2 cores, 0.8 GB of cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from cervical.experiments.base import CellTraining, Stage, for_dataset
from common.settings import MOST_BATCH, Command, Within, check_range

Loss = Literal["npairs", "multiclass-npair", "ntxent", "triplet", "supcon", "ntxent-coded", "triplet-coded"]
TRIPLETS = ("triplet", "triplet-coded")


@dataclass(frozen=True, kw_only=True)
class ContrastiveSettings(CellTraining):
    """An encoder trained with a contrastive loss, then a classifier on it."""

    NOT_RECIPE: ClassVar[frozenset[str]] = CellTraining.NOT_RECIPE | {"control"}
    STAGES: ClassVar[tuple[str, ...]] = ("encoder", "classifier")

    loss: Loss = "npairs"
    """Contrastive loss (paper: npairs). The two `-coded` ones are the authors' broken competitors (facts 1.8)."""
    temperature: Annotated[float, Within(0, above=True)] = 0.05
    """Of npairs, ntxent and supcon (code; the texts name none)."""
    margin: Annotated[float, Within(0, above=True)] = 0.2
    """Of the triplet loss (code)."""
    projection: Annotated[int, Within(1, 4096)] = 128
    """Units of the projection head, which the loss looks at (code)."""
    encoder: Stage = Stage(schedule="constant", keep="last")
    """First stage: the contrastive loss on random views. The documents give it no validation."""
    classifier: Stage = Stage()
    """Second stage: cross-entropy on the frozen encoder."""
    pixels: Literal["adapted", "weights"] = "adapted"
    """Input scaled by mean and variance of the training images (thesis 5.3, code), or as pre-trained weights expect it."""
    classifier_views: bool = False
    """Random views (flip, rotation, scaling) also while the classifier is trained. Thesis 3.3 trains it on fixed embeddings."""
    head_input: Literal["features", "projection"] = "features"
    """The classifier reads the encoder's features (code) or the projection (papers' figure 2)."""
    control: bool = False
    """Also train the control: the same network with plain cross-entropy, in `control/` inside the run folder."""

    def check(self) -> None:
        super().check()
        check_range("batch-size", self.batch_size, 2, MOST_BATCH)  # a loss of pairs learns nothing from one image

    def unused(self) -> dict[str, str]:
        none = {"margin": f"the loss {self.loss} has no margin"}
        if self.loss in TRIPLETS:
            none = {"temperature": f"the loss {self.loss} has no temperature"}
        elif self.loss == "multiclass-npair":
            none |= {"temperature": "thesis eq. 3.4 has no temperature"}
        return super().unused() | none

    @property
    def control_stage(self) -> Stage:
        """The control's training: the encoder's epochs and schedule, to its end; the classifier stage decides which epoch is kept.

        A plateau rule lowers the control's rate too but does not end it early.
        """
        encoder = self.encoder
        return replace(
            self.classifier,
            epochs=encoder.epochs,
            learning_rate=encoder.learning_rate,
            schedule=encoder.schedule,
            patience=encoder.epochs,
        )


# What the documents say; where they are silent, the recommendation of the facts (1.10).
DESCRIBED = ContrastiveSettings()
# The notebooks (facts 1.2, 1.4, 1.6).
CODED = replace(
    DESCRIBED,
    reading="coded",
    resize_filter="nearest",
    copies_kind="coded",
    encoder=Stage(learning_rate=1e-4, schedule="constant", keep="last"),
    classifier=Stage(learning_rate=1e-4, monitor="loss", keep="last"),
    classifier_views=True,
)
# Whole groups on one side, every choice on validation images, the control beside the method, and the rate that all five networks survive.
CORRECTED = replace(
    DESCRIBED,
    reading="corrected",
    split="grouped",
    encoder=Stage(learning_rate=1e-4, patience=10),
    classifier=Stage(learning_rate=1e-4, patience=10),
    control=True,
)
# For two CPU cores: no copies but random views, 15 epochs on a cosine, the last one kept everywhere, so that neither the encoder nor its
# control is cut off in the middle or chosen by a look at validation images.
_REDUCED = Stage(epochs=15, schedule="cosine", keep="last")
REDUCED = replace(CODED, reading="reduced", resize_filter="bilinear", copies=0, encoder=_REDUCED, classifier=_REDUCED, control=True)
READINGS = {"described": DESCRIBED, "coded": CODED, "corrected": CORRECTED, "reduced": REDUCED}
SAMPLE_STAGES = {
    "encoder": {"epochs": 24, "learning_rate": 2e-3, "patience": 24},
    "classifier": {"epochs": 20, "learning_rate": 2e-3, "patience": 20},
}


def default(reading: str, dataset: str) -> ContrastiveSettings:
    """The reading's settings; small on the sample."""
    return for_dataset(READINGS[reading], dataset, **SAMPLE_STAGES)


EVERYWHERE = {
    "epochs": ("encoder.epochs", "classifier.epochs"),
    "learning-rate": ("encoder.learning-rate", "classifier.learning-rate"),
}
COMMAND = Command(ContrastiveSettings, "cervical.training.contrastive:run_contrastive", __doc__, default, EVERYWHERE)
