"""Which images the commands of the study take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from common.settings import ExistingFile, FolderSource

DatasetName = Literal["sample", "ham10000", "odir5k", "isic2019", "covid_radiography", "folders"]
SampleName = Literal["ham10000", "odir5k", "isic2019", "covid_radiography"]
Sampler = Literal["shuffle", "balanced", "oversample", "undersample"]
LABELLED = ("ham10000", "odir5k", "isic2019")


@dataclass(frozen=True, kw_only=True)
class LmfSource(FolderSource):
    """Images of one of the paper's data sets, or somebody's own."""

    NOT_RECIPE: ClassVar[frozenset[str]] = FolderSource.NOT_RECIPE | {"labels_csv"}  # it counts by the labels, in the fingerprint

    dataset: DatasetName = "sample"
    """ham10000, odir5k, isic2019, covid_radiography, folders (one folder a class), or sample (drawn on the spot, synthetic)."""
    sample: SampleName = "ham10000"
    """Which data set `--dataset sample` imitates."""
    labels_csv: ExistingFile = None
    """Another table of labels in place of the data set's own; None: its own."""

    def unused(self) -> dict[str, str]:
        found = super().unused()
        if self.dataset != "sample":
            found["sample"] = f"--dataset {self.dataset} is not drawn"
        if self.dataset not in LABELLED:
            found["labels_csv"] = f"--dataset {self.dataset} has labels of its own"
        return found
