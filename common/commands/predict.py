"""Classify images with a finished run, as CSV: a row per image with a probability for each class. Seconds, and one pass over the images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro
from tyro.conf import Positional

from common.settings import Command, check_decision, check_range, check_run, require


@dataclass(frozen=True, kw_only=True)
class Decided:
    """How a run's probabilities become decisions, alone or with other runs and views."""

    NEEDS: ClassVar[str] = "predictions.csv"
    """File that the runs of --with must hold."""

    run: Positional[Path]
    """Run folder."""
    decision: Literal["argmax", "minimum-cost"] = "argmax"
    """The class with the largest probability, or the one with the least expected cost under --decision-costs."""
    decision_costs: Path | None = None
    """Costs of mistakes for `minimum-cost`: CSV or JSON, class -> cost, or a matrix with the truth in rows and the decision in columns."""
    with_runs: Annotated[tuple[Path, ...], tyro.conf.arg(name="with")] = ()
    """More finished runs of the same classes and scaling of pixels, whose probabilities are averaged with the run's. `predict` adds
    `disagreement`, the share that calls another class; `report` tells what it gains on the test images, with an interval."""
    views: int = 1
    """Views of each image, 1 to 8, mirrored and turned by quarters, whose probabilities are averaged."""

    def __post_init__(self) -> None:
        for path in self.with_runs:
            check_run(path, self.NEEDS)
        check_range("views", self.views, 1, 8)
        check_decision(self.decision, self.decision_costs)


@dataclass(frozen=True, kw_only=True)
class PredictOptions(Decided):
    """Classify images with a finished run: one CSV row an image with a probability for each class."""

    NEEDS = "model.keras"

    images: Positional[tuple[Path, ...]]
    """Images, or folders of images."""
    output: Path | None = None
    """CSV file to write; default: standard output."""
    skip_unreadable: bool = False
    """Go on without images that cannot be decoded."""
    batch_size: int = 32
    """Images a step."""

    def __post_init__(self) -> None:
        check_run(self.run, self.NEEDS)
        super().__post_init__()
        require(bool(self.images), "predict: expected at least one image or folder after the run folder")
        for path in self.images:
            require(path.exists(), f"{path}: no such image or folder")
        check_range("batch-size", self.batch_size, 1)


COMMAND = Command(PredictOptions, "common.report.predict:predict_command", __doc__ or "")
