"""Finished run folders without any training: what tables and sheets read of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from common.settings import recipe
from melanoma.experiments.train import DESCRIBED

BASE = replace(DESCRIBED, dataset="isic2018", backbone="mobilenetv2_035", image_size=64, indicators=("globules", "lesion"))


def write_run(
    path: Path,
    dice: float,
    experiment: str = "train",
    finished: bool = True,
    fingerprint: str = "f",
    b: str | None = None,
    **changes: object,
) -> Path:
    """A run whose every image with the indicator has the continuous Dice `dice`; methods by `experiment`."""
    chosen = replace(BASE, **changes)
    settings = {**recipe(chosen), "seed": chosen.seed, "synthetic": False}
    if b is not None:
        settings["dataset_b"] = {"fingerprint": b}
    path.mkdir(parents=True)
    config = {"study": "melanoma", "experiment": experiment, "settings": settings, "data_fingerprint": fingerprint}
    (path / "config.json").write_text(json.dumps(config))
    (path / "local.json").write_text("{}")
    cams = ("gradcam", "gradcam++", "layercam", "lime", "whole image", "centred blob")
    methods = {"cams": cams, "train": ("gradcam",)}.get(experiment, (experiment,))
    images = [f"{'' if not chosen.folds else f'fold{chosen.fold}-'}{i}.jpg" for i in range(4)]
    rows = [
        {"method": method, "indicator": name, "image": images[i], "threshold": t / 10, "dice": dice + 0.01 * i, "empty": i == 0}
        for method in methods for name in BASE.indicators for i in range(4) for t in range(10)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(path / "localisation.csv", index=False)
    classifies = experiment in ("train", "vat")
    probabilities = np.array([0.9, 0.8, 0.3, 0.2])
    labels = ["melanoma", "other", "melanoma", "other"]
    table = pd.DataFrame({"image": images, "label": labels})
    table["predicted"] = np.where(probabilities > 0.5, "melanoma", "other")
    table["prob_melanoma"], table["prob_other"] = probabilities, 1 - probabilities
    if classifies:
        table.to_csv(path / "predictions.csv", index=False)
    scores = {"accuracy": 0.5, "melanoma_auc": 0.75} if classifies else {}
    localisation = {m: {name: {"t00": {"n": 3, "dice": dice}} for name in BASE.indicators} for m in methods}
    metrics = {"localisation": localisation, "synthetic": False, **scores, "indicators": {"globules": {"with": 3, "without": 1}}}
    (path / "metrics.json").write_text(json.dumps(metrics))
    arrays: dict[str, np.ndarray] = {}
    for name in BASE.indicators:
        arrays |= {f"{name}__images": np.zeros((3, 16, 16, 3), "uint8"), f"{name}__masks": np.eye(16, dtype="uint8")[None].repeat(3, 0)}
        arrays |= {f"{name}__{method}": np.full((3, 2, 2), 0.5, "float32") for method in methods}
    np.savez(path / "shown.npz", **arrays)
    if finished:
        (path / "finished.json").write_text("{}")
    return path
