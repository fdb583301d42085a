"""Every table of the paper and the thesis: five networks by three methods and the controls, ours beside printed, and the methods compared
on the same test images (Tables I-IV; 4.1, 4.2, 6.1-6.4, 7.1).

Runs only what is missing. At full size 20 runs: hours on a GPU; any subset with --backbones, --methods, --seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from cervical.experiments import contrastive, cost_sensitive, finetune
from cervical.experiments.base import PAPER_BACKBONES
from cervical.experiments.contrastive import ContrastiveSettings
from cervical.experiments.cost_sensitive import CostSensitiveSettings
from cervical.experiments.finetune import FinetuneSettings
from cervical.experiments.grids import Grid, everywhere, grid_networks
from common.settings import Command

Method = Literal["finetune", "cost-sensitive", "contrastive"]
METHODS: tuple[Method, ...] = ("finetune", "cost-sensitive", "contrastive")


@dataclass(frozen=True, kw_only=True)
class TablesSettings(Grid):
    """Networks by methods by seeds."""

    RUNS: ClassVar[tuple[str, ...]] = ("finetune", "cost_sensitive", "contrastive")
    AXES: ClassVar[tuple[str, ...]] = (*Grid.AXES, "methods")

    methods: tuple[Method, ...] = METHODS
    """Methods, one printed table each."""
    finetune: FinetuneSettings = finetune.DESCRIBED
    """Of the runs of Table I."""
    cost_sensitive: CostSensitiveSettings = cost_sensitive.DESCRIBED
    """Of the runs of Table II."""
    contrastive: ContrastiveSettings = contrastive.DESCRIBED
    """Of the runs of Table III."""


def default(reading: str, dataset: str) -> TablesSettings:
    """The reading's settings with the paper's five networks and with controls; small on the sample."""
    runs = {name: kind.default(reading, dataset) for name, kind in zip(TablesSettings.RUNS, MODULES, strict=True)}
    runs["contrastive"] = replace(runs["contrastive"], control=True)
    first = runs["finetune"]
    return TablesSettings(dataset=first.dataset, reading=first.reading, backbones=grid_networks(first, PAPER_BACKBONES), **runs)


MODULES = (finetune, cost_sensitive, contrastive)
EVERYWHERE = everywhere({name: kind.EVERYWHERE for name, kind in zip(TablesSettings.RUNS, MODULES, strict=True)})
COMMAND = Command(TablesSettings, "cervical.tables:run_tables", __doc__, default, EVERYWHERE)
