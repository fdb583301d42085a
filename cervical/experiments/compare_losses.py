"""Is N-pairs the best loss? Encoders and classifiers with each loss, their curves (thesis figure 6.3), and the control.

The authors compared N-pairs with an NT-Xent and a triplet loss that cannot learn (facts 1.8); the `coded` reading brings those back.
Printed: N-pairs falls to 2.09, the authors' NT-Xent settles at 3.4333, their triplet loss at 0.2; no accuracies. Costs one contrastive run
a loss and seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from cervical.experiments import contrastive
from cervical.experiments.contrastive import ContrastiveSettings, Loss
from cervical.experiments.grids import Grid, everywhere, grid_networks
from common.settings import Command

LOSSES: tuple[Loss, ...] = ("npairs", "ntxent", "triplet", "supcon")
CODED_LOSSES: tuple[Loss, ...] = ("npairs", "ntxent-coded", "triplet-coded")


@dataclass(frozen=True, kw_only=True)
class CompareLossesSettings(Grid):
    """Networks by losses by seeds."""

    RUNS: ClassVar[tuple[str, ...]] = ("contrastive",)
    AXES: ClassVar[tuple[str, ...]] = (*Grid.AXES, "losses")

    losses: tuple[Loss, ...] = LOSSES
    """Losses to compare; the first is what the others are measured against."""
    contrastive: ContrastiveSettings = contrastive.DESCRIBED
    """Of every run."""

    def unused(self) -> dict[str, str]:
        why = "--losses names the losses; the first one's runs bring the control"
        return super().unused() | {"contrastive.loss": why, "contrastive.control": why}


def default(reading: str, dataset: str) -> CompareLossesSettings:
    """The reading's settings; the coded reading has the authors' own competitors."""
    run = replace(contrastive.default(reading, dataset), control=True)
    losses = CODED_LOSSES if reading == "coded" else LOSSES
    backbones = grid_networks(run, ("mobilenetv2",))
    return CompareLossesSettings(dataset=run.dataset, reading=run.reading, backbones=backbones, losses=losses, contrastive=run)


EVERYWHERE = everywhere({"contrastive": contrastive.EVERYWHERE})
COMMAND = Command(CompareLossesSettings, "cervical.tables:run_compare_losses", __doc__, default, EVERYWHERE)
