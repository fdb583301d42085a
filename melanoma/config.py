"""Settings of the melanoma study: what the paper says (with its section), what the command line may change.

`Settings` is what a run records; the two readings are instances of it. Training code sees `Settings` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from common.cli import Positional, TrainOptions, check_path, check_range, check_run, require

STUDY = "melanoma"
# Names as in the official files `<image>_attribute_<name>.png`; the order is the paper's (Table 2).
INDICATORS = ("globules", "milia_like_cyst", "negative_network", "pigment_network", "streaks")
CLASSES = ("melanoma", "other")
THRESHOLDS = tuple(step / 10 for step in range(10))  # Table 6
DATASETS = ("sample", "isic2018", "ham10000", "folders")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One run's settings. The values here are the reading `described`."""

    reading: str = "described"
    dataset: str = "sample"
    split: str = "paper"  # the official 100 validation images when present, else a seeded 80/10/10 (DEVIATIONS row 24)
    limit: int | None = None
    seed: int = 0
    indicators: tuple[str, ...] = ()
    missing_mask: str = "error"
    backbone: str = "resnet50"  # §4.1 (A), A.2
    weights: str = "imagenet"  # §4.1 (A), A.2
    image_size: int = 512  # A.3
    resize_filter: Literal["bilinear", "nearest"] = "bilinear"  # not stated
    normalise: str = "image"  # A.3: zero mean, unit variance, in the weights' units; "weights": their fixed constants
    precision: str = "float32"
    learning_rate: float = 1e-4  # A.2 prints 1^-4
    weight_decay: float = 1e-4  # A.2 prints 1^-4
    simclr: bool = True  # Table 3: f_CLR
    segmentation: bool = True  # Table 3: f_Seg
    temperature: float = 0.5  # A.3
    projection: int = 128  # §4.2
    pretrain_batch: int = 24  # A.3
    classifier_batch: int = 16  # A.3
    segmentation_batch: int = 8  # A.3
    pretrain_epochs: int = 50  # not stated
    classifier_epochs: int = 30  # not stated
    segmentation_epochs: int = 30  # not stated
    head_epochs: int = 100  # not stated
    patience: int = 6  # not stated; Algorithm 1 says "while not stop"
    order: str = "phases"  # A.3; "interleaved" is Algorithm 1
    repeats: int = 1  # §5.3, Table 4
    tasks: str = "one"  # Table 5; which outputs an encoder learns (DEVIATIONS rows 11 and 12)
    target: str = "auto"  # score behind the heatmaps: indicator where it varies, else the predicted diagnosis
    class_weights: bool = False
    segment_on: str = "all"  # §4.3: "for every training image"; "nonempty" leaves out images without the indicator
    vat_epsilon: float = 0.15  # root mean square of the perturbation, in deviations; Miyato et al. 2018: 8 over 3072 values is 0.14
    vat_xi: float = 0.01  # of the probe, likewise; their 1e-6 vanishes in float32 next to the image
    vat_weight: float = 1.0  # Miyato et al. 2018

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


DESCRIBED = Settings()
# What a careful experimenter changes: no lesion on two sides, scaling the weights expect, rare classes weighted, the decoder taught
# where there is something to draw.
CORRECTED = Settings(reading="corrected", split="grouped", normalise="weights", class_weights=True, segment_on="nonempty")
READINGS = {"described": DESCRIBED, "corrected": CORRECTED}

# The rows of each table, and the options that make them.
ABLATION = {
    "f_res": {"simclr": False, "segmentation": False},
    "f_res_seg": {"simclr": False, "segmentation": True},
    "f_res_clr": {"simclr": True, "segmentation": False},
    "bio_u_net": {"simclr": True, "segmentation": True},
}
REPEATS = {str(count): {**ABLATION["bio_u_net"], "repeats": count} for count in range(1, 6)}
MULTITASK = {tasks: {**ABLATION["bio_u_net"], "tasks": tasks} for tasks in ("one", "two", "five", "six")}
WHOLE = {"bio_u_net": ABLATION["bio_u_net"]}
BASELINES = {"cams": ABLATION["f_res"], "vat": ABLATION["f_res"], "unet": ABLATION["f_res"]}

# The embedded sample has small images and runs on a CPU in a minute or two.
SAMPLE = {
    "backbone": "mobilenetv2_035",
    "weights": "none",
    "image_size": 96,
    "learning_rate": 1e-3,
    "pretrain_epochs": 2,
    "classifier_epochs": 4,
    "segmentation_epochs": 3,
    "head_epochs": 20,
}


