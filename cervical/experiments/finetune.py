"""Fine-tuning with the first layers frozen (paper III-C.1, thesis 5.3 a; paper Table I, thesis Table 6.2).

Printed: DenseNet169 0.9717, MobileNetV2 0.9655, VGG16 0.9557, ResNet50 0.9458, VGG19 0.9421. On the default `sample` (300 drawn cells,
64 px, MobileNetV2 0.35 from scratch) it is a demonstration: 12 epochs, under 2 minutes on 2 cores. SIPaKMeD with MobileNetV2: about 4
minutes for 10 epochs without copies on 2 cores; with 6 copies and 50 epochs about 2 hours there, minutes on a GPU; 0.8 GB of cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from cervical.experiments.base import CellTraining, Stage, for_dataset
from common.errors import UsageError
from common.settings import Command, Within, check_range

# Layers the document freezes, counted on the layer list of the network without its top (paper III-C.1, thesis 5.3).
FREEZE = {"vgg16": 13, "vgg19": 17, "resnet50": 86, "densenet169": 249, "mobilenetv2": 100, "mobilenetv2_035": 100}
CUT = ("vgg16", "vgg19", "resnet50")  # the code takes the features of these from an inner layer


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(CellTraining):
    """Fine-tuning one network."""

    STAGES: ClassVar[tuple[str, ...]] = ("training",)

    weights: str = "imagenet"
    """`imagenet` (downloads), `none` (from scratch) or the path of a .weights.h5 file."""
    training: Stage = Stage()
    """The one stage of training."""
    body: Literal["whole", "truncated"] = "whole"
    """VGG16, VGG19 and ResNet50 as the text names them, or cut at an inner layer as in the code, where ResNet50 trains one convolution."""
    freeze: int | Literal["paper"] = "paper"
    """First layers frozen: a number, or the paper's for this network (none of a network from scratch)."""
    pixels: Literal["weights", "raw"] = "weights"
    """Input scaled as the weights expect, or raw 0..255 as the code feeds it (facts 1.3)."""
    views: bool = False
    """Show every image newly flipped, turned and scaled in each epoch; with --copies 0 the cheapest good augmentation. Of no document."""
    label_smoothing: Annotated[float, Within(0, 0.9)] = 0.0
    """Share of a label that is spread over all classes (Szegedy et al. 2016, section 7). Of no document."""
    mixup: Annotated[float, Within(0, 10)] = 0.0
    """Alpha of the Beta distribution by which pairs of a batch are mixed (Zhang et al. 2018, section 2); 0: none. Of no document."""
    dropout_everywhere: bool = True
    """Dropout also in the heads of DenseNet169 and MobileNetV2, where the code has none."""

    def check(self) -> None:
        super().check()
        if self.freeze != "paper":
            check_range("freeze", self.freeze, 0)
        elif self.weights != "none" and self.backbone not in FREEZE:
            raise UsageError(f"--freeze paper: the paper names no number of layers for {self.backbone}; expected --freeze K")

    def unused(self) -> dict[str, str]:
        found = super().unused()
        if self.backbone in CUT:
            return found | {"dropout_everywhere": f"the head of {self.backbone} has dropout in every reading"}
        return found | {"body": f"only {', '.join(CUT)} are cut in the code"}

    def frozen_layers(self, backbone: str) -> int:
        """First layers of the network that are not trained; of one from scratch none, unless a number is given."""
        if self.freeze != "paper":
            return self.freeze
        return 0 if self.weights == "none" else FREEZE.get(backbone, 0)


# The documents' learning rate of 1e-3 holds for all experiments (paper IV-A, thesis Table 6.1). Where they are silent or impossible:
# the recommendation of the facts (1.10).
DESCRIBED = FinetuneSettings()
# The notebooks (facts 1.2 to 1.4).
CODED = replace(
    DESCRIBED,
    reading="coded",
    resize_filter="nearest",
    copies_kind="coded",
    body="truncated",
    training=Stage(keep="last"),
    pixels="raw",
    dropout_everywhere=False,
)
# What a careful experimenter does: whole groups on one side, and the learning rate that all five networks survive.
CORRECTED = replace(DESCRIBED, reading="corrected", split="grouped", training=Stage(learning_rate=1e-4, patience=10))
# For two CPU cores: no copies, all epochs on a cosine, the last one kept.
REDUCED = replace(CODED, reading="reduced", resize_filter="bilinear", copies=0, training=Stage(epochs=15, schedule="cosine", keep="last"))
READINGS = {"described": DESCRIBED, "coded": CODED, "corrected": CORRECTED, "reduced": REDUCED}
SAMPLE_STAGE = {"epochs": 12, "learning_rate": 2e-3, "patience": 12}


def default(reading: str, dataset: str) -> FinetuneSettings:
    """The reading's settings; small on the sample."""
    return for_dataset(READINGS[reading], dataset, training=SAMPLE_STAGE)


EVERYWHERE = {"epochs": ("training.epochs",), "learning-rate": ("training.learning-rate",)}
COMMAND = Command(FinetuneSettings, "cervical.training.finetune:run_finetune", __doc__, default, EVERYWHERE)
