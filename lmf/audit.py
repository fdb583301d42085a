"""`lmf audit`: what is in a data set and how far its splits leak, and fig. 2."""

from pathlib import Path

from common.data.audit import audit_command as audit_dataset
from common.data.splits import limit_per_class
from common.errors import UsageError
from common.report.plots import save
from common.runs.folder import RUNS
from lmf import data, figures
from lmf.options import AuditOptions


def audit_command(options: AuditOptions) -> Path:
    """Write audit.json, audit.md and fig2.png; returns the folder. A split that cannot be made (a class too small) is left out."""
    dataset = data.found(options)
    manifest = dataset.manifest if options.limit is None else limit_per_class(dataset.manifest, options.limit)
    splits = {}
    for how in ("paper", "grouped"):
        try:
            splits[how] = data.split(manifest, how, options.seed)
        except UsageError as error:
            print(f"no {how} split: {error}")
    folder = options.output or RUNS / "lmf" / "audit" / dataset.name
    audit_dataset(dataset, splits, folder)
    counts = {dataset.name: dataset.manifest["label"].value_counts().to_dict()}
    save(figures.class_distribution(counts, synthetic=dataset.synthetic), folder / "fig2.png")
    return folder
