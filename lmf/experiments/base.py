"""Which images the commands of the study take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from common.settings import Source, check_group_pattern, check_path

DatasetName = Literal["sample", "ham10000", "odir5k", "isic2019", "covid_radiography", "folders"]
SampleName = Literal["ham10000", "odir5k", "isic2019", "covid_radiography"]
Sampler = Literal["shuffle", "balanced", "oversample", "undersample"]
LABELLED = ("ham10000", "odir5k", "isic2019")


@dataclass(frozen=True, kw_only=True)
class LmfSource(Source):
    """Images of one of the paper's data sets, or somebody's own."""

    NOT_RECIPE: ClassVar[frozenset[str]] = Source.NOT_RECIPE | {"labels_csv", "mask_dir"}  # labels count by content, in the fingerprint

    dataset: DatasetName = "sample"
    """ham10000, odir5k, isic2019, covid_radiography, folders (one folder a class), or sample (drawn on the spot, synthetic)."""
    sample: SampleName = "ham10000"
    """Which data set `--dataset sample` imitates."""
    labels_csv: Path | None = None
    """Another table of labels in place of the data set's own; None: its own."""
    group_pattern: str | None = None
    """Regular expression with one group, matched on the image path, that names the lesion or patient, for `folders`; None: each image is
    its own group."""
    mask_dir: Path | None = None
    """Folder with one mask an image (same file stem), for `folders`; the maps of `explain` are measured against them."""

    def check(self) -> None:
        super().check()
        check_group_pattern(self.group_pattern)

    def check_paths(self) -> None:
        super().check_paths()
        check_path("labels-csv", self.labels_csv, "file")
        check_path("mask-dir", self.mask_dir, "folder")

    def unused(self) -> dict[str, str]:
        found = super().unused()
        if self.dataset != "sample":
            found["sample"] = f"--dataset {self.dataset} is not drawn"
        if self.dataset not in LABELLED:
            found["labels_csv"] = f"--dataset {self.dataset} has labels of its own"
        if self.dataset != "folders":
            found |= {"group_pattern": "the data set names its own groups", "mask_dir": "only `folders` data takes masks from a folder"}
        return found
