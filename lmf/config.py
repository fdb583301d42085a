"""Every setting of the LMF study, with where the paper (Sadi et al. 2024) or the authors' code gives it; nothing heavy is imported here.

Options (what a user types) + a reading (what the document says) = `Settings` (what a run does, saved in config.json).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from common.cli import DataOptions, TrainOptions, check_path, check_range, require
from lmf import paper

DATASETS = (*paper.TITLES, "folders", "sample")
LossName = Literal["cce", "wcce", "focal", "ldam", "bwcce", "lmf"]
SampleName = Literal["ham10000", "odir5k", "isic2019", "covid_radiography"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one reading of the paper says; section "Training parameters" unless another is named."""

    losses: Literal["described", "coded"] = "described"
    """Eqs. 1 to 8 as printed (misprints mended), or as programmed: logit scale 30 and class-weighted LDAM, weighted means."""
    preprocessing: Literal["backbone", "unit"] = "backbone"
    """Pixels as the pre-trained weights expect them; the code divides by 255 and no more ("unit"), the paper is silent."""
    split: Literal["paper", "grouped"] = "paper"
    """"Datasets", Table 1: 70:15:15 of each class; lesions and patients are not mentioned."""
    control: bool = False
    """Also train the same network with plain cross-entropy, in `control/`."""
    backbone: str = "efficientnetv2s"
    """"Models": EfficientNetV2, which the paper's own analyses use; V2-S by the code."""
    weights: str = "imagenet"
    """"Models": pre-trained on ImageNet."""
    image_size: int = 224
    """"Datasets": resized to 224x224."""
    resize_filter: Literal["bilinear", "nearest"] = "bilinear"
    """Code: Resize of torchvision 0.13, aspect not kept."""
    epochs: int = 100
    """100 for the tables (60 for the sweep of fig. 4)."""
    batch_size: int = 32
    learning_rate: float = 1e-4
    """Adam."""
    weight_decay: float = 5e-4
    """Added to the gradient as L2, as the code's Adam does; the same for every weight, biases and normalisation included."""
    decay_every: int = 30
    """Epochs between two decays of the learning rate."""
    decay_factor: float = 0.1
    gamma: float = 1.5
    """"Focal loss": gamma = 1.5."""
    max_margin: float = 0.5
    """Code: C of eq. 4 is set so that the largest margin is 0.5."""
    batchnorm_momentum: float = 0.9
    """PyTorch's default (0.1 there); Keras's networks have 0.9 to 0.999, too slow for short runs."""


READINGS = {
    "described": Reading(),
    "coded": Reading(losses="coded", preprocessing="unit"),
    "corrected": Reading(split="grouped", control=True),
}
# The drawn sample is for seeing that everything works, in a minute on a laptop.
SAMPLE: dict[str, Any] = {"backbone": "mobilenetv2_035", "weights": "none", "image_size": 64, "epochs": 8, "learning_rate": 1e-3}
# Code: only EfficientNetV2's own top has dropout before its last layer, and it is kept.
DROPOUT = {"efficientnetv2s": 0.2}


def check_labels_and_groups(options: DataOptions) -> None:
    """Options that the data set would not look at are errors, or they would be recorded as if they had done something."""
    name = options.dataset
    require(
        options.labels_csv is None or name in paper.TITLES, f"--labels-csv: --dataset {name} has labels of its own and takes no such file"
    )
    for option, value in (("group-pattern", options.group_pattern), ("mask-dir", options.mask_dir)):
        require(value is None or name == "folders", f"--{option}: belongs to --dataset folders, not {name}")


@dataclass(frozen=True, kw_only=True)
class LmfOptions(TrainOptions):
    """Data and training options of every LMF command that trains."""

    dataset: str = "sample"
    """ham10000, odir5k, isic2019, covid_radiography, folders (one folder a class), or sample (drawn on the spot, synthetic)."""
    sample: SampleName = "ham10000"
    """Which data set `--dataset sample` imitates."""
    network: Path | None = None
    """A saved Keras model (.keras) to use as the backbone: raw RGB 0..255 in, feature map or vector out."""
    gamma: float | None = None
    """Focusing parameter of the focal loss. Default 1.5."""
    max_margin: float | None = None
    """Margin of the rarest class (eq. 4). Default 0.5."""
    learning_rate: float | None = None
    """Adam's learning rate at the start. Default 1e-4."""
    weight_decay: float | None = None
    """L2 added to the gradient. Default 5e-4."""
    decay_every: int | None = None
    """Epochs between two divisions of the learning rate by ten. Default 30."""

    def __post_init__(self) -> None:
        require(self.dataset in DATASETS, f"--dataset {self.dataset}: expected one of {', '.join(DATASETS)}")
        super().__post_init__()
        require(self.sample in paper.TITLES, f"--sample {self.sample}: expected one of {', '.join(paper.TITLES)}")
        check_path("network", self.network, "file")
        require(self.network is None or self.network.suffix == ".keras", f"--network {self.network}: expected a .keras file")
        require(self.network is None or self.backbone is None, "--network and --backbone exclude each other; give one of them")
        require(self.network is None or self.weights is None, "--network and --weights exclude each other: a saved model brings its own")
        check_labels_and_groups(self)
        require(
            self.dataset != "folders" or self.split != "grouped" or self.group_pattern is not None,
            "--split grouped: expected --group-pattern, which says what part of a file's name is the lesion or patient",
        )
        check_range("gamma", self.gamma, 0, 10)
        check_range("max-margin", self.max_margin, 0, 10)
        check_range("learning-rate", self.learning_rate, 1e-8, 1)
        check_range("weight-decay", self.weight_decay, 0, 1)
        check_range("decay-every", self.decay_every, 1)


