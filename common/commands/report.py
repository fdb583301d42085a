"""Make a run's report, model card and figures again from its predictions.csv; the model is not needed. Seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.commands.predict import Decided
from common.settings import Command, check_path, check_run, require


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Decided):
    """Make a run's report, model card and figures again from its predictions.csv (of a published table: those of each of its runs)."""

    by: tuple[str, ...] = ()
    """Also report the test metrics by these columns of the metadata, such as sex age localization; `ita` is the skin tone estimated from
    the images. With --metadata and no column: the data set's usual ones."""
    metadata: Path | None = None
    """CSV with a column that names the image and the columns of --by; None: the data set's own."""
    data_dir: Path | None = None
    """Folder of the run's images, for --by and --views; None: where they lay when it was trained."""
    kinds: Path | None = None
    """CSV or JSON, class -> kind (such as normal and abnormal), whose sensitivity and specificity are reported; None: the run's own."""

    def __post_init__(self) -> None:
        if not (self.run / "runs.json.xz").is_file():
            check_run(self.run)
        super().__post_init__()
        check_path("metadata", self.metadata, "file")
        check_path("data-dir", self.data_dir, "folder")
        used = bool(self.by or self.metadata) or self.views > 1
        require(self.data_dir is None or used, "--data-dir: has no effect here: expected --by, --metadata or --views")
        check_path("kinds", self.kinds, "file")


COMMAND = Command(ReportOptions, "common.report.report:report_command", __doc__ or "")
