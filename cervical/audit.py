"""`audit`: the shared audit of a data set under both splits of the study."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from cervical.data import FRACTIONS, find, paper_split
from cervical.experiments.audit import AuditSettings
from common.data.audit import audit_command
from common.data.splits import grouped_split
from common.errors import UsageError

log = logging.getLogger(__name__)


def run_audit(settings: AuditSettings) -> Path:
    """Audit a data set under both splits. Returns the folder.

    A split that the data do not allow (a class of two images, too few groups) is left out: what is wrong with them is what an audit tells.
    """
    dataset = find(settings)
    outlines = [name for name in dataset.manifest if name.startswith("mask_") and dataset.name in ("sipakmed", "sample")]
    dataset = replace(dataset, manifest=dataset.manifest.drop(columns=outlines))  # outlines are no pictures of masks
    folder = settings.run_dir or Path("runs") / "cervical" / "audit" / dataset.name
    ways: dict[str, Callable[[], pd.DataFrame]] = {
        "paper": lambda: paper_split(dataset.manifest, settings.split_seed),
        "grouped": lambda: grouped_split(dataset.manifest, FRACTIONS, settings.split_seed),
    }
    splits = {}
    for name, split in ways.items():
        try:
            splits[name] = split()
        except UsageError as error:
            log.warning("no %s split: %s", name, error)
    audit_command(dataset, splits, folder)
    return folder
