"""Make a run's report, model card and figures again from its predictions.csv; the model is not needed. Seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from common.settings import Command, check_decision, check_path, check_range, check_run, require


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Make a run's report, model card and figures again from its predictions.csv; the model is not needed."""

    run: Positional[Path]
    """Run folder, or the folder of a published table."""
    by: tuple[str, ...] = ()
    """Also report the test metrics by these columns of the metadata, such as sex age localization; `ita` is the skin tone estimated from
    the images. With --metadata and no column: the data set's usual ones."""
    metadata: Path | None = None
    """CSV with a column that names the image and the columns of --by; None: the data set's own."""
    data_dir: Path | None = None
    """Folder of the run's images, for --by and --views; None: where they lay when it was trained."""
    with_runs: Annotated[tuple[Path, ...], tyro.conf.arg(name="with")] = ()
    """More finished runs with the same classes and test images: also report what the mean of all runs' probabilities gains."""
    views: int = 1
    """Also report what the mean over so many views of each test image gains, 1 to 8: mirrored and turned by quarters."""
    decision: Literal["argmax", "minimum-cost"] = "argmax"
    """The class with the largest probability, or the one with the least expected cost under --decision-costs."""
    decision_costs: Path | None = None
    """Costs of mistakes for `minimum-cost`: CSV or JSON, class -> cost, or a matrix with the truth in rows and the decision in columns."""
    kinds: Path | None = None
    """CSV or JSON, class -> kind (such as normal and abnormal), whose sensitivity and specificity are reported; None: the run's own."""

    def __post_init__(self) -> None:
        if not (self.run / "runs.json").is_file():
            check_run(self.run)
        check_path("metadata", self.metadata, "file")
        check_path("data-dir", self.data_dir, "folder")
        used = bool(self.by or self.metadata) or self.views > 1
        require(self.data_dir is None or used, "--data-dir: has no effect here: expected --by, --metadata or --views")
        check_range("views", self.views, 1, 8)
        for path in self.with_runs:
            check_run(path, "predictions.csv")
        check_decision(self.decision, self.decision_costs)
        check_path("kinds", self.kinds, "file")


COMMAND = Command(ReportOptions, "common.report.report:report_command", __doc__ or "")
