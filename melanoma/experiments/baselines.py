"""Table 2's other rows and a plain U-Net: Grad-CAM, Grad-CAM++, LayerCAM and LIME on the plain classifier, VAT with Grad-CAM.

Printed for globules: 14.21, 7.95, 14.53, 3.36, 2.05 %. Beside them stand maps that look at no image: the whole image, a centred blob, the
mean training mask. Costs a classifier, a VAT training (about three times a classifier) and a U-Net an indicator, a seed; LIME about five
seconds an image on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from common.settings import Command, Count, Within
from melanoma.experiments.table import ABLATION, TableSettings, table_command
from melanoma.experiments.train import BioUNetSettings


@dataclass(frozen=True, kw_only=True)
class BaselineSettings(TableSettings):
    """Table 2's other methods on the plain classifier, VAT, and one plain U-Net an indicator."""

    ROWS = {"cams": ABLATION["f_res"], "vat": ABLATION["f_res"], "unet": ABLATION["f_res"]}

    cam_stage: Annotated[int, Within(1, 4)] = 4
    """Stage (1 to 4, fine to coarse) whose last map the CAM methods read. At 4 the next layer is the average over all places, where
    Grad-CAM++ and LayerCAM are one and the same map; earlier they differ."""
    lime_samples: Annotated[int, Within(10)] = 300
    """Perturbed images a LIME explanation."""
    lime_images: Count = 100
    """Test images that LIME explains (it is slow); with fewer than all, the same first ones in each run."""
    vat_epsilon: Annotated[float, Within(0, above=True)] = 0.15
    """Root mean square of VAT's perturbation, in deviations (Miyato et al. 2018: 8 over 3072 values is 0.14)."""
    vat_xi: Annotated[float, Within(0, above=True)] = 0.01
    """Of the probe, likewise; their 1e-6 vanishes in float32 next to the image."""
    vat_weight: Annotated[float, Within(0)] = 1.0
    """Weight of the divergence (Miyato et al. 2018)."""

    def wants_dataset_b(self) -> bool:
        return "vat" in self.rows

    def unused(self) -> dict[str, str]:
        found = super().unused() | {"encoders": "these methods explain the plain classifier f_Res"}
        found |= {} if "cams" in self.rows else dict.fromkeys(("cam_stage", "lime_samples", "lime_images"), "the row cams is not run")
        found |= {} if "vat" in self.rows else dict.fromkeys(("vat_epsilon", "vat_xi", "vat_weight"), "the row vat is not run")
        if "unet" in self.rows:  # which draws, though it is no f_Seg
            found = {
                name: reason for name, reason in found.items() if name not in ("segment_on", "segmentation_batch", "segmentation_epochs")
            }
        return found

    def cell(self, seed: int, row: str) -> BioUNetSettings:
        return replace(super().cell(seed, row), encoders="plain")

    def own(self, row: str) -> dict[str, Any]:
        """What decides a row's run besides the plain classifier's settings."""
        names = {"cams": ("cam_stage", "lime_samples", "lime_images"), "vat": ("vat_epsilon", "vat_xi", "vat_weight")}
        drawn = {"unet": ("segmentation_epochs", "segmentation_batch", "segment_on")}
        return {name: getattr(self, name) for name in (names | drawn)[row]}


COMMAND = table_command(BaselineSettings, __doc__)
CELL = Command(BaselineSettings, "melanoma.training.grids:baseline", __doc__)
