"""`melanoma audit`: what is in Dataset A and B: counts, broken files, copies, leakage of both splits, overlap of the two sets."""

from pathlib import Path

import pandas as pd

from common.data.audit import audit_command as audit_dataset
from common.report.tables import markdown
from common.runs.reading import RunFolder
from melanoma import data, paper
from melanoma.experiments.audit import AuditSettings


def audit_command(settings: AuditSettings) -> None:
    """Writes audit.json, audit.md, and indicators.md (Table 1 and the overlap with Dataset B) into the run folder."""
    dataset = data.load(settings, check=False, undiagnosed=True)
    folder = settings.run_dir or Path("runs") / "melanoma" / "audit" / dataset.name
    taught = dataset.manifest[(dataset.manifest["label"] != "") | dataset.manifest["image"].map(data.is_official_validation)]
    audit_dataset(dataset, lambda how: data.split(taught, how, settings.split_seed), folder, settings.run)
    text = f"# Indicators of {dataset.name}\n\n{indicator_table(dataset.manifest, data.present(dataset, settings.cache_dir, strict=False))}"
    if settings.dataset == "sample" or settings.unlabelled_dir is not None:
        _, overlap = data.unlabelled(settings, dataset)
        rows = [(name.replace("_", " "), count) for name, count in overlap.items()]
        text += f"\n# Dataset B against Dataset A\n\n{markdown(('images', 'count'), rows)}"
    RunFolder.of(folder).write_text("indicators.md", text)
    print(folder / "audit.md")
    print(folder / "indicators.md")


def indicator_table(manifest: pd.DataFrame, present: pd.DataFrame) -> str:
    """Markdown: images with and without each indicator, beside Table 1; the official validation images apart."""
    official, rows = manifest["image"].map(data.is_official_validation).to_numpy(dtype=bool), []
    for name in present:
        printed = paper.tables()["table_1"].get(name, {})
        drawn = present[name].to_numpy(dtype=bool)
        ours = (int(drawn[~official].sum()), int((~drawn[~official]).sum()), int(drawn[official].sum()))
        rows.append((paper.TITLES.get(name, name), *ours, printed.get("with", "–"), printed.get("without", "–")))
    header = ("indicator", "with", "without", "with, official validation", "printed with", "printed without")
    return markdown(header, rows)
