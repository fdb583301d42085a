"""Train one network with one loss and test it: one cell of Tables 2 to 4.

Printed for LMF with EfficientNetV2 on HAM10000: accuracy 91.21 %, macro F1 84.61 %. The paper's 100 epochs of HAM10000 at 224 px need a
GPU; MobileNetV2 0.35 at 112 px takes about 50 s an epoch on two CPU cores. Disk: 150 kB of cache an image at 224 px, plus the model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from common.settings import Command, Epochs, ExistingFile, Training, Within, require
from lmf import paper
from lmf.experiments.base import DatasetName, LmfSource, Sampler

LossName = Literal["cce", "wcce", "focal", "ldam", "bwcce", "lmf", "class_balanced", "balanced_softmax", "logit_adjusted"]
# Which settings of a loss act: all others are refused and are no part of its recipe.
LOSS_SETTINGS: dict[str, tuple[str, ...]] = {
    "focal": ("gamma", "max_margin"),
    "ldam": ("max_margin", "scale"),
    "lmf": ("alpha", "beta", "gamma", "max_margin", "scale"),
    "class_balanced": ("effective_beta",),
    "logit_adjusted": ("tau",),
}
OF_LOSSES = ("alpha", "beta", "gamma", "max_margin", "scale", "effective_beta", "tau")
# Ranges of what several losses, and the commands that set them side by side, have.
UpTo10 = Annotated[float, Within(0, 10)]
Scale = Annotated[float, Within(0, 1000, above=True)]
Beta = Annotated[float, Within(0, 0.9999999)]
Fraction = Annotated[float, Within(0, 1, above=True)]
TWO_READINGS = ("wcce", "bwcce", "ldam", "lmf")


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Training, LmfSource):
    """Settings of one training; section "Training parameters" of the paper unless another is named."""

    NOT_RECIPE: ClassVar[frozenset[str]] = Training.NOT_RECIPE | LmfSource.NOT_RECIPE | {"control"}
    CONTENT: ClassVar[frozenset[str]] = Training.CONTENT | {"network"}

    dataset: DatasetName = "sample"
    """ham10000, odir5k, isic2019, covid_radiography, folders (one folder a class), or sample (drawn on the spot, synthetic)."""
    backbone: str = "efficientnetv2s"
    """Network ("Models": EfficientNetV2, which the paper's own analyses use; V2-S by the code), or any class of `keras.applications`."""
    weights: str = "imagenet"
    """`imagenet` (downloads; "Models"), `none` (from scratch) or the path of a .weights.h5 file."""
    network: ExistingFile = None
    """A saved Keras model (.keras) in the backbone's place: raw RGB 0..255 in, feature map or vector out; None: the backbone."""
    preprocessing: Literal["backbone", "unit"] = "backbone"
    """Pixels as the pre-trained weights expect them, or divided by 255 and no more, as the code does; the paper is silent."""
    resize_filter: Literal["bilinear", "nearest"] = "bilinear"
    """How images are resized (code: Resize of torchvision 0.13, aspect not kept)."""
    dropout: Annotated[float, Within(0, 0.95)] = 0.2
    """Before the last layer of EfficientNetV2-S, whose own top has it and is kept by the code; other networks have none."""
    batchnorm_momentum: Annotated[float, Within(0, 0.9999)] = 0.9
    """PyTorch's default (0.1 there); Keras's networks have 0.9 to 0.999, too slow for short runs."""
    epochs: Epochs = 100
    """Epochs; the one with the best macro F1 on validation images is kept (100 for the tables, 60 for the sweep of fig. 4)."""
    learning_rate: Fraction = 1e-4
    """Adam's learning rate at the start."""
    weight_decay: Annotated[float, Within(0, 1)] = 5e-4
    """Added to the gradient as L2, as the code's Adam does; the same for every weight, biases and normalisation included."""
    decay_share: Fraction = 0.3
    """Share of all epochs between two decays of the learning rate: after 30, 60 and 90 of the paper's 100."""
    decay_factor: Fraction = 0.1
    """The learning rate is multiplied by it at each decay."""
    loss: LossName = "lmf"
    """cce (eq. 1), wcce (eq. 2), focal (eq. 7), ldam (eq. 5), bwcce (eq. 3) or lmf (eq. 8); not the paper's: class_balanced (effective
    number of samples), balanced_softmax, logit_adjusted."""
    loss_reading: Literal["described", "coded"] = "described"
    """Eqs. 1 to 8 as printed (misprints mended), or as programmed: class-weighted LDAM, weighted means."""
    alpha: Annotated[float | None, Within(0, 100)] = None
    """Weight of LDAM in LMF (eq. 8); None: Table 6's for the data set and network, 1 where it has none."""
    beta: Annotated[float | None, Within(0, 100)] = None
    """Weight of the focal loss in LMF (eq. 8); None: as for alpha."""
    gamma: UpTo10 = 1.5
    """Focusing parameter of the focal loss ("Focal loss": 1.5)."""
    max_margin: UpTo10 = 0.5
    """Margin of the rarest class (eq. 4; code)."""
    scale: Scale = 1.0
    """LDAM's logits are multiplied by it (paper: no scale; code: 30)."""
    effective_beta: Beta = 0.999
    """Beta of the class-balanced loss: 0 is cross-entropy, towards 1 the weights are those of the inverse counts (Cui et al. 2019)."""
    tau: UpTo10 = 1.0
    """Strength of the logit adjustment in training (Menon et al. 2021); 0 is cross-entropy, 1 balanced softmax."""
    sampler: Sampler = "shuffle"
    """What an epoch draws: `shuffle`: every image once; `balanced`: a class, each alike, then one of its images; `oversample`: rare
    classes' images again; `undersample`: as many of each class as the rarest has."""
    deferred_share: Annotated[float, Within(0, 1)] = 1.0
    """Share of all epochs after which class-balanced weights act beside the loss (LDAM-DRW: 0.8); 1: never."""
    deferred_beta: Beta = 0.9999
    """Beta of these weights (LDAM-DRW: 0.9999)."""
    head: Literal["linear", "cosine"] = "linear"
    """Last layer: the document's, or --head-scale times the cosine between features and class weights (LDAM's own paper)."""
    head_scale: Scale = 30.0
    """Scale of the cosine head; LDAM's margins are then taken from the cosine."""
    adjust_tau: UpTo10 = 0.0
    """Logit adjustment after training: log class shares times it are taken from the logits for good; 0: none."""
    balanced_limit: bool = False
    """--limit takes as many images of each class as it can, instead of the classes' own shares: another problem, without imbalance."""
    control: bool = False
    """Also train the same network with plain cross-entropy, in `control/`, and compare the two."""

    def check(self) -> None:
        super().check()
        alpha, beta = self.alpha_beta
        require(self.loss != "lmf" or alpha > 0 or beta > 0, "--alpha 0 --beta 0: expected at least one above 0")
        require(self.network is None or self.network.suffix == ".keras", f"--network {self.network}: expected a .keras file")

    def unused(self) -> dict[str, str]:
        found = super().unused()
        acting = LOSS_SETTINGS.get(self.loss, ())
        found |= {name: f"--loss {self.loss} has none" for name in OF_LOSSES if name not in acting}
        if self.network is not None:
            found |= dict.fromkeys(("backbone", "weights", "preprocessing"), "--network brings its own")
        if self.network is not None or self.backbone != "efficientnetv2s":
            found["dropout"] = "only EfficientNetV2-S's own top has dropout"
        if self.loss not in TWO_READINGS:
            found["loss_reading"] = f"--loss {self.loss} has one reading"
        if self.plain():
            found["control"] = "these settings are the control's"
        if self.decay_share == 1:
            found["decay_factor"] = "--decay-share 1 never lets the rate fall"
        if self.deferred_share == 1:
            found["deferred_beta"] = "--deferred-share 1 defers the weights for good"
        if self.head == "linear":
            found["head_scale"] = "--head linear has none"
        elif "scale" in acting:
            found["scale"] = "--head cosine has its own, --head-scale"
        if self.limit is None:
            found["balanced_limit"] = "without --limit all images are used"
        return found

    def plain(self) -> bool:
        """Whether nothing is done about the imbalance: plain cross-entropy, the control of all else."""
        return self == self.control_settings(control=self.control)

    def control_settings(self, **changes: Any) -> TrainSettings:
        """The same training with plain cross-entropy and nothing else against the imbalance."""
        return replace(self, **{**paper.WITHOUT, "loss": "cce", "control": False, **changes})

    @property
    def alpha_beta(self) -> tuple[float, float]:
        """Weights of LDAM and the focal loss, where they are not given those of Table 6, or 1."""
        alpha, beta = paper.alpha_beta(self.dataset, self.backbone)
        return alpha if self.alpha is None else self.alpha, beta if self.beta is None else self.beta

    def settled(self) -> TrainSettings:
        """The same settings with alpha and beta as numbers, so that recipes say what was used."""
        alpha, beta = self.alpha_beta
        return replace(self, alpha=alpha, beta=beta)

    def learning_rate_at(self, epoch: int) -> float:
        """Learning rate of an epoch (0-based): it falls by `decay_factor` after every `decay_share` of all epochs."""
        return self.learning_rate * self.decay_factor ** (epoch // max(1, round(self.decay_share * self.epochs)))


DESCRIBED = TrainSettings()
CODED = replace(DESCRIBED, reading="coded", loss_reading="coded", scale=30.0, preprocessing="unit")
CORRECTED = replace(DESCRIBED, reading="corrected", split="grouped", control=True)
READINGS = {"described": DESCRIBED, "coded": CODED, "corrected": CORRECTED}
# The drawn sample is for seeing that everything works, in a minute on a laptop.
SAMPLE: dict[str, Any] = {"backbone": "mobilenetv2_035", "weights": "none", "image_size": 64, "epochs": 8, "learning_rate": 1e-3}


def default(reading: str, dataset: str) -> TrainSettings:
    """The reading's settings; on the sample a small network, small images and few epochs."""
    settings = READINGS[reading]
    return replace(settings, dataset=dataset, **(SAMPLE if dataset == "sample" else {}))


COMMAND = Command(TrainSettings, "lmf.training.train:train", __doc__ or "", default)
