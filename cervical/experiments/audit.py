"""Counts against the official ones (4049: 813, 825, 793, 787, 831), unreadable files, odd modes, copies, sizes, and leakage of both splits.

In the printed split 710 of 812 test cells share a cluster image with training cells. About a minute for SIPaKMeD.
"""

from __future__ import annotations

from dataclasses import dataclass

from cervical.experiments.base import CellSource
from common.commands.audit import Audit
from common.settings import Command


@dataclass(frozen=True, kw_only=True)
class AuditSettings(Audit, CellSource):
    """What a data set holds, and what its splits let through."""


COMMAND = Command(AuditSettings, "cervical.audit:run_audit", __doc__)
