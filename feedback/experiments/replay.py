"""Learn the corrections of a log again from its base model and compare the weights with the recorded ones.

Cost: as long as the corrections took.
"""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from common.settings import Command, Settings, require


@dataclass(frozen=True, kw_only=True)
class ReplaySettings(Settings):
    """Apply the corrections of a log to its base model again and compare the weights."""

    log: Positional[Path]
    """Folder of the correction log."""
    output: Path | None = None
    """Where to write the tuned model (a .keras file)."""

    def check_paths(self) -> None:
        super().check_paths()
        require(self.log.is_dir(), f"{self.log}: no such folder")
        for name in ("session.json", "base/model.keras"):
            require((self.log / name).is_file(), f"{self.log}: not a correction log ({name} is missing)")
        require(
            self.output is None or (self.output.suffix == ".keras" and not self.output.is_dir()),
            f"--output {self.output}: expected a file name that ends in .keras",
        )


COMMAND = Command(ReplaySettings, "feedback.page.replay:run_replay", __doc__ or "")
