"""Settings of a command of many runs: where they run, its axes, its seeds, and the settings of one run, which hold for all. No Keras."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from common.settings import LARGEST_SEED, Settings, Within, check_backbone, check_range, check_run_dir, require


@dataclass(frozen=True, kw_only=True)
class Engine(Settings):
    """Where the runs of a command happen; no number depends on it."""

    NOT_RECIPE: ClassVar[frozenset[str]] = frozenset({"engine", "address", "cpus_per_cell", "gpus_per_cell", "parallel", "plan"})
    AXES: ClassVar[tuple[str, ...]] = ()
    """Fields that hold what the runs differ in; no value may stand there twice."""

    engine: Literal["local", "ray"] = "local"
    """`local`: processes of this machine. `ray`: tasks of a Ray cluster (requirements-ray.txt, docs/clusters.md)."""
    parallel: Annotated[int, Within(1, 1024)] = 1
    """Runs at a time on this machine; they divide its threads."""
    address: str = "auto"
    """Ray cluster: `auto` is the one that runs here, HOST:PORT another, `local` one that is started on this machine for this command."""
    cpus_per_cell: Annotated[int, Within(1, 1024)] = 1
    """CPUs, and threads, of one run on Ray."""
    gpus_per_cell: Annotated[float, Within(0, 64)] = 0.0
    """GPUs of one run on Ray; 0.25 packs four runs on one, 0 hides them."""
    plan: bool = False
    """Only print the runs, their estimated hours and disk."""

    def check(self) -> None:
        super().check()
        whole = self.gpus_per_cell <= 1 or self.gpus_per_cell == int(self.gpus_per_cell)
        require(whole, f"--gpus-per-cell {self.gpus_per_cell:g}: expected a part of one GPU, or whole ones")
        known = self.address in ("auto", "local") or re.fullmatch(r"[^\s:/]+:\d{1,5}", self.address)
        require(bool(known), f"--address {self.address}: expected auto, local or HOST:PORT")
        for name in self.AXES:
            values, option = getattr(self, name) or (), name.replace("_", "-")
            require(len(set(values)) == len(values), f"--{option} {' '.join(map(str, values))}: one is given twice")
            for seed in values if name == "seeds" else ():
                check_range("seeds", seed, 0, LARGEST_SEED)

    def check_paths(self) -> None:
        super().check_paths()
        if self.engine == "ray" and not self.plan:
            require(importlib.util.find_spec("ray") is not None, "--engine ray: Ray is not installed; install requirements-ray.txt")

    def idle_options(self) -> dict[str, str]:
        """Those of the options here that have no effect beside the others, each with the reason."""
        on_ray = ("address", "cpus_per_cell", "gpus_per_cell")
        if self.engine == "local":
            return dict.fromkeys(on_ray, "expected --engine ray")
        return {"parallel": "with --engine ray the cluster runs as many at a time as it has CPUs and GPUs for"}

    def unused(self) -> dict[str, str]:
        return super().unused() | self.idle_options()


@dataclass(frozen=True, kw_only=True)
class Grid(Engine):
    """Networks by seeds. A study's grid derives from this and from the class of its images, so that those are given once."""

    RUNS: ClassVar[tuple[str, ...]] = ()
    """Fields that hold the settings of the grid's runs."""
    SHARED: ClassVar[tuple[str, ...]] = ()
    """Fields of the grid that every run takes over: the images and the reading."""
    AXES: ClassVar[tuple[str, ...]] = ("backbones", "seeds")
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

    def check_paths(self) -> None:
        super().check_paths()
        check_run_dir(self.run_dir)
        for name in self.RUNS:
            self.run_settings(name).check_paths()

    def unused(self) -> dict[str, str]:
        found = super().unused()
        driven = dict.fromkeys((*self.SHARED, *self.DRIVEN), "an option of the command itself sets it for all runs")
        for name in self.RUNS:
            # What has an effect with one of the networks has one here.
            each = [self.run_settings(name, backbone=backbone).unused() for backbone in self.backbones] or [{}]
            idle = {field: reason for field, reason in each[0].items() if all(field in other for other in each)}
            found |= {f"{name}.{field}": reason for field, reason in (idle | driven).items()}
        return found

    def run_settings(self, name: str, **changes: Any) -> Any:
        """The settings of one run: those of the field `name` with what the grid shares, and `changes`."""
        return replace(getattr(self, name), **{**{field: getattr(self, field) for field in self.SHARED}, **changes})
