"""`audit`: the shared audit of a data set under both splits of the study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from cervical.data import FRACTIONS, find, paper_split
from cervical.experiments.audit import AuditSettings
from common.data.audit import audit_command, possible_splits
from common.data.splits import grouped_split


def run_audit(settings: AuditSettings) -> Path:
    """Audit a data set under both splits. Returns the folder."""
    dataset = find(settings)
    outlines = [name for name in dataset.manifest if name.startswith("mask_") and dataset.name in ("sipakmed", "sample")]
    dataset = replace(dataset, manifest=dataset.manifest.drop(columns=outlines))  # outlines are no pictures of masks
    folder = settings.run_dir or Path("runs") / "cervical" / "audit" / dataset.name
    ways: dict[str, Callable[[], pd.DataFrame]] = {
        "paper": lambda: paper_split(dataset.manifest, settings.split_seed),
        "grouped": lambda: grouped_split(dataset.manifest, FRACTIONS, settings.split_seed),
    }
    audit_command(dataset, possible_splits(ways), folder, settings.run)
    return folder
