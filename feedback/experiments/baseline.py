"""Train the base classifier ("Skin Care VGG16", Tables 3.1 and 4.1).

Printed: accuracy 0.71 over eight classes of ISIC 2019 (sensitivity MEL 0.61, NV 0.74), 37 hours on a GTX Titan. Cost: on `sample` half a
minute on 2 cores; HAM10000 with mobilenetv2_035 at 112 px about 2 minutes an epoch on 2 cores, VGG16 at 227 px needs a GPU. Disk: 280 MB
for VGG16, 2 GB of decoded images at 227 px.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from common.settings import Command, Epochs, ExistingFile, ExistingFolder, Source, Training, Within, check_group_pattern, require

DATASETS = ("sample", "folders", "isic2018", "isic2019", "ham10000")
Rate = Annotated[float, Within(0, 10.0, above=True)]


@dataclass(frozen=True, kw_only=True)
class Lesions(Source):
    """Images of lesions with a diagnosis."""

    NOT_RECIPE = Source.NOT_RECIPE | {"labels_csv"}  # it counts by the labels that are read

    labels_csv: ExistingFile = None
    """ISIC 2019's ground truth, where it does not lie beside the images (ISIC 2018 has no diagnoses; HAM10000 has no SCC)."""
    group_pattern: str | None = None
    """Regular expression with one group, matched on the image path, that names the lesion or patient (for `folders`)."""

    def check(self) -> None:
        super().check()
        require(self.dataset in DATASETS, f"--dataset {self.dataset}: unknown; expected one of {', '.join(DATASETS)}")
        check_group_pattern(self.group_pattern)

    def unused(self) -> dict[str, str]:
        found = super().unused()
        if self.dataset != "folders":
            found["group_pattern"] = f"{self.dataset} names its lesions itself"
        if self.dataset in ("sample", "folders"):
            found["labels_csv"] = f"{self.dataset} has its own labels"
        return found


@dataclass(frozen=True, kw_only=True)
class MarkedLesions(Lesions):
    """Images of lesions with a diagnosis and masks."""

    NOT_RECIPE = Lesions.NOT_RECIPE | {"mask_dir"}

    mask_dir: ExistingFolder = None
    """Folder with the masks, where they do not lie beside the images."""

    def unused(self) -> dict[str, str]:
        return super().unused() | ({"mask_dir": "the sample has its own masks"} if self.dataset == "sample" else {})


@dataclass(frozen=True, kw_only=True)
class BaselineSettings(Lesions, Training):
    """The base classifier, thesis section 3.2 and Table 3.1."""

    NOT_RECIPE = Lesions.NOT_RECIPE | Training.NOT_RECIPE

    backbone: str = "vgg16"
    weights: str = "imagenet"
    image_size: int = 227
    resize_filter: Literal["nearest", "bilinear"] = "nearest"
    """Filter that shrinks the images (Table 3.1: nearest)."""
    epochs: Epochs = 20
    """Epochs (Table 3.1)."""
    batch_size: int = 32
    """Images a step (thesis: not stated)."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """`sgd` has momentum 0.9 (thesis: "a mini-batch algorithm")."""
    learning_rate: Rate = 1e-4
    """Learning rate of the optimiser (thesis: not stated)."""
    frozen_until: str = ""
    """Last layer that does not train, such as block2_pool; empty: all train (thesis: not stated)."""
    flip: bool = True
    """Flip half of the training images left to right (Table 3.1)."""
    rotations: Annotated[int, Within(1, 360)] = 24
    """Turn each training image by one of so many steps over 360 degrees (Table 3.1: 24); 1: not at all."""
    class_weights: Literal["inverse", "printed", "none"] = "inverse"
    """`inverse` to the class frequency; `printed`: Table 3.1's numbers, which are the frequencies themselves (flagged in the report)."""
    head: Literal["flatten", "average"] = "flatten"
    """What the dense layers read: the flattened last map (thesis), or its average (small networks: a flattened map would need more
    weights than the network has)."""
    head_units: Annotated[int, Within(0, 8192)] = 2048
    """Width of the two dense layers (thesis: 2048; 0: none)."""
    dropout: Annotated[float, Within(0, 0.95)] = 0.5
    """Dropout rate after each dense layer (thesis: not stated)."""

    def check(self) -> None:
        super().check()
        require(self.reading != "coded", "--reading coded: the thesis's code is not public; expected described or corrected")

    def unused(self) -> dict[str, str]:
        return super().unused() | ({} if self.head_units else {"dropout": "there are no dense layers (--head-units 0)"})


DESCRIBED = BaselineSettings()
# Whole lesions on one side.
CORRECTED = replace(DESCRIBED, reading="corrected", split="grouped", resize_filter="bilinear")
SAMPLE = {
    "backbone": "mobilenetv2_035", "weights": "none", "image_size": 64, "epochs": 8, "learning_rate": 2e-3, "batch_size": 16,
    "head": "average", "head_units": 256, "dropout": 0.3,
}  # fmt: skip


def default(reading: str, dataset: str) -> BaselineSettings:
    """The reading's settings; its small variant on the drawn sample."""
    settings = replace(CORRECTED if reading == "corrected" else DESCRIBED, dataset=dataset)
    return replace(settings, **SAMPLE) if dataset == "sample" else settings


def small_head(backbone: str) -> tuple[str, ...]:
    """What `--backbone` sets besides: a network that is no VGG gets the small head."""
    if backbone.startswith("vgg"):
        return ("--backbone", backbone, "--head", "flatten", "--head-units", "2048")
    return ("--backbone", backbone, "--head", "average", "--head-units", "256")


COMMAND = Command(BaselineSettings, "feedback.training.baseline:run_baseline", __doc__, default, presets={"backbone": small_head})
