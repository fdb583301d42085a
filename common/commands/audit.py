"""What the audits of all studies take besides the images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.settings import Seed, Settings, check_run, check_run_dir


@dataclass(frozen=True, kw_only=True)
class Audit(Settings):
    """A look at a data set without training."""

    split_seed: Seed = 42
    """Seed of the splits that are looked at."""
    run_dir: Path | None = None
    """Folder to write to; default runs/<study>/audit/<data set>."""
    run: Path | None = None
    """Finished run of these images: labels of its test images that confident learning (Northcutt et al. 2021, `cleanlab`) takes for wrong
    are listed in label_errors.csv and drawn; the run did not train on them. Somebody who knows must look at them."""

    def check_paths(self) -> None:
        super().check_paths()
        check_run_dir(self.run_dir)
        if self.run is not None:
            check_run(self.run, "predictions.csv")

    def unused(self) -> dict[str, str]:
        return super().unused() | {"skip_unreadable": "an audit lists every unreadable file"}
