"""Train subnetwork 1, SimCLR on Dataset B, and judge its embeddings by k-NN and a linear probe (section 4.2).

The paper prints no number for it. Real data want a GPU. Disk: 150 kB of cache an image at 224 px, 100 MB for a ResNet50. The sample takes
about a minute on two CPU cores.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, Any

from common.settings import Command, Count, Within, require
from melanoma.experiments.base import MelanomaSettings, reading


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(MelanomaSettings):
    """Subnetwork 1 alone."""

    # What is said of Dataset A's masks changes nothing in a pre-training.
    NOT_RECIPE = MelanomaSettings.NOT_RECIPE | {"missing_mask", "indicators", "indicator_labels"}

    temperature: Annotated[float, Within(1e-3, 100.0)] = 0.5
    """SimCLR's temperature (A.3)."""
    projection: Count = 128
    """Length of the embedding (section 4.2)."""
    pretrain_batch: Annotated[int, Within(2)] = 24
    """Images a SimCLR step (A.3); twice as many views."""
    pretrain_epochs: Count = 50
    """Epochs of subnetwork 1 (not stated)."""

    def check_paths(self) -> None:
        super().check_paths()
        require(not self.wants_dataset_b() or self.has_dataset_b(), "--unlabelled-dir: expected a folder of images (Dataset B) for SimCLR")

    def wants_dataset_b(self) -> bool:
        """Whether anything that these settings ask for reads Dataset B."""
        return True


def own(settings: Any) -> PretrainSettings:
    """The pre-training that a later stage's settings ask for."""
    return PretrainSettings(**{each.name: getattr(settings, each.name) for each in fields(PretrainSettings)} | {"run_dir": None})


default = partial(reading, PretrainSettings())
EVERYWHERE = {"epochs": ("pretrain-epochs",), "batch-size": ("pretrain-batch",)}
COMMAND = Command(PretrainSettings, "melanoma.reporting:pretrain_command", __doc__, default, EVERYWHERE)
