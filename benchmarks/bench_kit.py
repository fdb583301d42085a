"""What a practitioner's commands cost: sanity checks of 50 images, the audit of 10,015 with near-copies, and how exact an export is."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bench_explanation import CLASSES, mobilenet, picture
from benchmarks.pairs import row

SIDE, SANITY_IMAGES, AUDIT_IMAGES, EXPORT_IMAGES = 96, 50, 10_015, 64


def main() -> list[dict[str, Any]]:
    """Seconds on the wall, with those of the processors beside them: on a busy machine the first say little."""
    return [sanity_checks(), audit_of_many(), export_parity()]


def pictures(count: int):
    """`count` noisy copies of one smooth picture, (count, SIDE, SIDE, 3) float32, 0..255, no two alike."""
    import numpy as np

    noise = np.random.default_rng(0).normal(0, 40, (count, SIDE, SIDE, 3))
    return np.clip(picture(SIDE) + noise, 0, 255).astype("float32")


def sanity_checks() -> dict[str, Any]:
    """Parameter randomisation, max-sensitivity and sparseness of Grad-CAM, MobileNetV2 0.35 at 96 px."""
    import numpy as np

    from common.explanation.cams import gradcam
    from common.explanation.sanity import check

    model, images = mobilenet(0.35, SIDE), pictures(SANITY_IMAGES)
    wall, detail, table = _timed(lambda: check(model, images, np.arange(SANITY_IMAGES) % CLASSES, {"gradcam": gradcam}))
    assert len(table) == SANITY_IMAGES
    return row("sanity and stability of Grad-CAM on 50 images", wall, 120, "s", at_most=True, detail=detail)


def audit_of_many() -> dict[str, Any]:
    """As many drawn pictures (200 x 150) as HAM10000 has images, decoded and hashed, and all pairs of them compared."""
    import numpy as np
    from PIL import Image

    from common.data.audit import audit
    from common.data.folders import folders_dataset

    with tempfile.TemporaryDirectory() as name:
        rng = np.random.default_rng(0)
        for number in range(AUDIT_IMAGES):
            folder = Path(name) / f"class{number % 7}"
            folder.mkdir(exist_ok=True)
            coarse = Image.fromarray(rng.integers(0, 256, (15, 20, 3), dtype=np.uint8)).resize((200, 150), Image.Resampling.BICUBIC)
            coarse.save(folder / f"{number:05d}.jpg", quality=92)
        wall, detail, result = _timed(lambda: audit(folders_dataset(Path(name)), {}))
    assert result["images"] == AUDIT_IMAGES and not result["near_copies"]
    return row("audit with near-copies of 10,015 images", wall, 120, "s", at_most=True, detail=detail)


def export_parity() -> dict[str, Any]:
    """Largest difference between the probabilities of a network and of its SavedModel."""
    import numpy as np

    from common.report.export import run_exported, serving_model

    model, images = mobilenet(0.35, SIDE), pictures(EXPORT_IMAGES).astype("uint8")
    with tempfile.TemporaryDirectory() as name:
        served = serving_model(model)
        served.export(f"{name}/model", format="tf_saved_model", verbose=False)
        found, _ = run_exported(Path(name) / "model", "saved_model", images)
    difference = float(np.abs(found - model.predict_on_batch(images.astype("float32"))).max())
    return row("saved_model: largest difference of a probability", difference, 1e-5, "", at_most=True)


def _timed(action: Any) -> tuple[float, str, Any]:
    wall, cpu = time.perf_counter(), sum(os.times()[:2])
    result = action()
    return time.perf_counter() - wall, f"{sum(os.times()[:2]) - cpu:.0f} s of processor time", result
