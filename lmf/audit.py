"""`lmf audit`: what is in a data set and how far its splits leak, and fig. 2."""

from dataclasses import replace
from pathlib import Path

from common.data.audit import audit_command as audit_dataset
from common.data.splits import limit_proportional
from common.report.plots import save
from common.runs.folder import RUNS
from lmf import data, figures
from lmf.experiments.audit import AuditSettings


def audit_command(settings: AuditSettings) -> Path:
    """Write audit.json, audit.md and fig2.png; returns the folder. A split that cannot be made (a class too small) is left out."""
    dataset = data.found(settings)
    if settings.limit is not None:
        chosen = limit_proportional(dataset.manifest, settings.limit)
        dataset = replace(dataset, manifest=chosen.reset_index(drop=True), official_counts=None)
    folder = settings.run_dir or RUNS / "lmf" / "audit" / dataset.name
    audit_dataset(dataset, lambda how: data.split(dataset.manifest, how, settings.split_seed), folder, settings.run)
    counts = {dataset.name: dataset.manifest["label"].value_counts().to_dict()}
    save(figures.class_distribution(counts, synthetic=dataset.synthetic), folder / "fig2.png")
    return folder
