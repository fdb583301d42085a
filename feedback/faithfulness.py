"""Does a map that covers the marked region also say more about the decision? Deletion and insertion, before and after (our question).

Areas of two models do not compare by themselves: a model that is sure of one class whatever it is shown has areas near 1 with every map.
So a random map, as coarse as the model's own, stands beside each map on the same image, and the difference between the two is what a map
knows about the decision. Every image's areas are kept (faithfulness.csv), so that intervals can be taken over images.
"""

from typing import Any

import numpy as np
import pandas as pd

from common.metrics.statistics import bootstrap_interval, paired_bootstrap

FILE = "faithfulness.csv"
# From this area under a random map's deletion curve on, the answer keeps its probability whatever is taken away from the image.
UNMOVED = 0.95
# In the order of the tables.
ROWS = {
    "deletion": "deletion, map",
    "random_deletion": "deletion, random map",
    "deletion_minus_random": "deletion, map − random",
    "insertion": "insertion, map",
    "random_insertion": "insertion, random map",
    "insertion_minus_random": "insertion, map − random",
    "pointing": "pointing game",
    "unmoved": f"images whose answer stays whatever is removed (random map's deletion area at least {UNMOVED:g})",
}
READING = (
    "Areas under RISE's curves of the predicted class: low deletion and high insertion are better. A map says something about the decision "
    "only as far as it beats the random map of the same coarseness on the same images: deletion below it, insertion above it. Where the "
    "answer stays whatever is removed no map can say anything, wherever it points.\n"
)


def summary(table: pd.DataFrame, seed: int = 0) -> dict[str, Any]:
    """What metrics.json says of faithfulness.csv (a row per image, each area as `<area>_before` and `<area>_after`), with 95 % bootstrap
    intervals over images.

    Returns:
        `before` and `after`: `images`, the mean of each area, `<area>_minus_random` and `unmoved`, the former with `…_interval`;
        `change`: for each of these the mean of after - before, paired, as {"value", "interval"}.
    """
    table = table.copy()
    for when in ("before", "after"):
        for area in ("deletion", "insertion"):
            table[f"{area}_minus_random_{when}"] = table[f"{area}_{when}"] - table[f"random_{area}_{when}"]
        table[f"unmoved_{when}"] = (table[f"random_deletion_{when}"] >= UNMOVED).astype(float)
    found: dict[str, Any] = {"before": {"images": len(table)}, "after": {"images": len(table)}, "change": {}}
    for name in ROWS:
        pair = [table[f"{name}_{when}"].to_numpy(float) for when in ("before", "after")]
        if not all(np.isfinite(values).all() for values in pair):
            continue
        for when, values in zip(("before", "after"), pair, strict=True):
            found[when][name] = float(values.mean())
            if name.endswith("_minus_random"):
                found[when][f"{name}_interval"] = list(bootstrap_interval(values, seed=seed))
        gap = paired_bootstrap(*pair, seed=seed)
        found["change"][name] = {"value": gap.value, "interval": [gap.low, gap.high]}
    return found
