"""Tune the base from simulated feedback on class and region (one cell of Tables 5.1 to 5.3).

Printed: average Jaccard index 0.10 before and 0.18 after on up-sampled data with the explanation loss, accuracy 0.73 and 0.76. The thesis
takes 20 epochs on reduced data (section 5.7), 40 otherwise. `--objective balanced-combined` is the recipe that moves the map and keeps the
classifier: the base is adapted first, batches are balanced, the gradients of both terms have known norms, and the
predictions are held near the adapted base's. Cost: on `sample` under a minute; the thesis needed 262 to 554 minutes an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from common.settings import MOST_EPOCHS, MOST_IMAGES, Command, Trained, Within, check_run, require
from feedback.experiments.baseline import MarkedLesions, Rate

Objective = Literal["classification", "explanation", "combined"]
Balance = Literal["none", "reduced", "upsampled", "batches"]
OBJECTIVES: tuple[Objective, ...] = ("classification", "explanation", "combined")
LAMBDA = 0.3  # of eq. 4.1 in Table 5.3's combined rows
Share = Annotated[float, Within(0, 1)]
Epochs = Annotated[int, Within(0, MOST_EPOCHS)]  # 0: none


@dataclass(frozen=True, kw_only=True)
class SimulateSettings(MarkedLesions, Trained):
    """Tuning from simulated feedback, thesis chapters 4 and 5. Network, image size and arithmetic are the base's."""

    NOT_RECIPE = MarkedLesions.NOT_RECIPE | Trained.NOT_RECIPE | {"base"}

    reading: Literal["described", "corrected"] = "described"
    """`described`: the thesis's text. `corrected`: careful practice."""
    base: Path | None = None
    """Run folder of a finished `baseline`; None: the sample's own, trained when it is missing."""
    keep_overlap_in_training: bool = True
    """Images that ISIC 2019 holds under the same id stay in training (section 5.2)."""
    balance: Balance = "none"
    """Training images as they are, cut to the two largest classes at equal size, copied up to the largest class, or as they are with
    every class equally often in each batch (ours)."""
    adapt_epochs: Epochs = 0
    """Epochs of class-balanced cross-entropy on the training images, before the feedback (ours): the base has seen other images."""
    adapt_learning_rate: Rate = 1e-4
    """Adam's learning rate while adapting."""
    objective: Objective = "combined"
    """What the feedback corrects: the class, the region, or both. `balanced-combined` stands for both with the options of `corrected`."""
    explanation_weight: Share = LAMBDA
    """Lambda of eq. 4.1, the explanation loss's share of the combined one; with normalised gradients, the norm of its gradient."""
    gradient_scaling: Literal["sum", "normalised"] = "sum"
    """`sum`: eq. 4.1. `normalised`: the classification's gradient clipped at norm 1, the explanation's brought to lambda (ours)."""
    anchor_weight: Annotated[float, Within(0, 1000)] = 0.0
    """Weight of KL(model before the feedback || model), which keeps the predictions where they were (ours; 0: none)."""
    channel_weights: Literal["constant", "differentiated"] = "constant"
    """The map's channel weights a_k inside the loss: constants (thesis), or differentiated as well."""
    feedback: Literal["all", "wrong"] = "all"
    """Learn from every image (thesis), or only where class or region is wrong (its motive, figure 4.1)."""
    layer: str = "stride16"
    """Layer of the map: `stride16`, the last map at a sixteenth of the image (VGG16's last convolution, section 4.1), `last`, or a name."""
    fuse_stages: Annotated[int, Within(1, 4)] = 1
    """Fuse the maps of the last N stages of the network (thesis, future work); 1: one layer."""
    feedback_form: Literal["union", "graded"] = "union"
    """Binary masks, or a weight for each pixel (thesis, future work): share of attributes, or depth inside the lesion."""
    explanation_loss: Literal["binary", "graded", "distance"] = "binary"
    """Jaccard loss of binary masks, its graded form, or the squared distance of pixels."""
    threshold: Annotated[float, Within(0.01, 0.99)] = 0.5
    """Share of a map's maximum from which a pixel is inside the region (section 3.4)."""
    epochs: Epochs = 40
    """Epochs (sections 5.3 and 5.8); 0: no feedback, the adapted base is the result."""
    batch_size: int = 1
    """Images a step (section 3.7)."""
    learning_rate: Rate = 1e-4
    """Of one image, for plain gradient descent; a batch of N images takes N times as much (thesis: not stated). Small networks with batch
    normalisation want about 0.003."""
    schedule: Literal["constant", "cosine"] = "constant"
    """`cosine`: the rate falls to zero over the epochs."""
    clip_norm: Annotated[float, Within(0, 1e6)] = 1.0
    """Largest norm of the gradient; 0: none, as in the thesis, whose loss diverged (section 5.6)."""
    allowed_drop: Share = 1.0
    """Kept is the epoch with the largest validation Jaccard index among those whose balanced accuracy is at most so much below that of
    the model before the feedback; 1: among all (thesis)."""
    patience: Epochs = 0
    """End after so many epochs without a better one, by the same rule; 0: all epochs (thesis)."""
    faithfulness: Annotated[int, Within(0, MOST_IMAGES)] = 0
    """Measure deletion and insertion curves before and after on so many test images."""
    seed: int = 0
    """Seed of the order of images, of dropout and of up-sampling."""

    @property
    def weights_of_terms(self) -> tuple[float, float]:
        """Weights of classification and explanation in the loss."""
        if self.objective != "combined":
            return (1.0, 0.0) if self.objective == "classification" else (0.0, 1.0)
        return (1.0 if self.gradient_scaling == "normalised" else 1.0 - self.explanation_weight), self.explanation_weight

    def check(self) -> None:
        super().check()
        require(self.epochs or self.adapt_epochs, "--epochs 0: nothing would be learned; expected 1 or more, or --adapt-epochs")
        require(
            self.feedback_form == "union" or self.explanation_loss != "binary",
            "--explanation-loss binary: graded feedback needs --explanation-loss graded or distance (by the binary loss a map that equals "
            "its feedback would score worse than a cut one)",
        )

    def check_paths(self) -> None:
        super().check_paths()
        if self.base is not None:
            check_run(self.base, "model.keras", "finished.json")
        require(
            self.base is not None or self.dataset == "sample",
            "--base: expected the run folder of a finished baseline (python -m feedback baseline …)",
        )

    def unused(self) -> dict[str, str]:
        found = super().unused()
        if self.objective != "combined":
            found["explanation_weight"] = f"the objective is {self.objective} alone"
        if self.objective == "classification":
            found |= dict.fromkeys(("gradient_scaling", "channel_weights", "explanation_loss"), "no explanation is learned")
        if self.fuse_stages > 1:
            found["layer"] = "the map is fused of several layers (--fuse-stages)"
        if self.split == "grouped":
            found["keep_overlap_in_training"] = "a split by lesion keeps each lesion on one side"
        if not self.adapt_epochs:
            found["adapt_learning_rate"] = "nothing is adapted (--adapt-epochs 0)"
        return found


