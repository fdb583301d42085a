"""What the commands of the melanoma study share: names, the data sets on disk, the network and its optimiser. No Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from common.settings import ExistingFile, ExistingFolder, Limit, Source, Training, Within, check_group_pattern, check_range, require

STUDY = "melanoma"
# Names as in the official files `<image>_attribute_<name>.png`; the order is the paper's (Table 2).
INDICATORS = ("globules", "milia_like_cyst", "negative_network", "pigment_network", "streaks")
CLASSES = ("melanoma", "other")
LESION = "lesion"  # masks of whole lesions, where there are none of the indicators
THRESHOLDS = tuple(step / 10 for step in range(10))  # Table 6
DATASETS = ("sample", "isic2018", "ham10000", "folders")
SHOWN = 3  # test images an indicator on the sheets
SHOWN_FILE = "shown.npz"  # of a run: the arrays that its sheets show
EVERYWHERE = {
    "epochs": ("pretrain-epochs", "classifier-epochs", "segmentation-epochs", "head-epochs"),
    "batch-size": ("pretrain-batch", "classifier-batch", "segmentation-batch"),
}


@dataclass(frozen=True, kw_only=True)
class Dermoscopy(Source):
    """Dataset A (images, masks, diagnoses) and Dataset B (images)."""

    # Diagnoses, groups and masks count by the data's fingerprint, Dataset B by its own, which commands add.
    NOT_RECIPE = Source.NOT_RECIPE | {"mask_dir", "labels_csv", "group_pattern", "unlabelled_dir"}
    CONTENT = Source.CONTENT | {"indicator_labels"}

    mask_dir: ExistingFolder = None
    """Folder with the masks where they lie apart: for `folders` one mask an image (same file stem), for the others as distributed."""
    labels_csv: ExistingFile = None
    """Diagnoses: the ISIC 2019 ground truth, or HAM10000's metadata. None: the file lies beside the images."""
    group_pattern: str | None = None
    """Regular expression with one group, matched on the image path, that names the lesion or patient (for `folders`)."""
    indicator_labels: ExistingFile = None
    """CSV with the column `image` and one column of 0 and 1 an indicator: which image has which, for data without indicator masks. The
    lesion's mask then stands for the mask of each indicator that an image has, and is labelled so."""
    unlabelled_dir: ExistingFolder = None
    """Dataset B: any folder of images, no labels needed; what also belongs to Dataset A is left out. On `sample` it is drawn."""
    indicators: tuple[str, ...] | None = None
    """Indicators to learn (globules milia_like_cyst negative_network pigment_network streaks, or lesion); None: all that are there."""
    missing_mask: Literal["error", "empty"] = "error"
    """What an image without one of the mask files means: an error that lists them, or an empty mask. Images may be of any sizes, mixed:
    each is resized with its masks. A mask that is not binary, or not of its image's size, is an error with either value."""
    limit: Limit = None
    """Use only N images in all (smoke runs); None: all."""

    def check(self) -> None:
        super().check()
        require(self.dataset in DATASETS, f"--dataset {self.dataset}: expected one of {', '.join(DATASETS)}")
        check_group_pattern(self.group_pattern)

    def unused(self) -> dict[str, str]:
        found = super().unused()
        if self.dataset == "sample":
            found |= dict.fromkeys(("mask_dir", "labels_csv", "indicator_labels", "missing_mask"), "the sample brings its own")
        if self.dataset == "folders":
            found |= {"labels_csv": "the class folders are the diagnoses"}
        else:
            found |= {"group_pattern": f"{self.dataset} brings its own groups"}
        return found


