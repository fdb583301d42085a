"""Settings of the feedback study: the readings as data, and the options of every command.

"thesis" is the document (see `feedback/__init__.py`), "facts" the reference facts, section 4.2. Nothing heavy is imported here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from common.cli import BACKBONE_NAMES, DataOptions, Positional, TrainOptions, check_path, check_range, check_run, require

DATASETS = ("sample", "folders", "isic2018", "isic2019", "ham10000")
Objective = Literal["classification", "explanation", "combined"]
Balance = Literal["none", "reduced", "upsampled"]
OBJECTIVES: tuple[Objective, ...] = ("classification", "explanation", "combined")
BALANCES: tuple[Balance, ...] = ("none", "reduced", "upsampled")
# Figure 4.1 of the thesis: what of an answer is right.
CASE_TITLES = {
    "both_right": "both right", "region_wrong": "class right, region wrong", "class_wrong": "class wrong, region right",
    "both_wrong": "both wrong",
}  # fmt: skip
CASES = tuple(CASE_TITLES)
WEIGHTS = {"classification": 0.0, "explanation": 1.0, "combined": 0.3}  # lambda of eq. 4.1, thesis Table 5.3


@dataclass(frozen=True, kw_only=True)
class BaseSettings:
    """The base classifier, thesis section 3.2 and Table 3.1."""

    backbone: str = "vgg16"
    weights: str = "imagenet"
    image_size: int = 227
    resize_filter: Literal["nearest", "bilinear"] = "nearest"  # Table 3.1
    split: str = "paper"  # 80/10/10 in each class
    epochs: int = 20
    batch_size: int = 32  # not stated
    optimizer: str = "adam"  # not stated ("a mini-batch algorithm", section 3.7)
    learning_rate: float = 1e-4  # not stated
    flip: bool = True  # horizontal
    rotations: int = 24  # over 360 degrees
    class_weights: str = "inverse"
    """Table 3.1 prints the class frequencies as weights, which would weight frequent classes up: `printed` uses them all the same."""
    head: str = "flatten"
    units: int = 2048
    dropout: float = 0.5  # not stated


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Tuning from simulated feedback, thesis chapters 4 and 5."""

    split: str = "paper"
    keep_overlap_in_training: bool = True  # section 5.2
    objective: str = "combined"
    explanation_weight: float | None = None
    """None: what the objective says."""
    balance: str = "none"
    feedback: str = "all"
    region_threshold: float = 0.5
    gradients: str = "constant"
    """The weights a_k in the loss: `constant` (thesis: from a copy of the model) or `differentiated`."""
    layer: str = "stride16"
    """Layer of the map: `stride16`, the last map at a sixteenth of the image (VGG16's last convolution, section 4.1), `last`, or a name."""
    fuse_stages: int = 1
    feedback_form: str = "union"
    explanation_loss: str = "binary"
    threshold: float = 0.5  # section 3.4
    soft: bool = True
    """Soft threshold in the loss (facts, row 5); False: the map itself (`--loss-threshold`)."""
    epochs: int = 40  # sections 5.3, 5.8; 20 on reduced data (5.7) and on each slice (5.4)
    batch_size: int = 1  # section 3.7
    learning_rate: float = 1e-4
    """Of one image; not stated, facts row 19. A batch of N images takes N times this."""
    clip_norm: float = 1.0
    """Largest norm of the whole gradient; 0: none, as in the thesis, whose loss diverged (section 5.6)."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    base: BaseSettings = field(default_factory=BaseSettings)
    simulation: Simulation = field(default_factory=Simulation)


READINGS = {
    "described": Reading(),
    # Whole lesions on one side; a base that has not seen the simulation images (HAM10000), so nothing need be forced into training.
    "corrected": Reading(
        base=BaseSettings(split="grouped", resize_filter="bilinear"),
        simulation=Simulation(split="grouped", keep_overlap_in_training=False, gradients="differentiated"),
    ),
}
MAX_RATE = 10.0
# A small network carries a small head; its features are averaged (a flattened 4 x 4 x 1280 map would need 42 million weights).
SMALL_HEAD = {"head": "average", "units": 256, "dropout": 0.3}
SAMPLE_BASE = {
    "backbone": "mobilenetv2_035", "weights": "none", "image_size": 64, "epochs": 8, "learning_rate": 2e-3, "batch_size": 16, **SMALL_HEAD
}  # fmt: skip
SAMPLE_SIMULATION = {"epochs": 3, "batch_size": 8, "learning_rate": 2e-3}


def _check_study(options: DataOptions) -> None:
    require(options.dataset in DATASETS, f"--dataset {options.dataset}: unknown; expected one of {', '.join(DATASETS)}")
    reading = getattr(options, "reading", None)
    require(reading != "coded", "--reading coded: the thesis's code is not public; expected described or corrected")


def _check_rate(name: str, rate: float | None) -> None:
    require(rate is None or 0 < rate <= MAX_RATE, f"--{name} {rate}: expected more than 0 and at most {MAX_RATE:g}")


@dataclass(frozen=True, kw_only=True)
class BaselineOptions(TrainOptions):
    """The base classifier."""

    learning_rate: float | None = None
    """Learning rate of the optimiser (thesis: not stated)."""
    optimizer: Literal["adam", "sgd"] | None = None
    """`sgd` has momentum 0.9 (thesis: "a mini-batch algorithm")."""
    class_weights: Literal["inverse", "printed", "none"] | None = None
    """`inverse` to the class frequency; `printed`: Table 3.1's numbers, which are the frequencies themselves (flagged in the report)."""
    head: Literal["flatten", "average"] | None = None
    """What the dense layers read: the flattened last map (thesis) or its average (default for networks other than VGG)."""
    head_units: int | None = None
    """Width of the two dense layers (thesis: 2048; 256 for networks other than VGG; 0: none)."""
    dropout: float | None = None
    """Dropout rate after each dense layer (thesis: not stated)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_study(self)
        _check_rate("learning-rate", self.learning_rate)
        check_range("head-units", self.head_units, 0, 8192)
        check_range("dropout", self.dropout, 0, 0.95)


@dataclass(frozen=True, kw_only=True)
class SimulateOptions(TrainOptions):
    """Tuning from simulated feedback. Network and image size are the base's."""

    base: Path | None = None
    """Run folder of a finished `baseline` (on `sample` one is trained when none is given)."""
    objective: Objective = "combined"
    """What the feedback corrects: the class, the region, or both."""
    explanation_weight: tuple[float, ...] = ()
    """Lambda of eq. 4.1 instead of the objective's (0, 1, 0.3). Several values: a search, chosen on validation."""
    balance: Balance = "none"
    """Training images as they are, cut to the two largest classes at equal size, or copied up to the largest class."""
    feedback: Literal["all", "wrong"] = "all"
    """Learn from every image (thesis), or only where class or region is wrong (its motive, figure 4.1)."""
    region_threshold: float | None = None
    """Jaccard index from which a region counts as right."""
    gradients: Literal["constant", "differentiated"] | None = None
    """The map's channel weights inside the loss: constants (thesis), or differentiated as well."""
    layer: str | None = None
    """Layer of the map: `stride16` (default: the last at a sixteenth of the image, VGG16's last convolution), `last`, or a name."""
    fuse_stages: int | None = None
    """Fuse the maps of the last N stages of the network (thesis, future work); 1: one layer."""
    feedback_form: Literal["union", "graded"] | None = None
    """Binary masks, or a weight for each pixel (thesis, future work): share of attributes, or depth inside the lesion."""
    explanation_loss: Literal["binary", "graded", "distance"] | None = None
    """Jaccard loss of binary masks, its graded form, or the squared distance of pixels."""
    threshold: float | None = None
    """Share of a map's maximum from which a pixel is inside the region (thesis: 0.5)."""
    loss_threshold: Literal["soft", "none"] | None = None
    """In the loss the map is cut softly at --threshold (default), or taken as it is."""
    learning_rate: float | None = None
    """Learning rate for one image; a batch of N takes N times as much. Small networks with batch normalisation want about 0.003."""
    clip_norm: float | None = None
    """Largest norm of the gradient; 0: no clipping, as in the thesis."""
    faithfulness: int = 0
    """Measure deletion and insertion curves before and after on so many test images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_study(self)
        _check_rate("learning-rate", self.learning_rate)
        for weight in self.explanation_weight:
            check_range("explanation-weight", weight, 0, 1)
        check_range("region-threshold", self.region_threshold, 0, 1)
        check_range("fuse-stages", self.fuse_stages, 1, 4)
        check_range("threshold", self.threshold, 0.01, 0.99)
        check_range("clip-norm", self.clip_norm, 0)
        check_range("faithfulness", self.faithfulness, 0)
        require(
            self.precision == "float32",
            f"--precision {self.precision}: tuning works in the base's own arithmetic; give it to `baseline` (expected float32 here)",
        )
        if self.base is not None:
            check_run(self.base, "model.keras", "finished.json")
            for option in ("backbone", "weights", "image_size"):
                name = option.replace("_", "-")
                require(getattr(self, option) is None, f"--{name}: network, weights and image size are those of --base; leave it out")
        require(
            self.base is not None or self.dataset == "sample",
            "--base: expected the run folder of a finished baseline (python -m feedback baseline …)",
        )


@dataclass(frozen=True, kw_only=True)
class SlicesOptions(SimulateOptions):
    slices: int = 20
    """Parts in which the training images arrive (thesis: 20 of 4 % each, from up-sampled data); --epochs counts for each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("slices", self.slices, 1, 200)
        require(len(self.explanation_weight) <= 1, "--explanation-weight: slices takes one value")