DESCRIBED = SimulateSettings()
# Whole lesions on one side, a base that has not seen the simulation images (HAM10000), and a recipe that keeps the classifier; its weight
# and anchor were chosen on validation images (results/feedback/search).
BALANCED: dict[str, Any] = {
    "objective": "combined", "explanation_weight": 0.3, "gradient_scaling": "normalised", "anchor_weight": 4.0, "adapt_epochs": 3,
    "balance": "batches", "channel_weights": "differentiated", "batch_size": 16, "learning_rate": 2e-3, "schedule": "cosine", "epochs": 3,
    "allowed_drop": 0.01,
}  # fmt: skip
CORRECTED = replace(DESCRIBED, reading="corrected", split="grouped", keep_overlap_in_training=False, **BALANCED)
SAMPLE = {"epochs": 3, "batch_size": 8, "learning_rate": 2e-3}


def default(reading: str, dataset: str) -> SimulateSettings:
    """The reading's settings; its small variant on the drawn sample."""
    settings = replace(CORRECTED if reading == "corrected" else DESCRIBED, dataset=dataset)
    if dataset == "sample":
        settings = replace(settings, **SAMPLE, adapt_epochs=min(settings.adapt_epochs, 1))
    return settings


def objective_words(objective: str) -> tuple[str, ...]:
    """`--objective balanced-combined` as the options that it stands for."""
    if objective != "balanced-combined":
        return ("--objective", objective)
    return tuple(word for name, value in BALANCED.items() for word in (f"--{name.replace('_', '-')}", str(value)))


def stored(settings: Mapping[str, Any], kind: type[SimulateSettings] = SimulateSettings) -> SimulateSettings:
    """The settings of a run from its config.json; what it does not hold is as described."""
    known = {item.name for item in fields(kind)} - {"base", "dataset"}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items() if name in known})


COMMAND = Command(SimulateSettings, "feedback.training.simulate:run_simulate", __doc__, default, presets={"objective": objective_words})
