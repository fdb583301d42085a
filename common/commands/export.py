"""Take a finished run's model out of here: one file or folder that turns uint8 RGB images into class probabilities, checked on test images.

Whatever the format, the exported graph takes pixels (batch, side, side, 3) uint8 at the run's own size and does the rest itself. Before
anything is put in place its probabilities are compared with the run's own on test images; a difference above 1e-4 stops the export.
`saved_model` serves in TensorFlow, `litert` on phones and boards, `onnx` in ONNX Runtime, `keras` in Keras 3. Seconds; no training.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from common.settings import Command, ExistingFolder, Settings, Within, check_run, require

# What each format needs beyond requirements.txt; requirements-export.txt has them.
PACKAGES = {"onnx": ("tf2onnx", "onnxruntime"), "litert": ("ai_edge_litert",)}


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Settings):
    run: Positional[Path]
    """Run folder that holds model.keras."""
    format: Literal["saved_model", "litert", "onnx", "keras"] = "saved_model"
    """`saved_model`: a folder for TensorFlow. `litert`, `onnx`, `keras`: one file."""
    with_map: bool = False
    """Also give the Grad-CAM map of the predicted class, 0..1, from the same graph (not `keras`, where it would need this package)."""
    layer: str | None = None
    """Layer of that map; None: the last convolution before pooling."""
    output: Path | None = None
    """Folder to make; default: export-<format>/ in the run folder."""
    data_dir: ExistingFolder = None
    """Folder of the run's images, for the comparison; None: where they lay when it was trained."""
    images: Annotated[int, Within(1, 10_000)] = 32
    """Test images to compare on."""

    def check(self) -> None:
        super().check()
        require(not self.with_map or self.format != "keras", "--with-map: --format keras cannot hold it; expected another format")

    def check_paths(self) -> None:
        super().check_paths()
        check_run(self.run, "model.keras")
        require(self.output is None or not self.output.exists(), f"--output {self.output}: exists already; expected a new folder")
        for package in PACKAGES.get(self.format, ()):
            known = importlib.util.find_spec(package) is not None
            require(known, f"--format {self.format}: the package {package} is not installed; install requirements-export.txt")
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        needs = backend == "tensorflow" or self.format == "keras"
        require(needs, f"--format {self.format}: expected KERAS_BACKEND=tensorflow, it is {backend}")

    def unused(self) -> dict[str, str]:
        return super().unused() | ({} if self.with_map else {"layer": "there is no map without --with-map"})


COMMAND = Command(ExportOptions, "common.report.export:export_command", __doc__ or "")
