"""Fine-tuning with class costs or a cost matrix (paper III-C.2, thesis 3.2; paper Table II, thesis Table 6.3).

Printed: DenseNet169 0.9729, VGG16 0.9594, MobileNetV2 0.9557, ResNet50 0.9421, VGG19 0.9409. The expected cost stands beside the
accuracy. Costs as much as finetune, twice that with `--init finetuned`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from cervical.experiments import finetune
from cervical.experiments.base import for_dataset, restricted
from cervical.experiments.finetune import EVERYWHERE, SAMPLE_STAGE, FinetuneSettings
from cervical.paper import CLASS_COSTS
from common.settings import Command, check_path


@dataclass(frozen=True, kw_only=True)
class CostSensitiveSettings(FinetuneSettings):
    """Fine-tuning one network with costs."""

    CONTENT: ClassVar[frozenset[str]] = FinetuneSettings.CONTENT | {"costs"}

    costs: str = "printed"
    """`balanced` (from the training set), `printed` (paper III-C.2), or a FILE: CSV or JSON, class -> cost, or a full matrix."""
    init: Literal["finetuned", "start"] = "start"
    """`finetuned`: go on from the fine-tuned model, as the authors did (it is trained first if missing). `start`: an equal start."""

    def unused(self) -> dict[str, str]:
        why = "a cost belongs to one class, and these labels are of several"
        return super().unused() | {"label_smoothing": why, "mixup": why}

    def check_paths(self) -> None:
        super().check_paths()
        if self.costs not in CLASS_COSTS:
            check_path("costs", Path(self.costs), "file")


def _reading(name: str, **changes: Any) -> CostSensitiveSettings:
    return CostSensitiveSettings(**restricted(finetune.READINGS[name], FinetuneSettings), **changes)


DESCRIBED = _reading("described")
CODED = _reading("coded", init="finetuned")
CORRECTED = _reading("corrected", costs="balanced")  # the printed costs were computed on the test labels (facts 1.5)
REDUCED = _reading("reduced", init="finetuned")
READINGS = {"described": DESCRIBED, "coded": CODED, "corrected": CORRECTED, "reduced": REDUCED}


def default(reading: str, dataset: str) -> CostSensitiveSettings:
    """The reading's settings; small on the sample, and with costs from the training set where the classes are one's own."""
    settings = for_dataset(READINGS[reading], dataset, training=SAMPLE_STAGE)
    return replace(settings, costs="balanced") if dataset in ("folders", "cric") else settings


COMMAND = Command(CostSensitiveSettings, "cervical.training.cost_sensitive:run_cost_sensitive", __doc__, default, EVERYWHERE)
