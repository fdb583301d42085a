"""Train only the last layer of a finished run anew, its network frozen, on classes made equal; or adjust its logits without training.

Decoupled training (Kang et al. 2020, cRT): features from the imbalanced training, the classifier from class-balanced draws. Beside it the
introduction's data-centric strategies on the same features: over- and under-sampling, and SMOTE (Chawla et al. 2002, by imbalanced-learn).
The epoch with the best macro F1 on validation images is kept. `--how adjust` takes log class shares from the logits (Menon et al. 2021, eq.
9) and trains nothing. Not printed in the paper. Costs one pass over the images, then seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from tyro.conf import Positional

from common.settings import Batch, Command, Epochs, ExistingFolder, Log, Settings, check_log, check_run, check_run_dir
from lmf.experiments.train import Fraction, UpTo10


@dataclass(frozen=True, kw_only=True)
class RetrainSettings(Settings):
    """All else is as in the run: data, split, network, seed."""

    NOT_RECIPE: ClassVar[frozenset[str]] = frozenset({"run", "run_dir", "data_dir", "log"})

    run: Positional[Path]
    """Finished run of `train` with model.keras and manifest.csv."""
    how: Literal["crt", "oversample", "undersample", "smote", "adjust"] = "crt"
    """`crt`: a class, each alike, then one of its images; `oversample`: rare classes' images again; `undersample`: as many of each class as
    the rarest has; `smote`: features between neighbours of a rare class, until all have as many as the largest; `adjust`: no training."""
    tau: UpTo10 = 1.0
    """Strength of `adjust`; 1 stands for classes of equal share."""
    epochs: Epochs = 10
    """Epochs (cRT: 10); the learning rate falls as half a cosine."""
    learning_rate: Fraction = 1e-3
    """Adam's learning rate at the start."""
    batch_size: Batch = 128
    """Features a step."""
    data_dir: ExistingFolder = None
    """Folder of the run's images; None: where they lay when it was trained."""
    run_dir: Path | None = None
    """Run folder; default runs/lmf/retrain/<name made from the settings>."""
    log: Log = "none"
    """As in `train`."""

    def unused(self) -> dict[str, str]:
        if self.how == "adjust":
            return super().unused() | dict.fromkeys(("epochs", "learning_rate", "batch_size"), "--how adjust trains nothing")
        return super().unused() | {"tau": f"--how {self.how} has none"}

    def check_paths(self) -> None:
        super().check_paths()
        check_run(self.run, "model.keras", "manifest.csv")
        check_run_dir(self.run_dir)
        check_log(self.log)


COMMAND = Command(RetrainSettings, "lmf.training.retrain:retrain", __doc__ or "")
