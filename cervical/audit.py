"""`audit`: the shared audit of a data set under both splits of the study."""

from __future__ import annotations

from pathlib import Path

from cervical.data import find, split_manifest
from cervical.experiments.audit import AuditSettings
from common.data.audit import audit_command


def run_audit(settings: AuditSettings) -> Path:
    """Audit a data set under both splits. Returns the folder."""
    dataset = find(settings)
    folder = settings.run_dir or Path("runs") / "cervical" / "audit" / dataset.name
    audit_command(dataset, lambda how: split_manifest(dataset.manifest, how, settings.split_seed), folder, settings.run)
    return folder
