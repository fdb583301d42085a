"""Settings of the cervical study: the three readings as data, and the options of every command.

Sources: "paper" and "thesis" are the two documents (see `cervical/__init__.py`); "code" is what the authors' notebooks do, by the
reference facts. Nothing heavy is imported here: options are checked before Keras loads.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from common.cli import BACKBONE_NAMES, SourceOptions, TrainOptions, check_path, check_range, require
from common.errors import UsageError

CLASSES = ("Dyskeratotic", "Koilocytotic", "Metaplastic", "Parabasal", "Superficial-Intermediate")
CLASS_COSTS = ("balanced", "printed")  # weights inverse to the classes' frequencies, as Table II; other values of --costs name a file
PAPER_BACKBONES = ("vgg16", "vgg19", "resnet50", "densenet169", "mobilenetv2")
DATASETS = ("sipakmed", "folders", "sample")
Method = Literal["finetune", "cost-sensitive", "contrastive"]
METHODS: tuple[Method, ...] = ("finetune", "cost-sensitive", "contrastive")
Loss = Literal["npairs", "multiclass-npair", "ntxent", "triplet", "supcon", "ntxent-coded", "triplet-coded"]
# Layers the document freezes, counted on the layer list of the network without its top (paper III-C.1, thesis 5.3).
FREEZE = {"vgg16": 13, "vgg19": 17, "resnet50": 86, "densenet169": 249, "mobilenetv2": 100, "mobilenetv2_035": 100}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One call of `fit`, optimiser Adam. Common to both documents and the code: at most 50 epochs (paper IV-A, thesis Table 6.1)."""

    epochs: int = 50
    learning_rate: float = 1e-3
    monitor: str | None = "val_loss"
    """What early stopping, the plateau rule and the choice of the epoch look at; None switches all three off."""
    patience: int = 3
    """Early stopping (code: patience 3 in every stage that has it; the texts name none)."""
    reduce_factor: float = 0.2
    reduce_patience: int = 2
    min_learning_rate: float = 1e-5
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    """`plateau`: the rule above. `constant`: neither that rule nor early stopping. `cosine` (not of the documents): falls to 0 over the
    epochs, no early stopping."""
    keep: Literal["best", "last"] = "best"
    """Weights the stage ends with. The code saves its best epoch but evaluates the last (facts 1.4)."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides a result, effective values. Training code reads these and never asks for the reading's name."""

    reading: str = "described"
    backbone: str = "mobilenetv2"
    weights: str = "none"
    batch_size: int = 32  # thesis 6.3; Keras's default in the code
    seed: int = 0
    # Data
    image_size: int = 110  # paper III-B
    resize_filter: Literal["nearest", "bilinear"] = "bilinear"
    split: Literal["paper", "grouped"] = "paper"
    split_seed: int = 42  # random_state of the code; the texts name none
    copies: int = 6  # 2589 -> 18,123 images (paper III-A)
    copies_kind: Literal["described", "coded"] = "described"
    # Fine-tuning and cost-sensitive training
    finetune: Stage = field(default_factory=Stage)
    pixels: Literal["weights", "raw"] = "weights"
    """Input of the fine-tuned networks: scaled as their weights expect, or raw 0..255 as the code feeds them (facts 1.3)."""
    freeze: int | None = None
    """First layers frozen; None: the document's number for the backbone, 0 for a network without pre-trained weights."""
    views: bool = False
    """Fine-tuning on new random flips, turns and sizes in every epoch. Not of the documents, whose only augmentation is the copies."""
    dropout_everywhere: bool = True
    """Dropout 0.5 (paper IV-A) also in the heads of DenseNet169 and MobileNetV2, where the code has none."""
    dropout: float = 0.5
    costs: str = "printed"
    init: Literal["finetuned", "start"] = "start"
    # Contrastive learning
    loss: Loss = "npairs"
    temperature: float = 0.05  # code; the texts name none
    margin: float = 0.2  # code
    encoder: Stage = field(default_factory=Stage)
    classifier: Stage = field(default_factory=Stage)
    contrastive_pixels: Literal["adapted", "weights"] = "adapted"
    """Input of the encoder: mean and variance of the training images (thesis 5.3, code), or scaled as pre-trained weights expect."""
    classifier_views: bool = False
    """Random views (flip, rotation, scaling) also while the classifier is trained. Thesis 3.3 trains it on fixed embeddings."""
    head_input: Literal["features", "projection"] = "features"
    control: bool = False


