"""Open the page on which a dermatologist corrects class and region, one image at a time (thesis, sections 1.4 and 4.1).

Research software, not a diagnosis. Every correction is written to a log before it is learned, and can be undone, exported and replayed.
Needs requirements-page.txt. Cost: under 5 s a correction on 2 cores with mobilenetv2_035; disk: one model file a correction, the last 20
kept.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from common.settings import DEFAULT_CACHE, Command, ExistingFolder, Seed, Settings, Within, check_run, require


@dataclass(frozen=True, kw_only=True)
class ServeSettings(Settings):
    """The page for corrections."""

    run: Path | None = None
    """Run folder of `baseline`, `simulate` or `slices` whose model is corrected (default: the sample's base, trained when missing)."""
    images: ExistingFolder = None
    """Folder of the images to look at; nothing outside it is read (default: the drawn sample's)."""
    log: Path | None = None
    """Folder of the correction log; one that exists is taken up (default: runs/feedback/page/<name of the run>)."""
    port: Annotated[int, Within(0, 65535)] = 7860
    """Port on this machine's own address 127.0.0.1; the page cannot be reached from elsewhere. 0: any free one."""
    order: Literal["uncertain", "disagreement", "name"] = "uncertain"
    """Next image: the one the model is least sure of; the one whose map lies where similar corrected lesions have no region; or by name."""
    learning_rate: Annotated[float, Within(0, 10, above=True)] = 0.005
    """Learning rate of a correction (plain SGD, as in the thesis)."""
    steps: Annotated[int, Within(1, 1000)] = 10
    """Online steps on each correction (thesis: 1, in many passes over all images; one alone is too small to see)."""
    region_weight: Annotated[float, Within(0, 100)] = 0.5
    """Norm of the explanation's gradient in a step; the classification's, with what is replayed, is clipped at 1."""
    anchor_weight: Annotated[float, Within(0, 1000)] = 1.0
    """Weight of KL(model before the correction || model): how strongly the other predictions are held."""
    replay_images: Annotated[int, Within(0, 100_000)] = 96
    """Training images of the run, class-balanced, from which each step sees some again; 0, or none at hand: a fifth of the rate."""
    guard_images: Annotated[int, Within(0, 100_000)] = 96
    """Validation images of the run, class-balanced, on which the model is watched; 0: no guard."""
    guard_drop: Annotated[float, Within(0, 1)] = 0.05
    """Warn when the balanced accuracy on them falls by more than this."""
    guard_share: Annotated[float, Within(0, 1)] = 0.2
    """Warn when a class's share of the answers on them changes by more than this."""
    rollback: Literal["offer", "automatic"] = "offer"
    """After a correction that the guard sees harm in: say so, or go back to the model before it by itself (recorded in the log)."""
    data_dir: ExistingFolder = None
    """Where the run's own images are now, for the guard and the replay, when they were moved."""
    keep_states: Annotated[int, Within(1, 100_000)] = 20
    """How many of the last models stay on disk; going back further computes them again from the log."""
    max_upload_mb: Annotated[float, Within(0.01, 1000)] = 20.0
    """Largest image file that is opened, in MB."""
    cache_dir: Path = DEFAULT_CACHE
    """Folder for the drawn sample."""
    seed: Seed = 0
    """Seed of dropout in the online steps."""

    def check_paths(self) -> None:
        super().check_paths()
        if self.run is not None:
            check_run(self.run, "model.keras", "finished.json")
        require(self.run is None or self.images is not None, "--images: expected the folder of the images to look at")
        require(self.log is None or not self.log.exists() or self.log.is_dir(), f"--log {self.log}: is a file; expected a folder")
        require(importlib.util.find_spec("gradio") is not None, "the page needs Gradio: pip install -r requirements-page.txt")

    def unused(self) -> dict[str, str]:
        watched = ("guard_drop", "guard_share", "rollback")
        found = {} if self.guard_images else dict.fromkeys(watched, "there is no guard (--guard-images 0)")
        found |= {} if self.guard_images or self.replay_images else {"data_dir": "none of the run's images are read"}
        return super().unused() | found | ({} if self.run is None else {"cache_dir": "only the drawn sample is kept there"})


COMMAND = Command(ServeSettings, "feedback.page.serve:run_serve", __doc__ or "")