@dataclass(frozen=True, kw_only=True)
class TablesOptions(SimulateOptions):
    objectives: tuple[Objective, ...] = OBJECTIVES
    """Rows of the tables."""
    balances: tuple[Balance, ...] = BALANCES
    """Tables: `none` is 5.1, `reduced` 5.2, `upsampled` 5.3."""
    slices: int = 0
    """Also Table 5.4, with so many slices (thesis: 20); 0 leaves it out."""
    slice_epochs: int | None = None
    """Epochs on each slice (thesis: 20)."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of split and order; more than one gives mean and deviation."""
    gradients: tuple[Literal["constant", "differentiated"], ...] = ()
    """The map's channel weights inside the loss: constants (thesis), or differentiated as well; both: they are compared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in ("objectives", "balances", "seeds"):
            require(bool(getattr(self, option)), f"--{option}: expected at least one")
        check_range("slices", self.slices, 0, 200)
        check_range("slice-epochs", self.slice_epochs, 1)
        require(not self.explanation_weight, "--explanation-weight: tables uses the objectives' own weights")


@dataclass(frozen=True, kw_only=True)
class ClippingOptions(SimulateOptions):
    rates: tuple[float, ...] = ()
    """Learning rates for one image to try (default: the one that would be used, 10 and 100 times it, up to 10)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for rate in self.rates:
            _check_rate("rates", rate)
        require(len(self.explanation_weight) <= 1, "--explanation-weight: clipping takes one value")


