"""The arrays that the sheets show: a few test images with their masks and maps, kept in the run folder."""

import numpy as np

from common.runs.files import atomic
from common.runs.folder import Run
from melanoma.experiments.base import SHOWN_FILE
from melanoma.training.inputs import Inputs


def write_arrays(run: Run, arrays: dict[str, np.ndarray]) -> None:
    """Several arrays in one compressed file, whole or not at all."""
    with atomic(run.path / SHOWN_FILE) as temporary:
        np.savez_compressed(temporary, **{key.replace("/", "__"): value for key, value in arrays.items()})


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
