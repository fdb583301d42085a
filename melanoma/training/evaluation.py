"""The test of a trained run: what it says of the test images, written into its folder."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd
from scipy.special import expit

from common.data.pipeline import Batches
from common.runs.baselines import write_baselines
from common.runs.files import atomic
from common.runs.folder import Run
from common.runs.outcome import write_metrics, write_predictions
from melanoma import models
from melanoma.experiments.base import CLASSES, SHOWN, SHOWN_FILE
from melanoma.training.inputs import Inputs
from melanoma.training.scores import diagnosis_metrics, indicator_metrics, score_maps, score_trivial, summary


class Localisation:
    """Maps of the test images against masks: scores per image and, of the few images that the sheets show, the maps themselves.

    Attributes:
        rows: the test images whose maps are scored.
        arrays: `<indicator>/<method>`, `/rows`, `/images` and `/masks` of the images shown.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.inputs, self.rows = inputs, inputs.localised()
        self.tables: dict[str, list[pd.DataFrame]] = {}
        self.arrays: dict[str, np.ndarray] = {}

    def shown(self, indicator: str) -> np.ndarray:
        """The rows of the images shown for an indicator."""
        if f"{indicator}/rows" not in self.arrays:
            rows = shown_rows(self.inputs, indicator, SHOWN)
            parts = {"rows": rows, "images": self.inputs.images[rows], "masks": self.inputs.masks(indicator)[rows]}
            self.arrays |= {f"{indicator}/{part}": values for part, values in parts.items()}
        return self.arrays[f"{indicator}/rows"]

    def add(self, method: str, indicator: str, maps: np.ndarray, rows: np.ndarray | None = None) -> None:
        """`maps` `(len(rows), h, w)` in 0..1 of `rows` (default: all), which hold the images shown."""
        rows = self.rows if rows is None else rows
        self.tables.setdefault(indicator, []).append(score_maps(self.inputs, method, indicator, rows, maps))
        self.arrays[f"{indicator}/{method}"] = maps[np.searchsorted(rows, self.shown(indicator))].astype("float32")

    def write(self, run: Run) -> dict[str, dict]:
        """localisation.csv, with maps that look at no image, and the arrays shown; returns the scores' summary."""
        parts = [part for name, tables in self.tables.items() for part in (*tables, score_trivial(self.inputs, name, self.rows))]
        table = pd.concat(parts, ignore_index=True)
        run.write_csv("localisation.csv", table)
        with atomic(run.path / SHOWN_FILE) as temporary:
            np.savez_compressed(temporary, **{key.replace("/", "__"): value for key, value in self.arrays.items()})
        return summary(table, self.inputs.settings.seed)


def shown_rows(inputs: Inputs, indicator: str, count: int) -> np.ndarray:
    """The test images shown for an indicator, by row: the same in every run of a split.

    Of the test images that have the indicator, ordered by their mask's area, the `count` around the middle: neither the ones that fill the
    picture, which every map gets right, nor the specks. Where fewer have it, all of those and the first of the others.
    """
    test = inputs.localised()
    area = inputs.masks(indicator)[test].sum(axis=(1, 2), dtype="int64")
    order = np.argsort(area, kind="stable")
    having = test[order[area[order] > 0]]
    start = max(0, (len(having) - count) // 2)
    chosen = [*having[start : start + count], *test[area == 0]][:count]
    return np.sort(np.array(chosen, dtype=test.dtype))


def tested(inputs: Inputs) -> Batches:
    """The diagnosed test images, in order."""
    return Batches(inputs.images, rows=inputs.rows("test", diagnosed=True), batch_size=64)


def write_trivial(run: Run, inputs: Inputs, encoder: keras.Model) -> None:
    """baselines.csv: the majority class, and a logistic probe on the features of `encoder`, which is not trained yet."""
    s, manifest = inputs.settings, inputs.manifest
    probe = models.build_final([encoder], models.normalisation(s.normalise, s.backbone))
    known = manifest.assign(split=manifest["split"].where(manifest["label"] != "", ""))
    write_baselines(run, probe, inputs.images, 1 - inputs.melanoma.astype("int64"), known, CLASSES, s.seed)


def judged(inputs: Inputs, outputs: Sequence[str], logits: np.ndarray) -> pd.DataFrame:
    """A row per diagnosed test image and indicator among the `outputs`: image, indicator, label (0 or 1), probability.

    logits: `(images, outputs)`.
    """
    test = inputs.rows("test", diagnosed=True)
    parts = [
        pd.DataFrame({
            "image": inputs.manifest["image"].to_numpy()[test], "indicator": name, "label": inputs.labels((name,))[test, 0].astype(int),
            "probability": expit(logits[:, index].astype("float64")),
        })
        for index, name in enumerate(outputs) if name != "melanoma"
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["image", "indicator", "label", "probability"])


def write_results(
    run: Run,
    inputs: Inputs,
    probabilities: np.ndarray,
    localisation: Localisation | None = None,
    indicators: Sequence[pd.DataFrame] = (),
    **more: Any,
) -> None:
    """predictions.csv of the diagnosed test images, indicators.csv where some are predicted, localisation.csv; then metrics.json.

    probabilities: `(images, 2)`. indicators: tables of `judged`. more: further entries of metrics.json.
    """
    seed = inputs.settings.seed
    rows = inputs.manifest.iloc[inputs.rows("test", diagnosed=True)]
    extra = diagnosis_metrics(write_predictions(run, rows, probabilities, CLASSES), seed) | more
    if localisation is not None:
        extra |= {
            "localisation": localisation.write(run),
            "indicators": inputs.counts,
            "lesion_masks_for": [name for name in inputs.indicators if inputs.stands_in(name)],
        }
    known = [table for table in indicators if len(table)]
    if known:
        table = pd.concat(known, ignore_index=True)
        run.write_csv("indicators.csv", table)
        extra["indicator_scores"] = indicator_metrics(table, seed)
    write_metrics(run, seed, extra=extra)
