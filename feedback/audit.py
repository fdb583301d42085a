"""`feedback audit`: the common audit, the overlap with ISIC 2019, class distributions, and a sheet of samples with masks."""

import logging
from pathlib import Path

import numpy as np

from common.data.audit import audit_command
from common.data.dataset import Dataset, class_names
from common.data.images import read_image
from common.data.masks import read_mask
from common.errors import UsageError
from common.report.plots import save
from common.report.tables import markdown
from common.runs.files import write_text
from feedback import data, figures
from feedback.experiments.audit import AuditSettings

log = logging.getLogger(__name__)


def run_audit(options: AuditSettings) -> Path:
    """audit.json and audit.md, overlap.md, figures/class_distribution*.png, figures/samples.png; returns their folder."""
    dataset = data.read(options, options.role)
    folder = options.run_dir or Path("runs") / "feedback" / "audit" / f"{dataset.name}-{options.role}"
    keep = options.reading == "described" and options.role == "simulation"
    splits = audit_command(dataset, lambda kind: data.split_rows(dataset.manifest, kind, options.split_seed, keep), folder, options.run)
    for kind, manifest in splits.items():
        save(figures.class_distribution(manifest, dataset.synthetic), folder / "figures" / f"class_distribution_{kind}.png")
    if "paper" in splits and options.role == "simulation":
        _overlap(splits["paper"], folder)
        for balance in ("reduced", "upsampled"):
            drawn = figures.class_distribution(data.balanced(splits["paper"], balance, options.split_seed), dataset.synthetic)
            save(drawn, folder / "figures" / f"class_distribution_{balance}.png")
    if data.mask_columns(dataset.manifest):
        try:
            save(figures.sample_sheet(sample_rows(dataset), synthetic=dataset.synthetic), folder / "figures" / "samples.png")
        except UsageError as error:  # the audit has told of it
            log.warning("no sheet of samples: %s", error)
    return folder


def sample_rows(dataset: Dataset) -> list[tuple[str, np.ndarray, dict[str, np.ndarray]]]:
    """Per class the image with most attributes marked (first by name among equals), with its masks, at its own size."""
    columns = data.mask_columns(dataset.manifest)
    rows = []
    for name in class_names(dataset.manifest):
        members = dataset.manifest[dataset.manifest["label"] == name].sort_values("image").head(200)
        marked = [(sum(bool(row[c]) and read_mask(dataset.data_dir / row[c]).any() for c in columns), row) for _, row in members.iterrows()]
        row = max(marked, key=lambda pair: pair[0])[1]
        image = read_image(dataset.data_dir / row["image"])
        empty = np.zeros(image.shape[:2], bool)
        masks = {c.removeprefix("mask_"): read_mask(dataset.data_dir / row[c]) if row[c] else empty for c in columns}
        rows.append((name, image, masks))
    return rows


def _overlap(manifest, folder: Path) -> None:
    counts = data.overlap_counts(manifest)
    lines = [
        [split, found["images"], *("not known" if found[kind] is None else found[kind] for kind in ("same_id", "renamed"))]
        for split, found in counts.items()
    ]
    text = "# Simulation images that ISIC 2019 holds too\n\n" + markdown(("split", "images", "same id", "renamed (_downsampled)"), lines)
    write_text(folder / "overlap.md", f"{text}\nThe thesis found 627 (section 5.2) and kept those in training.\n")
