"""Counts against the official ones, unreadable files, copies, and how far each split leaks lesions or patients; draws fig. 2.

HAM10000's 10,015 images take about a minute on two CPU cores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from common.commands.audit import Audit
from common.settings import MOST_IMAGES, Command, Within
from lmf.experiments.base import LmfSource


@dataclass(frozen=True, kw_only=True)
class AuditSettings(Audit, LmfSource):
    """Look at a data set without training."""

    limit: Annotated[int | None, Within(1, MOST_IMAGES)] = None
    """Use only N images in all; None: all."""


def default(reading: str, dataset: str) -> AuditSettings:
    """The same for every reading."""
    return replace(AuditSettings(), dataset=dataset)


COMMAND = Command(AuditSettings, "lmf.audit:audit_command", __doc__ or "", default, everywhere={"output": ("run-dir",)})