# What the documents say; where they are silent or impossible, the recommendation of the facts (1.10). Their learning rate of 1e-3 holds
# for all experiments (paper IV-A, thesis Table 6.1); the code's 1e-4 is in the other two readings.
DESCRIBED = Settings(encoder=Stage(monitor=None, keep="last"))

# What the notebooks do (facts 1.2 to 1.6).
CODED = Settings(
    reading="coded",
    resize_filter="nearest",
    copies_kind="coded",
    finetune=Stage(keep="last"),
    pixels="raw",
    dropout_everywhere=False,
    init="finetuned",
    encoder=Stage(learning_rate=1e-4, monitor=None, keep="last"),
    classifier=Stage(learning_rate=1e-4, monitor="loss", keep="last"),
    classifier_views=True,
)

# What a careful experimenter does: whole slides on one side, selection on validation, costs from the training set, equal starts, the
# control beside the method; and the learning rate that all five networks survive from scratch.
CORRECTED = Settings(
    reading="corrected",
    split="grouped",
    costs="balanced",
    encoder=Stage(learning_rate=1e-4, patience=10),
    classifier=Stage(learning_rate=1e-4, patience=10),
    finetune=Stage(learning_rate=1e-4, patience=10),
    control=True,
)

READINGS = {"described": DESCRIBED, "coded": CODED, "corrected": CORRECTED}

# The drawn cells are a demonstration on two CPU cores, not an experiment: a small network on small images for a few epochs.
SAMPLE_BACKBONE, SAMPLE_IMAGE_SIZE, SAMPLE_COPIES = "mobilenetv2_035", 64, 3
SAMPLE_STAGES = {
    "finetune": Stage(epochs=12, learning_rate=2e-3, patience=12),
    "encoder": Stage(epochs=24, learning_rate=2e-3, patience=24, monitor=None, keep="last"),
    "classifier": Stage(epochs=20, learning_rate=2e-3, patience=20),
}


def _dataset_known(options: SourceOptions) -> None:
    require(options.dataset in DATASETS, f"--dataset {options.dataset}: unknown; expected one of {', '.join(DATASETS)}")


@dataclass(frozen=True, kw_only=True)
class StudyOptions(TrainOptions):
    """What every training command of this study takes."""

    copies: int | None = None
    """Augmented copies of each training image, 0 to 6 (paper: 6; sample: 3)."""
    learning_rate: float | None = None
    """Learning rate of Adam, in every stage."""
    keep: Literal["best", "last"] | None = None
    """Evaluate the epoch with the best monitored value, or the last one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _dataset_known(self)
        check_range("copies", self.copies, 0, 6)
        require(self.learning_rate is None or 0 < self.learning_rate <= 1, f"--learning-rate {self.learning_rate}: expected 0 to 1")


@dataclass(frozen=True, kw_only=True)
class ViewsOptions(StudyOptions):
    """Fine-tuning but for the number of frozen layers."""

    views: bool = False
    """Show every image newly flipped, turned and scaled in each epoch; with --copies 0 the cheapest good augmentation."""
    schedule: Literal["plateau", "cosine"] | None = None
    """Learning rate: the documents' plateau rule with early stopping, or a cosine to 0 over all epochs."""


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(ViewsOptions):
    freeze: int | None = None
    """Freeze the first K layers of the network (default: the paper's K; 0 without pre-trained weights)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("freeze", self.freeze, 0)


@dataclass(frozen=True, kw_only=True)
class CostSensitiveOptions(FinetuneOptions):
    costs: str | None = None
    """`balanced` (from the training set), `printed` (paper III-C.2), or a FILE: CSV or JSON, class -> cost, or a full matrix."""
    init: Literal["finetuned", "start"] | None = None
    """`finetuned`: go on from the fine-tuned model, as the authors did (it is trained first if missing). `start`: an equal start."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.costs not in (None, *CLASS_COSTS):
            check_path("costs", Path(str(self.costs)), "file")


