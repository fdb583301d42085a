"""How much does each loss differ from cross-entropy at a trained model? Cosine and length of its gradient with respect to the logits.

For every finished run below a folder: over all test images and by class, with LDAM's and the focal loss's shares of LMF's gradient. At
the committed HAM10000 and ODIR-5K models LMF as described has cosine 0.998 with cross-entropy; as coded 0.88 to 0.91, and there the focal
part is less than 1 % of LDAM's, so beta hardly matters. Not printed in the paper. Seconds; no training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from common.settings import Command, Settings, Within, require
from lmf.experiments.train import Beta, Scale, UpTo10

Compared = Literal["wcce", "focal", "ldam", "bwcce", "lmf", "class_balanced", "balanced_softmax", "logit_adjusted"]


@dataclass(frozen=True, kw_only=True)
class GradientsSettings(Settings):
    """The losses' own settings; those that a run was trained with do not matter here."""

    run: Positional[Annotated[Path, "folder"]]
    """Run folder, a folder of several, or a published table."""
    losses: tuple[Compared, ...] = ("wcce", "focal", "ldam", "bwcce", "lmf", "class_balanced", "balanced_softmax", "logit_adjusted")
    """Losses to set beside cross-entropy; those with two readings have a row for each."""
    alpha: Annotated[float, Within(0, 100)] = 1.0
    """Weight of LDAM in LMF (eq. 8)."""
    beta: Annotated[float, Within(0, 100)] = 1.0
    """Weight of the focal loss in LMF (eq. 8)."""
    gamma: UpTo10 = 1.5
    """Focusing parameter of the focal loss."""
    max_margin: UpTo10 = 0.5
    """Margin of the rarest class (eq. 4)."""
    scale: Scale = 30.0
    """LDAM's logits are multiplied by it in the coded reading."""
    effective_beta: Beta = 0.999
    """Beta of the class-balanced loss's effective numbers."""
    tau: UpTo10 = 1.0
    """Strength of the logit adjustment."""
    output: Path | None = None
    """Folder for report.md and table.csv; None: gradients/ in the one that is looked at."""

    def check(self) -> None:
        super().check()
        require("lmf" not in self.losses or self.alpha > 0 or self.beta > 0, "--alpha 0 --beta 0: expected at least one above 0")

    def unused(self) -> dict[str, str]:
        acting = {"alpha": ("lmf",), "beta": ("lmf",), "gamma": ("lmf", "focal"), "max_margin": ("lmf", "focal", "ldam")}
        acting |= {"scale": ("lmf", "ldam"), "effective_beta": ("class_balanced",), "tau": ("logit_adjusted",)}
        idle = {name: losses for name, losses in acting.items() if not set(losses) & set(self.losses)}
        return super().unused() | {name: f"it acts in {' and '.join(losses)} only" for name, losses in idle.items()}


COMMAND = Command(GradientsSettings, "lmf.gradients:gradients_command", __doc__ or "")