@dataclass(frozen=True, kw_only=True)
class MelanomaOptions(TrainOptions):
    """Dataset A (images, masks, diagnoses), Dataset B (images), the network."""

    unlabelled_dir: Path | None = None
    """Dataset B: any folder of images, no labels needed; what also belongs to Dataset A is left out. On `sample` it is drawn."""
    indicators: tuple[str, ...] | None = None
    """Indicators to learn, of those whose masks are there (globules milia_like_cyst negative_network pigment_network streaks, or
    lesion). Default: all that are there."""
    missing_mask: Literal["error", "empty"] = "error"
    """What an image without one of the mask files means: an error that lists them, or an empty mask. Images may be of any sizes, mixed:
    each is resized with its masks. A mask that is not binary, or not of its image's size, is an error with either value."""
    normalise: Literal["image", "weights"] | None = None
    """`image`: each image to zero mean and unit variance (A.3), then to the weights' range. `weights`: the weights' fixed constants."""
    learning_rate: float | None = None
    """Adam's learning rate; the paper's is 1e-4 for every stage."""
    weight_decay: float | None = None
    """Decoupled weight decay; the paper's is 1e-4."""
    temperature: float | None = None
    """SimCLR's temperature; the paper's is 0.5."""
    pretrain_epochs: int | None = None
    """Epochs of subnetwork 1 (SimCLR)."""
    pretrain_batch: int | None = None
    """Images a SimCLR step; the paper's is 24 (48 views)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.dataset in DATASETS, f"--dataset {self.dataset}: expected one of {', '.join(DATASETS)}")
        require(self.reading != "coded", "--reading coded: the authors published no code; expected described or corrected")
        require(
            not str(self.backbone).startswith(("vgg", "inception", "xception", "nasnet")),
            f"--backbone {self.backbone}: has no four stages at exact strides of 4, 8, 16 and 32; expected resnet50, mobilenetv2_035 or "
            "similar",
        )
        check_path("unlabelled-dir", self.unlabelled_dir, "folder")
        check_range("learning-rate", self.learning_rate, 0.0, 1.0)
        check_range("weight-decay", self.weight_decay, 0.0, 1.0)
        check_range("temperature", self.temperature, 1e-3, 100.0)
        check_range("pretrain-epochs", self.pretrain_epochs, 1)
        check_range("pretrain-batch", self.pretrain_batch, 2)
        size = self.image_size
        require(
            size is None or (size % 32 == 0 and size >= 64),
            f"--image-size {size}: expected a multiple of 32 from 64 on (five halvings, a last map of 2 x 2 at least)",
        )
        require(self.indicators is None or len(self.indicators) > 0, "--indicators: expected at least one name")
        # Half of this study's steps are taken outside `fit`, where Keras's callback would not see them.
        require(not self.tensorboard, "--tensorboard: the melanoma study does not write it; history.csv has every epoch's losses")

    def require_dataset_b(self, what: str) -> None:
        """UsageError where real data comes without Dataset B."""
        require(
            self.dataset == "sample" or self.unlabelled_dir is not None,
            f"--unlabelled-dir: expected a folder of images (Dataset B) for {what}",
        )


@dataclass(frozen=True, kw_only=True)
class AuditOptions(MelanomaOptions):
    """Counts, broken files, copies and leakage of Dataset A, its indicators, and its overlap with Dataset B."""


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(MelanomaOptions):
    """Subnetwork 1 alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_dataset_b("SimCLR")


