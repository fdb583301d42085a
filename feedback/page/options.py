"""Options of `feedback serve` and `feedback replay`. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.cli import DEFAULT_CACHE, Positional, check_path, check_range, check_run, require


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The page for corrections."""

    run: Path | None = None
    """Run folder of `baseline`, `simulate` or `slices` whose model is corrected (default: the sample's base, trained when missing)."""
    images: Path | None = None
    """Folder of the images to look at; nothing outside it is read (default: the drawn sample's)."""
    log: Path | None = None
    """Folder of the correction log; one that exists is taken up (default: runs/feedback/page/<name of the run>)."""
    port: int = 7860
    """Port on this machine's own address 127.0.0.1; the page cannot be reached from elsewhere. 0: any free one."""
    order: Literal["uncertain", "name"] = "uncertain"
    """Next image: the one the model is least sure of, or by name."""
    learning_rate: float = 5e-3
    """Learning rate of a correction (plain SGD, as in the thesis)."""
    steps: int = 10
    """Online steps on each correction (thesis: 1, in many passes over all images; one alone is too small to see)."""
    explanation_weight: float | None = None
    """Lambda of eq. 4.1: share of the region in what is learned (default: the run's, or 0.3)."""
    guard_images: int = 64
    """Validation images of the run on which accuracy is watched; 0: no guard."""
    guard_drop: float = 0.05
    """Warn when accuracy on them falls by more than this."""
    data_dir: Path | None = None
    """Where the run's own images are now, for the guard, when they were moved."""
    keep_states: int = 20
    """How many of the last models stay on disk; going back further computes them again from the log."""
    max_upload_mb: float = 20.0
    """Largest image file that is opened, in MB."""
    cache_dir: Path = DEFAULT_CACHE
    """Folder for the drawn sample."""
    seed: int = 0
    """Seed of dropout in the online steps."""

    def __post_init__(self) -> None:
        if self.run is not None:
            check_run(self.run, "model.keras", "finished.json")
        check_path("images", self.images, "folder")
        require(self.run is None or self.images is not None, "--images: expected the folder of the images to look at")
        require(self.log is None or not self.log.exists() or self.log.is_dir(), f"--log {self.log}: is a file; expected a folder")
        check_path("data-dir", self.data_dir, "folder")
        check_range("port", self.port, 0, 65535)
        require(0 < self.learning_rate <= 10, f"--learning-rate {self.learning_rate}: expected more than 0 and at most 10")
        check_range("steps", self.steps, 1, 1000)
        check_range("explanation-weight", self.explanation_weight, 0, 1)
        check_range("guard-images", self.guard_images, 0)
        check_range("guard-drop", self.guard_drop, 0, 1)
        check_range("keep-states", self.keep_states, 1)
        check_range("max-upload-mb", self.max_upload_mb, 0.01, 1000)
        check_range("seed", self.seed, 0, 2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """Apply the corrections of a log to its base model again and compare the weights."""

    log: Positional[Path]
    """Folder of the correction log."""
    output: Path | None = None
    """Where to write the tuned model (a .keras file)."""

    def __post_init__(self) -> None:
        require(self.log.is_dir(), f"{self.log}: no such folder")
        for name in ("session.json", "base/model.keras"):
            require((self.log / name).is_file(), f"{self.log}: not a correction log ({name} is missing)")
        require(
            self.output is None or (self.output.suffix == ".keras" and not self.output.is_dir()),
            f"--output {self.output}: expected a file name that ends in .keras",
        )
