"""A run folder made of drawn predictions: what evaluation reads, without a network."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.runs.outcome import write_metrics, write_predictions

CLASSES = ("Dyskeratotic", "Koilocytotic", "Parabasal")


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """`make_run(path, skill=2.0)`: the higher the skill, the more of the n images are right; labels depend on n only.

    per_group > 1: as many neighbouring images are of one slide, share their drawn luck and stand in a manifest.csv.
    """

    def make(
        path: Path, skill: float = 2.0, n: int = 120, seed: int = 0, metrics: bool = True, per_group: int = 1, **config: object
    ) -> Path:
        labels = np.arange(n) % len(CLASSES)
        logits = np.random.default_rng(seed).normal(size=(n, len(CLASSES)))
        group = np.arange(n) // per_group
        logits = logits[group * per_group]
        logits[np.arange(n), labels] += skill
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        path.mkdir(parents=True, exist_ok=True)
        settings = {"study": "cervical", "experiment": "contrastive", "dataset": "sipakmed", "split": "paper", "seed": seed}
        facts = {"synthetic": False, "classes": CLASSES, "image_size": 32, "backend": "tensorflow", "machine": "2-core CPU"}
        (path / "config.json").write_text(json.dumps({**settings, **facts, **config}))
        rows = pd.DataFrame({"image": [f"im_{index}.bmp" for index in range(n)], "label": [CLASSES[label] for label in labels]})
        if per_group > 1:
            rows = rows.assign(group=[f"slide {number}" for number in group], split="test")
            rows.to_csv(path / "manifest.csv", index=False)
        write_predictions(path, rows, probabilities, CLASSES)
        losses = {"loss": [1.0, 0.7, 0.5], "val_loss": [1.1, 0.9, 0.8]}
        history = pd.DataFrame({"stage": "training", "epoch": [1, 2, 3], "seconds": 2.5, **losses})
        history.to_csv(path / "history.csv", index=False)
        if metrics:
            write_metrics(path, seed=0)
        return path

    return make
