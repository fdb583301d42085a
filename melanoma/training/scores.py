"""How well maps draw the indicators: continuous Dice an image, by threshold (Tables 2 to 6), with n and interval."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from common.metrics.classification import bootstrap_interval, continuous_dice
from melanoma.config import THRESHOLDS
from melanoma.training.heatmaps import enlarge
from melanoma.training.inputs import Inputs

COLUMNS = ("method", "indicator", "image", "threshold", "dice", "empty")


def cut(maps: np.ndarray, threshold: float) -> np.ndarray:
    """Values below the threshold become 0, the others stay (DEVIATIONS row 14): at 0 the map is continuous, as in the headline."""
    return np.where(maps >= threshold, maps, 0.0) if threshold > 0 else maps


def score_maps(
    inputs: Inputs, method: str, indicator: str, rows: np.ndarray, maps: np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> pd.DataFrame:
    """One row an image and threshold: continuous Dice of `maps` `(len(rows), h, w)` (enlarged here) with the indicator's masks.

    An image without the indicator has `empty` True: its score is 1 for an empty map and 0 for any other, whatever the map shows. What
    counts is the mask at its own size: a speck that the smaller mask lost stays an indicator, which then no map finds.
    """
    size, masks, found = inputs.settings.image_size, inputs.masks(indicator), []
    images, present = inputs.manifest["image"].to_numpy(), inputs.present[indicator].to_numpy(dtype=bool)
    for start in range(0, len(rows), 64):
        chunk = rows[start : start + 64]
        truth = masks[chunk]
        grown = maps[start : start + 64] if maps.shape[1] == size else enlarge(maps[start : start + 64], size)
        for threshold in thresholds:
            dice = continuous_dice(truth, cut(grown, threshold))
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
