"""`report RUN --with RUN2… --views N`: what several runs, or several views of each test image, gain over one of them, in gains.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from common.errors import UsageError
from common.metrics.compare import compare, corrected_together
from common.report.comparisons import comparisons_text
from common.report.predict import VIEWS, check_members, combined, predict_views
from common.runs.outcome import PREFIX, read_predictions
from common.runs.reading import RunFolder, run_files

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "ece")


def write_gains(folder: RunFolder, others: Sequence[Path], views: int, data_dir: Path | None = None) -> Path:
    """Write gains.md and gains.csv into the run folder; returns gains.md. The runs are one method's seeds for the one comparison.

    Raises:
        UsageError: a run has other classes, another scaling of pixels or other test images.
    """
    runs = [folder.path, *others]
    classes = check_members(runs)
    alone = [read_predictions(run)[0] for run in runs]
    for run, table in zip(others, alone[1:], strict=True):
        if table["image"].tolist() != alone[0]["image"].tolist():
            raise UsageError(f"--with {run}: its test images are not those of {folder.path}")
    members = list(alone)
    if views > 1:
        files = run_files(folder, data_dir, alone[0]["image"])
        members += [table for run in runs for table in predict_views(run, files, views=VIEWS[1:views])]
    found = combined(members, classes)
    columns = ["predicted", *(PREFIX + name for name in classes)]
    tables: dict[tuple[str, str, int | None], pd.DataFrame] = {("", "one run", number): table for number, table in enumerate(alone)}
    # A mean over runs has no seed of its own; one over views has its run's.
    tables["", "all together", None if others else 0] = alone[0].assign(**{name: found[name].to_numpy() for name in columns})
    results = corrected_together([compare(tables, metric, baseline="one run") for metric in METRICS])
    folder.write_table("gains.csv", pd.concat([result.frame() for result in results], ignore_index=True))
    what = " and ".join([f"{len(runs)} runs"] * bool(others) + [f"{views} views of each image"] * (views > 1))
    apart = f"on average {found['disagreement'].mean():.1%} of the members call another class than their mean does"
    intro = f"Mean probabilities over {what} on {len(found)} test images, against one run and one view; {apart}."
    parts = [f"# What {what} gain", intro, *(comparisons_text(result, results).rstrip() for result in results)]
    return folder.write_text("gains.md", "\n\n".join(parts) + "\n")
