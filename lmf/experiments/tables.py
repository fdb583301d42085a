"""Data sets x backbones x losses x seeds as far as missing, then Tables 1 to 5, figs. 1 and 2, and the losses compared with each other.

Printed: LMF has the best macro F1 in 10 of 12 cells of Tables 2 to 4. The whole grid is 60 runs of 100 epochs; choose a part with
--datasets, --backbones, --losses and --seeds. --also sets further finished runs of the same images beside them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from common.settings import Command, check_path, require
from lmf import paper
from lmf.experiments import train
from lmf.experiments.base import SampleName
from lmf.experiments.grids import LmfGrid, short_options
from lmf.experiments.train import LossName, TrainSettings

DRIVEN = (*LmfGrid.DRIVEN, "control")


@dataclass(frozen=True, kw_only=True)
class TablesSettings(LmfGrid):
    """The grid behind the tables."""

    AXES: ClassVar[tuple[str, ...]] = (*LmfGrid.AXES, "datasets", "losses")
    DRIVEN: ClassVar[tuple[str, ...]] = DRIVEN

    datasets: tuple[SampleName, ...] = ()
    """With `--dataset sample`: the data sets to imitate; with a data set: none. Several real data sets are several commands."""
    losses: tuple[LossName, ...] = ("cce", "focal", "ldam", "bwcce", "lmf")
    """Losses; every two of them are compared on the same test images."""
    also: tuple[Path, ...] = ()
    """Folders whose finished runs stand in the table too, such as those of `retrain`, or of this command with another --head."""
    against: LossName | None = None
    """Compare each method with this loss only (the fewer comparisons, the less Holm's correction takes); None: every two."""

    def check(self) -> None:
        super().check()
        require(self.against is None or self.against in self.losses, f"--against {self.against}: expected one of --losses")

    def check_paths(self) -> None:
        super().check_paths()
        for folder in self.also:
            check_path("also", folder, "folder")

    def unused(self) -> dict[str, str]:
        found = self.unused_of(self.losses)
        if self.dataset != "sample":
            found["datasets"] = "--dataset names the one data set; only the samples can be several"
        return found

    def cells(self) -> list[TrainSettings]:
        """The settings of every run, data set by data set."""
        names = self.datasets or (self.sample,)
        return [
            self.run_settings("train", sample=name, backbone=backbone, loss=loss, seed=seed, control=False, run_dir=None).settled()
            for name in names
            for backbone in self.backbones
            for seed in self.seeds
            for loss in self.losses
        ]


def default(reading: str, dataset: str) -> TablesSettings:
    """The paper's three networks; on the sample the small one on all four drawn sets."""
    run = replace(train.default(reading, dataset), control=False)
    sample = dataset == "sample"
    return TablesSettings(
        dataset=run.dataset,
        reading=run.reading,
        backbones=(run.backbone,) if sample else tuple(paper.SCORE_TABLES),
        datasets=("ham10000", "odir5k", "isic2019", "covid_radiography") if sample else (),
        train=run,
    )


COMMAND = Command(TablesSettings, "lmf.training.grids:run_tables", __doc__ or "", default, short_options(DRIVEN))