@dataclass(frozen=True, kw_only=True)
class EncoderOptions(StudyOptions):
    encoder_epochs: int | None = None
    """Epochs of the encoder (and of the control); --epochs sets both stages."""
    classifier_epochs: int | None = None
    """Epochs of the classifier on the frozen encoder."""
    temperature: float | None = None
    """Temperature of npairs, ntxent and supcon."""
    head_input: Literal["features", "projection"] | None = None
    """The classifier reads the encoder's features (code) or the projection (papers' figure 2)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("encoder-epochs", self.encoder_epochs, 1)
        check_range("classifier-epochs", self.classifier_epochs, 1)
        require(self.temperature is None or self.temperature > 0, f"--temperature {self.temperature}: expected more than 0")


@dataclass(frozen=True, kw_only=True)
class ContrastiveOptions(EncoderOptions):
    loss: Loss | None = None
    """Contrastive loss (paper: npairs). The two `-coded` ones are the authors' broken competitors."""
    control: bool | None = None
    """Also train the control: the same network with plain cross-entropy, in `control/` inside the run folder."""


@dataclass(frozen=True, kw_only=True)
class GridOptions(StudyOptions):
    """What commands of many runs take besides."""

    backbones: tuple[str, ...] = ()
    """Networks; --backbone is the same for one."""
    seeds: tuple[int, ...] = ()
    """Seeds; more than one gives mean and deviation. Default: the one of --seed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.backbones:
            require(name in BACKBONE_NAMES, f"--backbones {name}: unknown; expected some of {', '.join(BACKBONE_NAMES)}")
        for seed in self.seeds:
            check_range("seeds", seed, 0, 2**31 - 1)

    @property
    def all_seeds(self) -> tuple[int, ...]:
        return self.seeds or (self.seed,)

    def all_backbones(self, otherwise: tuple[str, ...]) -> tuple[str, ...]:
        """The networks asked for; none asked: `otherwise`, and on `sample` the small one."""
        asked = self.backbones or ((self.backbone,) if self.backbone else ())
        return asked or ((SAMPLE_BACKBONE,) if self.dataset == "sample" else otherwise)


@dataclass(frozen=True, kw_only=True)
class CompareLossesOptions(GridOptions, EncoderOptions):
    losses: tuple[Loss, ...] = ("npairs", "ntxent", "triplet", "supcon")
    """Losses to compare; the first is what the others are measured against."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.losses), "--losses: expected at least one")


@dataclass(frozen=True, kw_only=True)
class FreezeDepthOptions(GridOptions, ViewsOptions):
    depths: tuple[int, ...] = ()
    """Numbers of frozen layers to try (default: five between none and all, with the paper's)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for depth in self.depths:
            check_range("depths", depth, 0)


@dataclass(frozen=True, kw_only=True)
class TablesOptions(GridOptions, EncoderOptions, CostSensitiveOptions):
    methods: tuple[Method, ...] = METHODS
    """Methods, one printed table each. Networks by default: the paper's five; on `sample` the small one."""
    losses: tuple[Loss, ...] = ("npairs",)
    """Losses of the contrastive runs; the first brings the control along."""
    readings: tuple[Literal["described", "coded", "corrected"], ...] = ()
    """Readings side by side (default: the one of --reading)."""
    controls: bool = True
    """Train the control of every contrastive run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.methods) and bool(self.losses), "--methods and --losses: expected at least one each")


@dataclass(frozen=True, kw_only=True)
class SizeAnalysisOptions(SourceOptions):
    limit: int | None = None
    """Use only N images in all, class-balanced (smoke runs)."""
    skip_unreadable: bool = False
    """Go on without images that cannot be decoded (otherwise they are listed and the command stops)."""
    run_dir: Path | None = None
    """Folder for the figures; default runs/cervical/size-analysis/<data set>."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _dataset_known(self)
        check_range("limit", self.limit, 1)


