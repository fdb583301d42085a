"""Which image has which indicator, from a CSV file (section 5.1, Table 1)."""

from pathlib import Path

import numpy as np
import pandas as pd

from common.data.dermoscopy import image_id, listed, read_table
from common.errors import UsageError
from melanoma.experiments.base import INDICATORS


def indicator_labels(path: Path, stems: list[str]) -> pd.DataFrame:
    """Which image has which indicator: one row a stem, in the order given, columns `has_<indicator>` of "0" and "1".

    Raises:
        UsageError: no column `image` or no indicator's; an image that is missing or stands there twice; a value that is not 0 or 1.
    """
    option = f"--indicator-labels {path}"
    table = read_table(path, option="--indicator-labels")
    names = [name for name in INDICATORS if name in table]
    if "image" not in table or not names:
        raise UsageError(f"{option}: expected the column image and some of {', '.join(INDICATORS)}")
    ids = table["image"].map(image_id)
    twice = ids[ids.duplicated()]
    if len(twice):
        raise UsageError(f"{option}: {listed(twice)} in more than one row; expected one an image")
    missing = [stem for stem in stems if image_id(stem) not in set(ids)]
    if missing:
        raise UsageError(f"{option}: no row for {listed(missing)}; expected one for every image")
    for name in names:
        wrong = table[~table[name].isin(("0", "1"))]
        if len(wrong):
            first = wrong.iloc[0]
            raise UsageError(f"{option}: {name} of {first['image']} is '{first[name]}'; expected 0 or 1")
    found = table.set_index(ids).loc[[image_id(stem) for stem in stems], names]
    return found.rename(columns=lambda name: f"has_{name}").reset_index(drop=True)


def check_against_masks(present: pd.DataFrame, images: "pd.Series[str]", path: Path | None) -> None:
    """UsageError where an indicator's mask and its label contradict each other; both stand in `present`, as `<name>` and `has_<name>`."""
    wrong = []
    for name in [column.removeprefix("has_") for column in present if column.startswith("has_")]:
        if name in present:
            differ = present[name].to_numpy(bool) != present[f"has_{name}"].to_numpy(bool)
            said = np.where(present[name], "drawn but labelled 0", "labelled 1 but not drawn")
            wrong += [f"{name} of {image} is {what}" for image, what in zip(images[differ], said[differ], strict=True)]
    if wrong:
        raise UsageError(f"--indicator-labels {path}: contradicts the masks: {listed(wrong)}")
