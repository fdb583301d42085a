"""What the commands' settings share: the images, one stage of training, and the small sizes of the drawn sample.

Sources: "paper" and "thesis" are the two documents (see `cervical/__init__.py`); "code" is what the authors' notebooks do, by the
reference facts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from common.settings import Count, Epochs, ExistingFile, FolderSource, Training, Within, check_decision, check_range, notes

CLASSES = ("Dyskeratotic", "Koilocytotic", "Metaplastic", "Parabasal", "Superficial-Intermediate")
# What a pathologist asks of a cell (Plissiti et al. 2018): the classes of each kind.
KINDS = {
    "normal": ("Parabasal", "Superficial-Intermediate"),
    "benign": ("Metaplastic",),
    "abnormal": ("Dyskeratotic", "Koilocytotic"),
}
PAPER_BACKBONES = ("vgg16", "vgg19", "resnet50", "densenet169", "mobilenetv2")
# CRIC Cervix's classes (Bethesda system); everything but Negative is abnormal.
BETHESDA = ("ASC-H", "ASC-US", "HSIL", "LSIL", "Negative", "SCC")
BETHESDA_KINDS = {"normal": ("Negative",), "abnormal": tuple(name for name in BETHESDA if name != "Negative")}
DatasetName = Literal["sample", "sipakmed", "cric", "folders"]
Reading = Literal["described", "coded", "corrected", "reduced"]

# The drawn cells are a demonstration on two CPU cores, not an experiment: a small network on small images for a few epochs.
SAMPLE = {"dataset": "sample", "backbone": "mobilenetv2_035", "weights": "none", "image_size": 64, "copies": 3}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One call of `fit`, optimiser Adam."""

    epochs: Epochs = 50
    """At most so many epochs (paper IV-A, thesis Table 6.1)."""
    learning_rate: Annotated[float, Within(0, 1, above=True)] = 1e-3
    """Of Adam, at the start (paper IV-A, thesis Table 6.1)."""
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    """`plateau`: the rate falls, and training ends early, when `monitor` no longer improves. `constant`: all epochs at one rate. `cosine`
    (of no document): falls to 0 over all epochs."""
    keep: Literal["best", "last"] = "best"
    """Epoch that the stage ends with: the best by `monitor`, or the last. The code saves its best and evaluates the last (facts 1.4)."""
    monitor: Literal["val_loss", "loss"] = "val_loss"
    """What the plateau rule and the choice of the epoch look at: the loss on validation images, or on training images."""
    patience: Count = 3
    """Epochs without improvement before training ends (code: 3 in every stage that has it; the texts name none)."""
    reduce_factor: Annotated[float, Within(0, 1, above=True)] = 0.2
    """The plateau rule multiplies the rate by this (code)."""
    reduce_patience: Count = 2
    """Epochs without improvement before the rate falls (code)."""
    min_learning_rate: Annotated[float, Within(0)] = 1e-5
    """The plateau rule goes no lower (code)."""

    @property
    def looks_at_validation(self) -> bool:
        """Whether the loss on validation images decides anything: an early end, a lower rate, the epoch that is kept."""
        return self.monitor == "val_loss" and (self.schedule == "plateau" or self.keep == "best")

    def check(self, name: str) -> None:
        """UsageError for a value out of its range; `name` is the stage's."""
        for field, each in notes(Stage, Within).items():
            check_range(f"{name}.{field.replace('_', '-')}", getattr(self, field), each.low, each.high, each.above)

    def unused(self, name: str) -> dict[str, str]:
        """The stage's settings without effect, as `<name>.<field>`, each with the reason."""
        found = {}
        if self.schedule != "plateau":
            why = f"the schedule {self.schedule} neither ends early nor falls on a plateau"
            found |= {f"{name}.{field}": why for field in ("patience", "reduce_factor", "reduce_patience", "min_learning_rate")}
            if self.keep == "last":
                found[f"{name}.monitor"] = f"all epochs are trained ({self.schedule}) and the last is kept, so nothing is looked at"
        return found


@dataclass(frozen=True, kw_only=True)
class CellSource(FolderSource):
    """Images of cells as they lie on disk."""

    dataset: DatasetName = "sample"
    """`sample`: drawn on the spot, synthetic. `sipakmed`: as distributed. `cric`: cells of CRIC Cervix by Bethesda class. `folders`: your
    own images, one folder a class."""


@dataclass(frozen=True, kw_only=True)
class CellTraining(CellSource, Training):
    """What the three trainings of the study share."""

    NOT_RECIPE: ClassVar[frozenset[str]] = Training.NOT_RECIPE | CellSource.NOT_RECIPE | {"decision", "decision_costs", "kinds"}
    STAGES: ClassVar[tuple[str, ...]] = ()

    reading: Reading = "described"
    """`described`: the documents' text. `coded`: what the authors' code does. `corrected`: careful practice. `reduced`: of no document, a
    protocol for two CPU cores."""
    image_size: int = 110
    """Side of the square network input, pixels (paper III-B)."""
    resize_filter: Literal["nearest", "bilinear"] = "bilinear"
    """How images are resized (the text is silent; code: nearest)."""
    copies: Annotated[int, Within(0, 6)] = 6
    """Augmented copies of each training image, 0 to 6 (paper III-A: 2589 -> 18,123 images)."""
    copies_kind: Literal["described", "coded"] = "described"
    """The paper's list of operations, or the notebook's six groups."""
    dropout: Annotated[float, Within(0, 0.95)] = 0.5
    """Of the head (paper IV-A)."""
    decision: Literal["argmax", "minimum-cost"] = "argmax"
    """The report's decisions: the class with the largest probability, or also the one with the least expected cost."""
    decision_costs: Path | None = None
    """Costs for `minimum-cost`: CSV or JSON, class -> cost, or a matrix with the truth in rows and the decision in columns."""
    kinds: ExistingFile = None
    """CSV or JSON, class -> kind, whose sensitivity and specificity are reported; None: normal, benign and abnormal of SIPaKMeD's
    classes, normal and abnormal of CRIC's, and none of others."""

    def check(self) -> None:
        super().check()
        for name in self.STAGES:
            getattr(self, name).check(name)

    def check_paths(self) -> None:
        super().check_paths()
        check_decision(self.decision, self.decision_costs)

    def unused(self) -> dict[str, str]:
        found = super().unused()
        for name in self.STAGES:
            found |= getattr(self, name).unused(name)
        return found | ({"copies_kind": "there are no copies (--copies 0)"} if self.copies == 0 else {})


def for_dataset(settings: Any, dataset: str, **stages: dict[str, Any]) -> Any:
    """A reading's settings for a data set: as they are for real cells; small, with the stages' changes given, for the drawn sample."""
    if dataset != "sample":
        return replace(settings, dataset=dataset) if dataset in get_args(DatasetName) else settings
    changed = {name: replace(getattr(settings, name), **changes) for name, changes in stages.items()}
    return replace(settings, **SAMPLE, **changed)


def kinds_of(classes: Iterable[str]) -> dict[str, tuple[str, ...]] | None:
    """The kinds of a known set of classes, those that occur; None of classes that are not known."""
    names = set(classes)
    for known in (KINDS, BETHESDA_KINDS):
        if names <= {name for each in known.values() for name in each}:
            return {kind: tuple(name for name in each if name in names) for kind, each in known.items() if names & set(each)}
    return None


def restricted(settings: Any, kind: type) -> dict[str, Any]:
    """The values of `settings` for those fields that `kind` has."""
    return {field.name: getattr(settings, field.name) for field in fields(kind) if hasattr(settings, field.name)}