@dataclass(frozen=True, kw_only=True)
class BioUNetOptions(MelanomaOptions):
    """The four subnetworks."""

    pretrained: Path | None = None
    """Finished `pretrain` run whose encoder is used; default: the one of these settings, trained now if it is missing."""
    simclr: bool = True
    """Begin from subnetwork 1 (Table 3: f_CLR)."""
    segmentation: bool = True
    """Train subnetwork 3 (Table 3: f_Seg); without it the plain classifier f_Res is left."""
    order: Literal["phases", "interleaved"] | None = None
    """`phases`: SimCLR, then classifier, then classifier and segmentation in turn. `interleaved`: Algorithm 1, all three in each step."""
    repeats: int | None = None
    """Segmentation updates an iteration (Table 4)."""
    tasks: Literal["one", "two", "five", "six"] | None = None
    """What an encoder predicts: its indicator; and melanoma; all indicators; all and melanoma (Table 5). The paper's rows: `one`."""
    target: Literal["auto", "indicator", "predicted", "melanoma"] | None = None
    """Score whose gradient makes the heatmaps."""
    classifier_epochs: int | None = None
    """Epochs of subnetwork 2."""
    segmentation_epochs: int | None = None
    """Epochs of subnetwork 3."""
    head_epochs: int | None = None
    """Epochs of subnetwork 4."""
    classifier_batch: int | None = None
    """Images a classifier step; the paper's is 16."""
    segmentation_batch: int | None = None
    """Images a segmentation step; the paper's is 8."""
    patience: int | None = None
    """Epochs without a better validation loss before a stage stops."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pretrained is not None:
            check_run(self.pretrained, "encoder.weights.h5")
        check_range("repeats", self.repeats, 1, 20)
        for name in ("classifier_epochs", "segmentation_epochs", "head_epochs", "classifier_batch", "segmentation_batch", "patience"):
            check_range(name.replace("_", "-"), getattr(self, name), 1)
        require(
            self.pretrained is None or (self.wants_simclr() and self.order != "interleaved"),
            f"--pretrained {self.pretrained}: nothing begins from it ({'--order interleaved' if self.wants_simclr() else 'no SimCLR'})",
        )
        if self.wants_simclr() and self.pretrained is None:
            self.require_dataset_b("SimCLR, or --pretrained RUN, or --no-simclr")

    def wants_simclr(self) -> bool:
        """Whether anything that these options ask for begins from subnetwork 1."""
        return self.simclr


@dataclass(frozen=True, kw_only=True)
class GridOptions(BioUNetOptions):
    """A table: several runs, each made only when it is missing."""

    table: ClassVar[Mapping[str, Mapping[str, Any]]] = WHOLE
    orders: ClassVar[bool] = False  # whether the table has rows for the interleaved order

    seeds: tuple[int, ...] = (0,)
    """Seeds; every cell of the table is run with each."""
    rows: tuple[str, ...] | None = None
    """Rows of the table to run; default: all."""

    def __post_init__(self) -> None:
        for row in self.rows or ():
            require(row in self.table, f"--rows {row}: expected some of {', '.join(self.table)}")
        super().__post_init__()
        decided = {"simclr": self.simclr is True, "segmentation": self.segmentation is True, "repeats": self.repeats is None}
        decided |= {"tasks": self.tasks is None, "order": self.order is None or self.orders}
        for name, free in decided.items():
            option = f"--{name} {getattr(self, name)}" if name in ("repeats", "tasks", "order") else f"--no-{name}"
            require(free, f"{option}: the rows of the table decide that; choose them with --rows, or use the command train")
        require(self.seed == 0, f"--seed {self.seed}: a table is made of several runs; expected --seeds {self.seed}")
        require(len(self.seeds) > 0, "--seeds: expected at least one")
        for seed in self.seeds:
            check_range("seeds", seed, 0, 2**31 - 1)

    def wants_simclr(self) -> bool:
        return any(self.table[row]["simclr"] for row in self.rows or self.table)

    def cell(self, seed: int, row: str) -> BioUNetOptions:
        """The options of one run of the table."""
        own: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(BioUNetOptions)}
        own |= {**self.table[row], "seed": seed}
        return BioUNetOptions(**own if own["simclr"] else {**own, "pretrained": None})


@dataclass(frozen=True, kw_only=True)
class AblationOptions(GridOptions):
    """Table 3; with `--order interleaved` its rows in the order of Algorithm 1."""

    table = ABLATION
    orders = True


@dataclass(frozen=True, kw_only=True)
class RepeatsOptions(GridOptions):
    """Table 4."""

    table = REPEATS


@dataclass(frozen=True, kw_only=True)
class MultitaskOptions(GridOptions):
    """Table 5."""

    table = MULTITASK


@dataclass(frozen=True, kw_only=True)
class BaselineOptions(GridOptions):
    """Table 2's other methods on the plain classifier, VAT, and one plain U-Net an indicator."""

    table = BASELINES

    lime_samples: int = 300
    """Perturbed images a LIME explanation."""
    lime_images: int = 100
    """Test images that LIME explains (it is slow); with fewer than all, the same first ones in each run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("lime-samples", self.lime_samples, 10)
        check_range("lime-images", self.lime_images, 1)
        if "vat" in (self.rows or self.table):
            self.require_dataset_b("VAT, or --rows cams unet")


@dataclass(frozen=True, kw_only=True)
class TablesOptions:
    """Every table and figure again from finished runs; nothing is trained."""

    runs: Positional[Path] = Path("runs/melanoma")
    """Folder that holds the study's runs."""
    output: Path | None = None
    """Folder for tables and figures; default: tables/ in that folder."""

    def __post_init__(self) -> None:
        check_path("runs", self.runs, "folder")


def resolve(options: MelanomaOptions, indicators: tuple[str, ...]) -> Settings:
    """The settings of a run: the reading, the sample's smaller sizes, then every option that was given.

    Args:
        options: parsed command line; None means "what the reading says".
        indicators: the indicators to learn, already checked against the data.
    """
    settings = READINGS[options.reading]
    if options.dataset == "sample":
        settings = replace(settings, **SAMPLE)
    if options.epochs is not None:
        settings = replace(settings, **{f"{stage}_epochs": options.epochs for stage in ("pretrain", "classifier", "segmentation", "head")})
    if options.batch_size is not None:
        settings = replace(settings, **{f"{stage}_batch": options.batch_size for stage in ("pretrain", "classifier", "segmentation")})
    given = {f.name: getattr(options, f.name) for f in fields(options) if getattr(options, f.name) is not None}
    known = {f.name for f in fields(Settings)} - {"reading", "indicators"}
    return replace(settings, indicators=tuple(indicators), **{name: value for name, value in given.items() if name in known})