@dataclass(frozen=True, kw_only=True)
class ThresholdsOptions:
    """Jaccard index against the threshold (figure 3.3)."""

    run: Positional[Path]
    """Run folder of `simulate` or `slices`."""
    data_dir: Path | None = None
    """The simulation images, when they are not where the run found them."""
    cache_dir: Path = DataOptions.cache_dir
    """Folder for decoded images."""
    batch_size: int = 32
    """Images a step."""

    def __post_init__(self) -> None:
        check_run(self.run, "model.keras", "manifest.csv", "finished.json")
        check_path("data-dir", self.data_dir, "folder")
        check_range("batch-size", self.batch_size, 1)


@dataclass(frozen=True, kw_only=True)
class AuditOptions(DataOptions):
    """Counts, unreadable files, copies, overlap and leakage of a data set."""

    reading: Literal["described", "corrected"] = "described"
    """Which sample `--dataset sample` means (the readings' bases differ)."""
    role: Literal["base", "simulation"] = "simulation"
    """Images for the base classifier, or for the simulation (with masks)."""
    run_dir: Path | None = None
    """Folder for the audit and its figures; default runs/feedback/audit/<data set>."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_study(self)


def base_settings(options: BaselineOptions) -> BaseSettings:
    """The reading's settings, then what fits the network, then the sample's, then everything the user gave."""
    settings = READINGS[options.reading].base
    if options.dataset == "sample":
        settings = replace(settings, **SAMPLE_BASE)
    if options.backbone is not None and not options.backbone.startswith("vgg"):
        settings = replace(settings, **SMALL_HEAD)
    elif options.backbone is not None:
        settings = replace(settings, head="flatten", units=2048, dropout=0.5)
    if options.weights is None and options.backbone is not None and options.dataset == "sample":
        settings = replace(settings, weights="none")
    given = _given(options, BaseSettings) | ({} if options.head_units is None else {"units": options.head_units})
    return replace(settings, **given)


def simulation_settings(options: SimulateOptions) -> Simulation:
    """The reading's settings, the balance's and the sample's epochs, then everything the user gave."""
    settings = READINGS[options.reading].simulation
    if options.balance == "reduced" or isinstance(options, SlicesOptions):
        settings = replace(settings, epochs=20)
    if options.dataset == "sample":
        settings = replace(settings, **SAMPLE_SIMULATION)
    given = _given(options, Simulation)
    weights = options.explanation_weight
    given["explanation_weight"] = weights[0] if weights else WEIGHTS[options.objective]
    if options.loss_threshold is not None:
        given["soft"] = options.loss_threshold == "soft"
    if given.get("feedback_form") == "graded" and "explanation_loss" not in given:
        given["explanation_loss"] = "graded"
    return replace(settings, **given)


def _given(options: Any, kind: type) -> dict[str, Any]:
    names = [item.name for item in fields(kind)]
    return {name: getattr(options, name) for name in names if getattr(options, name, None) not in (None, ())}


def as_dict(settings: Any) -> dict[str, Any]:
    """The settings as config.json keeps them."""
    return asdict(settings)


__all__ = [
    "BACKBONE_NAMES",
    "BALANCES",
    "CASES",
    "CASE_TITLES",
    "OBJECTIVES",
    "READINGS",
    "WEIGHTS",
    "AuditOptions",
    "BaselineOptions",
    "BaseSettings",
    "ClippingOptions",
    "SimulateOptions",
    "Simulation",
    "SlicesOptions",
    "TablesOptions",
    "ThresholdsOptions",
    "as_dict",
    "base_settings",
    "simulation_settings",
]
