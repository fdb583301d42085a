"""Look through Dataset A and B: counts beside Table 1, broken and odd files, copies, leakage, overlap.

No training; a minute for 2600 images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from common.commands.audit import Audit
from common.settings import Command
from melanoma.experiments.base import Dermoscopy, reading


@dataclass(frozen=True, kw_only=True)
class AuditSettings(Audit, Dermoscopy):
    """Counts, broken files, copies and leakage of Dataset A, its indicators, and its overlap with Dataset B."""


COMMAND = Command(AuditSettings, "melanoma.audit:audit_command", __doc__, partial(reading, AuditSettings()))