@dataclass(frozen=True, kw_only=True)
class MelanomaSettings(Dermoscopy, Training):
    """Data, network and optimiser of one run. The values are the paper's (appendix A.2 and A.3) or, where it is silent, ours."""

    NOT_RECIPE = Dermoscopy.NOT_RECIPE | Training.NOT_RECIPE
    CONTENT = Dermoscopy.CONTENT | Training.CONTENT

    image_size: int = 512
    """Side of the square network input, pixels (A.3)."""
    folds: int = 0
    """Cross-validation by lesion (with --split grouped) in so many folds, one a run; 0: none. `tables` pools the folds' test images."""
    fold: int = 0
    """Which fold is the test set, 0 to --folds minus 1."""
    backbone: str = "resnet50"
    """Network (section 4.1, A.2): one whose maps come at exact strides of 4, 8, 16 and 32; not VGG, Inception, Xception, NASNet."""
    weights: str = "imagenet"
    """`imagenet` (downloads), `none` (from scratch) or the path of a .weights.h5 file (section 4.1, A.2)."""
    resize_filter: Literal["bilinear", "nearest"] = "bilinear"
    """How images are brought to their size (not stated)."""
    normalise: Literal["image", "weights"] = "image"
    """`image`: each image to zero mean and unit variance (A.3), then to the weights' range. `weights`: the weights' fixed constants."""
    learning_rate: Annotated[float, Within(0.0, 1.0, above=True)] = 1e-4
    """Adam's learning rate, for every stage (A.2 prints 1^-4)."""
    weight_decay: Annotated[float, Within(0.0, 1.0)] = 1e-4
    """Adam's weight decay (A.2 prints 1^-4)."""
    decay: Literal["coupled", "decoupled"] = "coupled"
    """`coupled`: added to the gradient, as PyTorch's Adam does, which the paper used. `decoupled`: taken from the weights (AdamW), which at
    these values is 1e-8 of a weight a step."""

    def check(self) -> None:
        super().check()
        require(self.reading != "coded", "--reading coded: the authors published no code; expected described or corrected")
        require(
            not self.backbone.startswith(("vgg", "inception", "xception", "nasnet")),
            f"--backbone {self.backbone}: has no four stages at exact strides of 4, 8, 16 and 32; expected resnet50, mobilenetv2_035 or "
            "similar",
        )
        size = self.image_size
        require(
            size % 32 == 0 and size >= 64,
            f"--image-size {size}: expected a multiple of 32 from 64 on (five halvings, a last map of 2 x 2 at least)",
        )
        if self.folds:
            check_range("folds", self.folds, 2, 100)
            check_range("fold", self.fold, 0, self.folds - 1)
            require(self.split == "grouped", f"--folds {self.folds}: folds keep lesions whole; expected --split grouped")

    def unused(self) -> dict[str, str]:
        found = super().unused() | {"batch_size": "each stage has its own"}
        found |= {"folds": "0 is no folds", "fold": "there are no --folds"} if not self.folds else {}
        return found | ({"decay": "there is no weight decay"} if not self.weight_decay else {})

    def check_pretrained(self, pretrained: Path | None) -> None:
        """`pretrained` (None is allowed) must be a finished `pretrain` run."""
        for name in ("config.json", "encoder.weights.h5", "finished.json"):
            there = pretrained is None or (pretrained / name).is_file()
            require(there, f"--pretrained {pretrained}: not a finished run folder ({name} is missing)")

    def has_dataset_b(self) -> bool:
        """Whether Dataset B is there: the sample draws its own."""
        return self.dataset == "sample" or self.unlabelled_dir is not None


# The embedded sample has small images and runs on a CPU in a minute or two.
SAMPLE: Mapping[str, Any] = {
    "backbone": "mobilenetv2_035",
    "weights": "none",
    "image_size": 96,
    "learning_rate": 1e-3,
    "pretrain_epochs": 2,
    "classifier_epochs": 4,
    "segmentation_epochs": 3,
    "head_epochs": 20,
    "epochs": 4,
}
# What a careful experimenter changes: no lesion on two sides, scaling the weights expect, rare classes weighted, the decoder taught where
# there is something to draw.
CAREFUL: Mapping[str, Any] = {
    "reading": "corrected",
    "split": "grouped",
    "normalise": "weights",
    "class_weights": True,
    "segment_on": "nonempty",
}
S = TypeVar("S", bound=Source)


def changed(settings: S, values: Mapping[str, Any]) -> S:
    """`settings` with those of `values` that it has."""
    known = {each.name for each in fields(settings)}
    return replace(settings, **{name: value for name, value in values.items() if name in known})


def reading(described: S, name: str, dataset: str) -> S:
    """A reading's settings for a data set; small on the sample."""
    found = changed(described, CAREFUL) if name == "corrected" else described
    return changed(replace(found, dataset=dataset), SAMPLE if dataset == "sample" else {})
