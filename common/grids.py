"""Settings of a command of many runs: its axes, its seeds, and the settings of one run, which hold for all of them. No Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from common.settings import LARGEST_SEED, Settings, check_backbone, check_range, check_run_dir, require


@dataclass(frozen=True, kw_only=True)
class Grid(Settings):
    """Networks by seeds. A study's grid derives from this and from the class of its images, so that those are given once."""

    RUNS: ClassVar[tuple[str, ...]] = ()
    """Fields that hold the settings of the grid's runs."""
    SHARED: ClassVar[tuple[str, ...]] = ()
    """Fields of the grid that every run takes over: the images and the reading."""
    AXES: ClassVar[tuple[str, ...]] = ("backbones", "seeds")
    """Fields that hold what the runs differ in; no value may stand there twice."""
    DRIVEN: ClassVar[tuple[str, ...]] = ("backbone", "seed", "run_dir")
    """Fields of a run that the axes set."""

    backbones: tuple[str, ...] = ("mobilenetv2_035",)
    """Networks."""
    seeds: tuple[int, ...] = (0,)
    """Seeds; a comparison of methods needs several."""
    run_dir: Path | None = None
    """Folder for the outcome; default runs/<study>/<command>/<name made from the settings>."""

    def check(self) -> None:
        super().check()
        for name in self.backbones:
            check_backbone("backbones", name)
        for seed in self.seeds:
            check_range("seeds", seed, 0, LARGEST_SEED)
        for name in self.AXES:
            values, option = getattr(self, name), name.replace("_", "-")
            require(len(set(values)) == len(values), f"--{option} {' '.join(map(str, values))}: one is given twice")

    def check_paths(self) -> None:
        super().check_paths()
        check_run_dir(self.run_dir)
        for name in self.RUNS:
            self.run_settings(name).check_paths()

    def unused(self) -> dict[str, str]:
        found = super().unused()
        driven = dict.fromkeys((*self.SHARED, *self.DRIVEN), "an option of the command itself sets it for all runs")
        for name in self.RUNS:
            found |= {f"{name}.{field}": reason for field, reason in (self.run_settings(name).unused() | driven).items()}
        return found

    def run_settings(self, name: str, **changes: Any) -> Any:
        """The settings of one run: those of the field `name` with what the grid shares, and `changes`."""
        return replace(getattr(self, name), **{**{field: getattr(self, field) for field in self.SHARED}, **changes})


def everywhere(runs: Mapping[str, Mapping[str, tuple[str, ...]]], shared: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Short options for all the runs' settings: {field: its own short options} -> {"epochs": ("finetune.training.epochs", …)}.

    `shared`: fields, as options are spelled, that every run has.
    """
    spelled = {name.replace("_", "-"): options for name, options in runs.items()}
    found: dict[str, tuple[str, ...]] = {option: tuple(f"{name}.{option}" for name in spelled) for option in shared}
    for name, options in spelled.items():
        for option, targets in options.items():
            found[option] = found.get(option, ()) + tuple(f"{name}.{target}" for target in targets)
    return found