@dataclass(frozen=True, kw_only=True)
class AuditOptions(SourceOptions):
    """Counts, unreadable files, copies and leakage of a data set."""

    seed: int = 0
    """Seed of the grouped split."""
    run_dir: Path | None = None
    """Folder for the report; default runs/cervical/audit/<data set>."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _dataset_known(self)
        check_range("seed", self.seed, 0, 2**31 - 1)


def effective(options: StudyOptions) -> Settings:
    """The reading's settings with the sample's defaults and then everything the user gave put over them."""
    settings = READINGS[options.reading]
    sample = options.dataset == "sample"
    if sample:
        settings = replace(settings, image_size=SAMPLE_IMAGE_SIZE, copies=SAMPLE_COPIES, backbone=SAMPLE_BACKBONE)
        for stage, shape in SAMPLE_STAGES.items():
            own = getattr(settings, stage)
            changed: dict[str, Any] = {stage: replace(shape, keep=own.keep, monitor=own.monitor)}
            settings = replace(settings, **changed)
    given = {
        name: getattr(options, name)
        for name in (
            "backbone",
            "batch_size",
            "image_size",
            "split",
            "copies",
            "freeze",
            "costs",
            "init",
            "loss",
            "temperature",
            "head_input",
            "control",
        )
        if getattr(options, name, None) is not None
    }
    settings = replace(settings, **given, seed=options.seed)
    if getattr(options, "views", False):
        settings = replace(settings, views=True)
    schedule = getattr(options, "schedule", None)
    if schedule is not None:
        settings = replace(settings, finetune=replace(settings.finetune, schedule=schedule))
    if settings.split == "grouped":
        settings = replace(settings, split_seed=options.seed)
    common = {"learning_rate": options.learning_rate, "keep": options.keep}
    epochs = {
        "finetune": options.epochs,
        "encoder": getattr(options, "encoder_epochs", None) or options.epochs,
        "classifier": getattr(options, "classifier_epochs", None) or options.epochs,
    }
    for stage, number in epochs.items():
        own = getattr(settings, stage)
        changes = {key: value for key, value in {**common, "epochs": number}.items() if value is not None}
        if own.monitor is None:
            changes.pop("keep", None)
        changed = {stage: replace(own, **changes)}
        settings = replace(settings, **changed)
    return settings


def control_stage(settings: Settings) -> Stage:
    """The control's training: the encoder's epochs and learning rate, to its end, falling only where the encoder's falls too.

    An encoder without validation (`monitor` None) keeps one rate throughout, so the control does. Which epoch is kept is the classifier
    stage's choice (described: the best on validation images, which a contrastive loss has no use for).
    """
    encoder = settings.encoder
    schedule = "constant" if encoder.monitor is None else encoder.schedule
    return replace(
        settings.classifier, epochs=encoder.epochs, learning_rate=encoder.learning_rate, patience=encoder.epochs, schedule=schedule
    )


def with_weights(settings: Settings, options: StudyOptions, pretrained: bool) -> Settings:
    """Settle the initial weights: what was given; else `imagenet` where the method is fine-tuning on real data; else none."""
    default = "imagenet" if pretrained and options.dataset != "sample" else "none"
    weights = options.weights or default
    settings = replace(settings, weights=weights)
    if weights == "none":
        return replace(settings, freeze=settings.freeze or 0)
    freeze = FREEZE.get(settings.backbone) if settings.freeze is None else settings.freeze
    if freeze is None and pretrained:
        raise UsageError(f"--freeze: the paper names no number of layers for {settings.backbone}; expected --freeze K")
    return replace(settings, freeze=freeze or 0, contrastive_pixels="weights")
