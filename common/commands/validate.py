"""Does a finished run hold on other data? Its model on an external set: metrics with intervals, the drop against its own test split.

Also calibration there, how the pictures differ (brightness, contrast, and a two-sample test on the network's own features), and the images
it is most wrongly sure of. Images, near-copies and groups that the run trained or validated on are left out and counted. A class map joins
classes of both sides. Writes validation-<name>/ into the run folder. Seconds to minutes; no training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from common.settings import (
    MOST_IMAGES,
    Command,
    ExistingFile,
    ExistingFolder,
    Seed,
    Settings,
    Within,
    check_group_pattern,
    check_run,
    require,
)

IN_FOLDERS = ("sipakmed", "cric", "covid_radiography")  # known sets whose folders are their labels


@dataclass(frozen=True, kw_only=True)
class ValidateOptions(Settings):
    run: Positional[Path]
    """Run folder that holds model.keras, manifest.csv and predictions.csv."""
    data_dir: Annotated[Path, "folder"]
    """The external set: one folder a class, with --labels-csv any folder of images, with --dataset a known set as distributed."""
    dataset: str = "folders"
    """`folders`, or a data set that the run's study knows by name, such as cric or isic2019: its labels and groups are its own."""
    labels_csv: ExistingFile = None
    """CSV with the columns image (path below --data-dir, or file stem), label and perhaps group; or a published table, ISIC's ground truth
    or HAM10000's metadata, in which images are looked up (lesions are its groups). None: folders are the classes."""
    group_pattern: str | None = None
    """Regular expression with one group, matched on the image path, that names the lesion or patient; None: as in --labels-csv, or none."""
    classes: ExistingFile = None
    """Class map, CSV with the columns set (`external` or `run`), class and joined: what a class of either side counts as."""
    run_data_dir: ExistingFolder = None
    """Folder of the run's own images, to leave copies of them out; None: where they lay when it was trained."""
    name: str = ""
    """Of the folder written; default: that of --data-dir."""
    limit: Annotated[int | None, Within(1, MOST_IMAGES)] = None
    """At most N external images, the first by name of each class in turn; None: all."""
    seed: Seed = 0
    """Of the bootstrap and of the two-sample test."""

    def check(self) -> None:
        super().check()
        check_group_pattern(self.group_pattern)
        require(Path(self.name).name == self.name, f"--name {self.name}: expected a name without folders")

    def unused(self) -> dict[str, str]:
        groups = {} if self.dataset == "folders" else {"group_pattern": "the data set names its own groups"}
        labels = {"labels_csv": f"the folders of {self.dataset} are its labels"} if self.dataset in IN_FOLDERS else {}
        return super().unused() | groups | labels

    def check_paths(self) -> None:
        super().check_paths()
        check_run(self.run, "model.keras", "manifest.csv", "predictions.csv")


COMMAND = Command(ValidateOptions, "common.report.validate:validate_command", __doc__ or "")
