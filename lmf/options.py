"""Options of the grid commands (and the cells they stand for), of `explain` and of `audit`; nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Suppress

from common.cli import BACKBONE_NAMES, DataOptions, Positional, check_path, check_range, check_run, require
from common.explanation.options import ExplainOptions, runs_there
from lmf import paper
from lmf.config import DATASETS, SAMPLE, LmfOptions, LossName, SampleName, TrainLossOptions, check_labels_and_groups


@dataclass(frozen=True, kw_only=True)
class GridOptions(LmfOptions):
    """What the grid commands share. Cells that are finished are not run again."""

    backbone: Suppress[str | None] = None
    seed: Suppress[int] = 0
    labels_csv: Suppress[Path | None] = None
    mask_dir: Suppress[Path | None] = None
    group_pattern: Suppress[str | None] = None
    network: Suppress[Path | None] = None
    backbones: tuple[str, ...] = ()
    """Networks. Default: the paper's three (tables) or efficientnetv2s (sweep); on the sample mobilenetv2_035."""
    seeds: tuple[int, ...] = (0,)
    """Seeds; each gives a split and initial weights of its own, the same for every loss."""

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [name for name in self.backbones if name not in BACKBONE_NAMES]
        require(not unknown, f"--backbones {' '.join(unknown)}: expected some of {', '.join(BACKBONE_NAMES)}")
        require(bool(self.seeds), "--seeds: expected at least one")
        for option, values in (("backbones", self.backbones), ("seeds", self.seeds)):
            require(len(set(values)) == len(values), f"--{option}: one is given twice")
        for seed in self.seeds:
            check_range("seeds", seed, 0, 2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class TablesOptions(GridOptions):
    """Data sets x backbones x losses x seeds: Tables 2 to 5 and figs. 1 and 2."""

    dataset: Suppress[str] = "sample"
    sample: Suppress[SampleName] = "ham10000"
    data_dir: Path | None = None
    """Folder that holds one folder a data set (ham10000, odir5k, isic2019, covid_radiography). Default: the drawn samples."""
    datasets: tuple[SampleName, ...] = ("ham10000", "odir5k", "isic2019", "covid_radiography")
    """Data sets."""
    losses: tuple[LossName, ...] = ("cce", "focal", "ldam", "bwcce", "lmf")
    """Losses; every two of them are compared on the same test images."""
    alpha: float | None = None
    """Weight of LDAM in LMF, for every cell. Default: Table 6's, elsewhere 1."""
    beta: float | None = None
    """Weight of the focal loss in LMF, for every cell. Default: Table 6's, elsewhere 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for option, values in (("datasets", self.datasets), ("losses", self.losses)):
            require(bool(values), f"--{option}: expected at least one")
            require(len(set(values)) == len(values), f"--{option}: one is given twice")
        if self.data_dir is not None:
            missing = [name for name in self.datasets if not (self.data_dir / name).is_dir()]
            require(not missing, f"--data-dir {self.data_dir}: no folder {', '.join(missing)} in it; leave it out of --datasets or add it")

    def cells(self) -> list[TrainLossOptions]:
        """The training options of every cell, data set by data set."""
        root, sampled = self.data_dir, self.data_dir is None
        backbones = self.backbones or ((SAMPLE["backbone"],) if sampled else tuple(paper.SCORE_TABLES))
        return [
            cell_options(
                self,
                dataset="sample" if sampled else name,
                sample=name,
                data_dir=None if root is None else root / name,
                backbone=backbone,
                loss=loss,
                seed=seed,
                **({"alpha": self.alpha, "beta": self.beta} if loss == "lmf" else {}),
            )
            for name in self.datasets
            for backbone in backbones
            for seed in self.seeds
            for loss in self.losses
        ]


# Eleven values from 0.5 to 2.0 that hold all of Table 6's and those the text names; the paper does not list its grid.
GRID = (0.5, 0.6, 0.7, 0.8, 1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0)
SWEPT = {"equal": "alpha = beta", "beta": "alpha = 1, beta varies", "alpha": "beta = 1, alpha varies"}


@dataclass(frozen=True, kw_only=True)
class SweepOptions(GridOptions):
    """The three alpha/beta settings of fig. 4, chosen between on validation images."""

    labels_csv: Path | None = None
    """CSV with the labels, where they are not the data set's own."""
    mask_dir: Path | None = None
    """Folder with one mask an image (same file stem), for `folders` data."""
    group_pattern: str | None = None
    """Regular expression with one group, matched on the image path, that names the lesion or patient (for `folders` data)."""
    network: Path | None = None
    """A saved Keras model (.keras) to use as the backbone: raw RGB 0..255 in, feature map or vector out."""
    settings: tuple[Literal["equal", "beta", "alpha"], ...] = ("equal", "beta", "alpha")
    """equal: alpha = beta (setting 1); beta: alpha = 1 (setting 2); alpha: beta = 1 (setting 3)."""
    grid: tuple[float, ...] = ()
    """Values of alpha and beta. Default: eleven from 0.5 to 2.0; on the sample 0.5, 1.0 and 2.0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.settings), "--settings: expected at least one of equal, beta, alpha")
        require(len(self.backbones) <= 1, "--backbones: expected one; the sweep is of one network")
        require(not (self.backbones and self.network), "--network and --backbones exclude each other; give one of them")
        for option, values in (("settings", self.settings), ("grid", self.grid)):
            require(len(set(values)) == len(values), f"--{option}: one is given twice")
        for value in self.grid:
            check_range("grid", value, 0.01, 100)

    def values(self) -> tuple[float, ...]:
        return self.grid or ((0.5, 1.0, 2.0) if self.dataset == "sample" else GRID)

    def pairs(self, setting: str) -> list[tuple[float, float]]:
        """(alpha, beta) of one setting, in the grid's order."""
        return [{"equal": (v, v), "beta": (1.0, v), "alpha": (v, 1.0)}[setting] for v in self.values()]

    def cells(self) -> list[TrainLossOptions]:
        """The training options of every pair and seed, each pair once although settings share some."""
        pairs = dict.fromkeys(pair for setting in self.settings for pair in self.pairs(setting))
        backbone = self.backbones[0] if self.backbones else None
        epochs = self.epochs or (None if self.dataset == "sample" else 60)
        return [
            cell_options(self, backbone=backbone, loss="lmf", alpha=alpha, beta=beta, seed=seed, epochs=epochs)
            for alpha, beta in pairs
            for seed in self.seeds
        ]


def cell_options(grid: GridOptions, **values: Any) -> TrainLossOptions:
    """A cell's options: the grid's own where the two have the same field, and `values`."""
    shared = {field.name: getattr(grid, field.name) for field in fields(LmfOptions)}
    return TrainLossOptions(**{**shared, "run_dir": None, "control": False, **values})


def arguments_of(options: TrainLossOptions) -> tuple[str, ...]:
    """The command line that gives these options (run_dir is left to the caller)."""
    words: list[str] = []
    for field in fields(options):
        value = getattr(options, field.name)
        if field.name == "run_dir" or value == field.default:
            continue
        name = field.name.replace("_", "-")
        words += [f"--{name}" if value else f"--no-{name}"] if isinstance(value, bool) else [f"--{name}", str(value)]
    return tuple(words)


@dataclass(frozen=True, kw_only=True)
class LossMapsOptions(ExplainOptions):
    """Explain a run; with --beside or the folder of a table, several runs side by side as in fig. 3."""

    run: Positional[Path]
    """Run folder that holds model.keras and predictions.csv; or the folder of `tables`: then its runs of one backbone and seed, the first
    there are, side by side."""
    beside: tuple[Path, ...] = ()
    """Run folders with other losses (or data sets): draws the Grad-CAM of all runs side by side, one test image a data set."""
    boxes: Path | None = None
    """CSV `image,x,y,width,height` with a doctor's boxes to draw: image as in manifest.csv, pixels of the original from its top left."""

    def __post_init__(self) -> None:
        if (self.run / "cells.csv").is_file():
            require(not self.beside, "--beside: the folder of a table stands for several runs already; give one run's folder beside it")
            object.__setattr__(self, "output", self.output or self.run / "explanations")
            first, *others = runs_of_table(self.run)
            object.__setattr__(self, "run", first)
            object.__setattr__(self, "beside", tuple(others))
        super().__post_init__()
        for path in self.beside:
            check_run(path, "model.keras", "predictions.csv")
        check_path("boxes", self.boxes, "file")
        if self.side_by_side:
            for field in fields(self):
                given = field.name in _OF_ONE_RUN and getattr(self, field.name) != field.default
                option = f"--{field.name.replace('_', '-')}"
                require(
                    not given, f"{option} does not go with --beside, --boxes or a table's folder: they draw the Grad-CAM of test images"
                )

    @property
    def side_by_side(self) -> bool:
        """Whether fig. 3 is drawn, not the sheet of one run."""
        return bool(self.beside) or self.boxes is not None


# Options of the sheet of one run that fig. 3 has no use for.
_OF_ONE_RUN = ("images", "methods", "engine", "lime_samples", "lime_superpixels", "seed", "faithfulness_images")


def runs_of_table(table: Path) -> list[Path]:
    """Run folders of a finished table's first backbone and seed whose models are there, all data sets and losses, in the table's order.

    Raises:
        UsageError: none of the table's runs is there with its model.
    """
    there = runs_there(table)
    first = there[0][0]
    return [place for row, place in there if all(row.get(key) == first.get(key) for key in ("backbone", "seed"))]


@dataclass(frozen=True, kw_only=True)
class AuditOptions(DataOptions):
    """Look at a data set without training: counts, unreadable files, copies, leakage of both splits; and fig. 2."""

    dataset: str = "sample"
    """ham10000, odir5k, isic2019, covid_radiography, folders (one folder a class), or sample (drawn on the spot, synthetic)."""
    sample: SampleName = "ham10000"
    """Which data set `--dataset sample` imitates."""
    split: Suppress[Literal["paper", "grouped"] | None] = None
    skip_unreadable: Suppress[bool] = False
    image_size: Suppress[int | None] = None
    output: Path | None = None
    """Folder to write to. Default: runs/lmf/audit/<data set>."""

    def __post_init__(self) -> None:
        require(self.dataset in DATASETS, f"--dataset {self.dataset}: expected one of {', '.join(DATASETS)}")
        super().__post_init__()
        check_labels_and_groups(self)
        require(self.output is None or not self.output.is_file(), f"--output {self.output}: is a file; expected a folder")
