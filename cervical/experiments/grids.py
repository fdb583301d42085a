"""What the commands of many runs share: the networks, the seeds, and the settings of one run, which hold for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from cervical.experiments.base import CellSource, CellTraining, Reading
from common.settings import LARGEST_SEED, check_backbone, check_range, check_run_dir, require

# Options that the grid itself takes; inside a run's settings they would have no effect.
GRID_FIELDS = ("dataset", "data_dir", "cache_dir", "skip_unreadable", "group_pattern", "mask_dir", "reading", "backbone", "seed", "run_dir")
SHARED = ("split", "split-seed", "limit", "image-size", "copies", "batch-size", "weights", "precision")


@dataclass(frozen=True, kw_only=True)
class Grid(CellSource):
    """Networks by seeds."""

    RUNS: ClassVar[tuple[str, ...]] = ()
    """Fields that hold the settings of the grid's runs."""

    reading: Reading = "described"
    """`described`: the documents' text. `coded`: what the authors' code does. `corrected`: careful practice. `reduced`: of no document, a
    protocol for two CPU cores."""
    backbones: tuple[str, ...] = ("mobilenetv2_035",)
    """Networks."""
    seeds: tuple[int, ...] = (0,)
    """Seeds; a comparison of methods needs several."""
    run_dir: Path | None = None
    """Folder for the outcome; default runs/cervical/<command>/<name made from the settings>."""

    def check(self) -> None:
        super().check()
        for name in self.backbones:
            check_backbone("backbones", name)
        for seed in self.seeds:
            check_range("seeds", seed, 0, LARGEST_SEED)
        for name in ("backbones", "seeds"):
            values = getattr(self, name)
            require(bool(values), f"--{name}: expected at least one")
            require(len(set(values)) == len(values), f"--{name} {' '.join(map(str, values))}: one is given twice")

    def check_paths(self) -> None:
        super().check_paths()
        check_run_dir(self.run_dir)
        for name in self.RUNS:
            self.run_settings(name).check_paths()

    def unused(self) -> dict[str, str]:
        found = super().unused()
        for name in self.RUNS:
            each = [self.run_settings(name, backbone=backbone).unused() for backbone in self.backbones]
            own = {field: reason for field, reason in each[0].items() if all(field in other for other in each)}
            own |= dict.fromkeys(GRID_FIELDS, "the command's own option of this name sets it for all runs")
            found |= {f"{name}.{field}": reason for field, reason in own.items()}
        return found

    def run_settings(self, name: str, **changes: Any) -> Any:
        """The settings of one run: those of the field `name` on the grid's images, with `changes`."""
        images = {field: getattr(self, field) for field in GRID_FIELDS[:7]}
        return replace(getattr(self, name), **images, **changes)


def everywhere(runs: Mapping[str, Mapping[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    """Short options for all the runs' settings: {field: its own short options} -> `{"epochs": ("finetune.training.epochs", …)}`."""
    spelled = {name.replace("_", "-"): options for name, options in runs.items()}
    found: dict[str, tuple[str, ...]] = {option: tuple(f"{name}.{option}" for name in spelled) for option in SHARED}
    for name, options in spelled.items():
        for option, targets in options.items():
            found[option] = found.get(option, ()) + tuple(f"{name}.{target}" for target in targets)
    return found


def grid_networks(settings: CellTraining, otherwise: tuple[str, ...]) -> tuple[str, ...]:
    """The grid's networks by default: on the sample the small one of its runs."""
    return (settings.backbone,) if settings.dataset == "sample" else otherwise
