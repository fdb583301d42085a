"""The feedback page without its browser: looking at an image, and learning one correction, with the small backbone."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.pairs import row

SIZE, CLASSES, IMAGES, REPEATS = 112, 8, 8, 5


def median_seconds(call: Callable[[int], Any], repeats: int) -> float:
    """Median seconds of `call(0)`, `call(1)`, …"""
    times = []
    for number in range(repeats):
        began = time.perf_counter()
        call(number)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> list[dict[str, Any]]:
    """From choosing a 600 x 450 image to its overlay: at most 1 s; one correction (10 steps, replay, log, guard): at most 5 s.

    Equality first: the corrections, replayed from the log, give the weights bit by bit.
    """
    from common import device
    from common.settings import recipe
    from feedback.experiments.simulate import DESCRIBED
    from feedback.models import build_classifier
    from feedback.page import pictures
    from feedback.page.files import ImageFolder
    from feedback.page.log import CorrectionLog
    from feedback.page.model import Learning, ReplaySet, TunedModel
    from feedback.page.replay import replay
    from feedback.page.session import CorrectionSession

    device.configure(0)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "images").mkdir()
        for number in range(IMAGES):
            coarse = Image.fromarray(rng.integers(60, 230, (9, 12, 3), dtype=np.uint8))
            coarse.resize((600, 450), Image.Resampling.BICUBIC).save(root / "images" / f"{number}.jpg", quality=92)
        built = build_classifier("mobilenetv2_035", SIZE, CLASSES, head="average", units=256, dropout=0.3)
        built.save(root / "model.keras")
        learning = Learning(learning_rate=5e-3)
        replayed = ReplaySet(rng.integers(0, 256, (96, SIZE, SIZE, 3)).astype("uint8"), rng.integers(0, CLASSES, 96))
        model = TunedModel(built, DESCRIBED, learning, replayed)
        facts = {
            "classes": [f"class{k}" for k in range(CLASSES)], "image_size": SIZE, "resize_filter": "bilinear", "seed": 0,
            "simulation": recipe(DESCRIBED), "learning": asdict(learning), "replayed": 96,
            "base_digest": model.digest(), "synthetic": True, "run": "bench",
        }  # fmt: skip
        log = CorrectionLog.create(root / "log", facts, root / "model.keras")
        replayed.save(log.replay_file)
        guarded = rng.integers(0, 256, (96, SIZE, SIZE, 3)).astype("uint8"), rng.integers(0, CLASSES, 96)
        session = CorrectionSession(log, model, ImageFolder(root / "images", root / "uploads"), guarded)
        region = np.zeros((450, 600), bool)
        region[100:300, 150:400] = True

        def look(number: int) -> None:
            view = session.view(f"{number}.jpg")
            pictures.with_map(view.picture, view.look.map, 0.45)

        overlay = median_seconds(look, IMAGES)
        correction = median_seconds(lambda number: session.correct(f"{number}.jpg", "region_wrong", region=region), REPEATS)
        undo = median_seconds(lambda _: session.undo(), REPEATS - 2)
        if not (found := replay(log)[0]).equal:
            raise AssertionError(f"the replayed weights differ from the recorded ones by {found.difference}")
        session.close()
    return [
        row("page: image chosen to overlay", overlay, 1.0, "s", at_most=True, detail=f"mobilenetv2_035, {SIZE} px"),
        row(
            "page: one correction learned",
            correction,
            5.0,
            "s",
            at_most=True,
            detail="10 steps beside 15 replayed images, log, guard on 96 images",
        ),
        row("page: undo", undo, 1.0, "s", at_most=True),
    ]


if __name__ == "__main__":
    main()
