"""Continuous Dice of maps per image, by threshold (Tables 2 to 6), and the scores of diagnosis and indicators, with n and interval."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from common.explanation.resize import resize_matrix
from common.metrics.classification import auc, average_precision
from common.metrics.overlap import continuous_dice, trivial_maps
from common.metrics.statistics import bootstrap_interval, percentile_interval, resample_indices
from melanoma.experiments.base import CLASSES, THRESHOLDS
from melanoma.training.inputs import Inputs

RESAMPLES = 1000
COLUMNS = ("method", "indicator", "image", "threshold", "dice", "empty")


def cut(maps: np.ndarray, threshold: float, binary: bool = False) -> np.ndarray:
    """Values below the threshold become 0, the others stay (DEVIATIONS row 14): at 0 the map is continuous, as in the headline. `binary`:
    the others become 1, also at 0, where that is whatever is above it.
    """
    if binary:
        return (maps >= threshold if threshold > 0 else maps > 0).astype("float32")
    return np.where(maps >= threshold, maps, 0.0) if threshold > 0 else maps


def enlarge(maps: np.ndarray, size: int) -> np.ndarray:
    """`(n, h, w)` to `(n, size, size)` float32, bilinear, 0..1."""
    rows, columns = (resize_matrix(side, size) for side in maps.shape[1:])
    return np.clip(rows @ maps.astype("float32") @ columns.T, 0.0, 1.0)


def score_maps(
    inputs: Inputs, method: str, indicator: str, rows: np.ndarray, maps: np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> pd.DataFrame:
    """One row an image and threshold: continuous Dice of `maps` `(len(rows), h, w)` (enlarged here) with the indicator's masks.

    An image without the indicator has `empty` True: its score is 1 for an empty map and 0 for any other, whatever the map shows. What
    counts is the mask at its own size: a speck that the smaller mask lost stays an indicator, which then no map finds.
    """
    size, masks, found = inputs.settings.image_size, inputs.masks(indicator), []
    binary = getattr(inputs.settings, "binarise", False)
    images, present = inputs.manifest["image"].to_numpy(), inputs.present[indicator].to_numpy(dtype=bool)
    for start in range(0, len(rows), 64):
        chunk = rows[start : start + 64]
        truth = masks[chunk]
        grown = maps[start : start + 64] if maps.shape[1] == size else enlarge(maps[start : start + 64], size)
        for threshold in thresholds:
            dice = continuous_dice(truth, cut(grown, threshold, binary))
            found.append(pd.DataFrame({"image": images[chunk], "threshold": threshold, "dice": dice, "empty": ~present[chunk]}))
    table = pd.concat(found, ignore_index=True)
    return table.assign(method=method, indicator=indicator)[list(COLUMNS)]


def summary(table: pd.DataFrame, seed: int, resamples: int = 1000) -> dict[str, dict]:
    """method -> indicator -> threshold -> {n, dice, dice_interval, n_all, dice_all, dice_all_interval}.

    `dice` is over images that have the indicator (None where none has it), `dice_all` over all of them.
    """
    result: dict[str, dict] = {}
    for (method, indicator, threshold), part in table.groupby(["method", "indicator", "threshold"], sort=False):
        scores = part["dice"].to_numpy(float)
        drawn = scores[~part["empty"].to_numpy(bool)]
        entry: dict[str, object] = {"n": len(drawn), "n_all": len(part), "dice_all": float(scores.mean())}
        entry["dice_all_interval"] = list(bootstrap_interval(scores, seed=seed, resamples=resamples))
        if len(drawn):
            entry |= {"dice": float(drawn.mean()), "dice_interval": list(bootstrap_interval(drawn, seed=seed, resamples=resamples))}
        else:
            entry |= {"dice": None, "dice_interval": None}
        result.setdefault(str(method), {}).setdefault(str(indicator), {})[f"t{threshold:.1f}".replace(".", "")] = entry
    return result


def score_trivial(inputs: Inputs, indicator: str, rows: np.ndarray) -> pd.DataFrame:
    """As `score_maps`, of maps that look at no image (`common.metrics.overlap.trivial_maps`)."""
    train = inputs.rows("train")
    train = train[inputs.present[indicator].to_numpy(bool)[train]]
    mean = inputs.masks(indicator)[train].mean(axis=0, dtype="float64") if len(train) else None
    size = inputs.settings.image_size
    maps = trivial_maps((size, size), mean)
    tables = [score_maps(inputs, name, indicator, rows, np.broadcast_to(each, (len(rows), size, size))) for name, each in maps.items()]
    return pd.concat(tables, ignore_index=True)


def sensitivity_at(positive: np.ndarray, scores: np.ndarray, specificity: float) -> float | None:
    """Largest share of positives called where at least `specificity` of the negatives are not; None without either."""
    positive, scores = np.asarray(positive, bool), np.asarray(scores, np.float64)
    if positive.all() or not positive.any():
        return None
    false, found, _ = roc_curve(positive, scores, drop_intermediate=False)
    return float(found[false <= 1 - specificity + 1e-9].max())


def accuracy_interval(right: np.ndarray, seed: int) -> tuple[float, list[float]]:
    """Share of True with its 95 % interval."""
    right = np.asarray(right, np.float64)
    return float(right.mean()), list(bootstrap_interval(right, seed=seed, resamples=RESAMPLES))


def auc_interval(positive: np.ndarray, scores: np.ndarray, seed: int) -> tuple[float | None, list[float] | None]:
    """AUC and its 95 % interval over images; a resample of one class counts for nothing, and half of them must count."""
    positive, scores = np.asarray(positive, bool), np.asarray(scores, np.float64)
    draws = [auc(positive[chosen], scores[chosen]) for chosen in resample_indices(len(positive), RESAMPLES, seed)]
    known = np.array([value for value in draws if value is not None])
    return auc(positive, scores), list(percentile_interval(known)) if 2 * len(known) >= RESAMPLES else None


def diagnosis_metrics(table: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Of a predictions table: AUC with interval, sensitivity at the specificities 0.8 and 0.9, and what the majority class would score."""
    positive, scores = (table["label"] == CLASSES[0]).to_numpy(), table[f"prob_{CLASSES[0]}"].to_numpy()
    value, interval = auc_interval(positive, scores, seed)
    return {
        "melanoma_auc": value,
        "melanoma_auc_interval": interval,
        "sensitivity_at_80": sensitivity_at(positive, scores, 0.8),
        "sensitivity_at_90": sensitivity_at(positive, scores, 0.9),
        "majority_class_accuracy": float(max(positive.mean(), 1 - positive.mean())),
    }


def indicator_metrics(table: pd.DataFrame, seed: int) -> dict[str, dict[str, Any]]:
    """indicator -> {n, positives, auc, auc_interval, average_precision}; None where the test images are of one kind."""
    found: dict[str, dict[str, Any]] = {}
    for name, part in table.groupby("indicator", sort=False):
        positive, scores = part["label"].to_numpy(bool), part["probability"].to_numpy(float)
        value, interval = auc_interval(positive, scores, seed)
        precision = average_precision(positive, scores) if positive.any() and not positive.all() else None
        found[str(name)] = {
            "n": len(part), "positives": int(positive.sum()), "auc": value, "auc_interval": interval, "average_precision": precision,
        }  # fmt: skip
    return found