@dataclass(frozen=True, kw_only=True)
class TrainLossOptions(LmfOptions):
    """Train one network with one loss and test it: one cell of Tables 2 to 4."""

    loss: LossName = "lmf"
    """cce (eq. 1), wcce (eq. 2), focal (eq. 7), ldam (eq. 5), bwcce (eq. 3) or lmf (eq. 8)."""
    alpha: float | None = None
    """Weight of LDAM in LMF (eq. 8). Default: Table 6's for the data set and backbone, elsewhere 1."""
    beta: float | None = None
    """Weight of the focal loss in LMF (eq. 8). Default: Table 6's for the data set and backbone, elsewhere 1."""
    control: bool | None = None
    """Also train the same network with plain cross-entropy and compare the two. Default: only with `--reading corrected`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("alpha", self.alpha, 0, 100)
        check_range("beta", self.beta, 0, 100)
        require(
            self.loss == "lmf" or (self.alpha is None and self.beta is None), f"--alpha and --beta belong to --loss lmf, not {self.loss}"
        )
        require(self.alpha != 0 or self.beta != 0, "--alpha 0 --beta 0: expected at least one above 0")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one run does: the effective value of every setting that can change its outcome, JSON-able."""

    dataset: str
    synthetic: bool
    reading: str
    split: str
    seed: int
    limit: int | None
    labels: str | None
    group_pattern: str | None
    skip_unreadable: bool
    image_size: int
    resize_filter: Literal["bilinear", "nearest"]
    backbone: str
    weights: str
    preprocessing: str
    dropout: float
    batchnorm_momentum: float
    loss: str
    losses: str
    alpha: float | None
    beta: float | None
    gamma: float
    max_margin: float
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    decay_every: int
    decay_factor: float
    precision: str

    def as_dict(self) -> dict:
        return asdict(self)

    def name_parts(self) -> tuple[str, ...]:
        """The readable beginning of the run folder's name."""
        numbers = f"-a{self.alpha:g}-b{self.beta:g}" if self.loss == "lmf" else ""
        return (self.dataset, Path(self.backbone).stem, self.split, self.reading, f"{self.loss}{numbers}", f"seed{self.seed}")


def settings_of(options: TrainLossOptions) -> Settings:
    """Options and their reading, put together: what is not given is what the reading says, or on `sample` what `SAMPLE` says."""
    reading = READINGS[options.reading]
    if options.dataset == "sample":
        reading = replace(reading, **SAMPLE)
    backbone = str(options.network) if options.network else chosen(options.backbone, reading.backbone)
    preprocessing = "raw" if options.network else backbone if reading.preprocessing == "backbone" else reading.preprocessing
    alpha, beta = paper.alpha_beta(options.dataset, backbone)
    is_lmf = options.loss == "lmf"
    return Settings(
        dataset=f"sample-{options.sample}" if options.dataset == "sample" else options.dataset,
        synthetic=options.dataset == "sample",
        reading=options.reading,
        split=chosen(options.split, reading.split),
        seed=options.seed,
        limit=options.limit,
        labels=options.labels_csv.name if options.labels_csv else None,
        group_pattern=options.group_pattern,
        skip_unreadable=options.skip_unreadable,
        image_size=chosen(options.image_size, reading.image_size),
        resize_filter=reading.resize_filter,
        backbone=options.network.name if options.network else backbone,
        weights=options.network.name if options.network else Path(chosen(options.weights, reading.weights)).name,
        preprocessing=preprocessing,
        dropout=DROPOUT.get(backbone, 0.0),
        batchnorm_momentum=reading.batchnorm_momentum,
        loss=options.loss,
        losses=reading.losses,
        alpha=chosen(options.alpha, alpha) if is_lmf else None,
        beta=chosen(options.beta, beta) if is_lmf else None,
        gamma=chosen(options.gamma, reading.gamma),
        max_margin=chosen(options.max_margin, reading.max_margin),
        epochs=chosen(options.epochs, reading.epochs),
        batch_size=chosen(options.batch_size, reading.batch_size),
        learning_rate=chosen(options.learning_rate, reading.learning_rate),
        weight_decay=chosen(options.weight_decay, reading.weight_decay),
        decay_every=chosen(options.decay_every, reading.decay_every),
        decay_factor=reading.decay_factor,
        precision=options.precision,
    )


def weights_of(options: LmfOptions) -> str:
    """Where the weights come from: "imagenet", "none" or a path (settings hold only its file name)."""
    return chosen(options.weights, SAMPLE["weights"] if options.dataset == "sample" else READINGS[options.reading].weights)


def initial_weights(options: LmfOptions) -> Path | None:
    """The file that the weights come from, which the run knows by its content; None for "imagenet" and "none"."""
    if options.network is not None:
        return options.network
    name = weights_of(options)
    return None if name in ("imagenet", "none") else Path(name)


def with_control(options: TrainLossOptions) -> bool:
    """Whether a cross-entropy control is trained beside the run."""
    return options.loss != "cce" and chosen(options.control, READINGS[options.reading].control)


def chosen(given, default):
    return default if given is None else given


def run_name(options: TrainLossOptions) -> str:
    """Name of the run's default folder: from the settings and the data's place, so that a grid knows it before the data are read."""
    settings = settings_of(options)
    identity = json.dumps([settings.as_dict(), str(options.data_dir.resolve()) if options.data_dir else "", with_control(options)])
    return "-".join((*settings.name_parts(), hashlib.sha256(identity.encode()).hexdigest()[:8]))
