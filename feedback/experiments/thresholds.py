"""Average Jaccard index against the threshold of the map, 0 to 100 % (figure 3.3; the thesis uses 50 %).

Chosen on validation, shown on test. Cost: one pass over the images.
"""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from common.settings import DEFAULT_CACHE, Batch, Command, ExistingFolder, Settings, check_run


@dataclass(frozen=True, kw_only=True)
class ThresholdsSettings(Settings):
    """Jaccard index against the threshold."""

    run: Positional[Path]
    """Run folder of `simulate` or `slices`."""
    data_dir: ExistingFolder = None
    """The simulation images; None: where the run found them."""
    cache_dir: Path = DEFAULT_CACHE
    """Folder for decoded images."""
    batch_size: Batch = 32
    """Images a step."""

    def check_paths(self) -> None:
        super().check_paths()
        check_run(self.run, "model.keras", "manifest.csv", "finished.json")


COMMAND = Command(ThresholdsSettings, "feedback.training.thresholds:run_thresholds", __doc__ or "")
