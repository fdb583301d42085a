"""Why a finished run's model decides as it does: CAM methods and LIME on one right and one wrong test image per class (paper figures 3-6).

Grad-CAM, Grad-CAM++, Score-CAM, LayerCAM and LIME (thesis 6.5-6.8; only pictures are printed). About a minute for MobileNetV2 on 2 cores.
"""

from common.explanation.options import ExplainOptions
from common.settings import Command

COMMAND = Command(ExplainOptions, "common.explanation.sheet:explain_command", __doc__ or "")
