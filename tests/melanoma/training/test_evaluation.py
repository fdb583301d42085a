"""Which test images the sheets show."""

from types import SimpleNamespace

import numpy as np

from melanoma.training.evaluation import shown_rows


def inputs_with(areas: list[int]) -> SimpleNamespace:
    masks = np.zeros((len(areas) + 1, 10, 10), "uint8")
    for row, area in enumerate(areas, start=1):
        masks[row].flat[:area] = 1
    return SimpleNamespace(localised=lambda: np.arange(1, len(areas) + 1), masks=lambda name: masks)


def test_the_middle_of_the_areas_is_shown_in_the_order_of_rows() -> None:
    # Areas 1, 2, 5, 9, 90 without the empty ones; the middle three are 2, 5 and 9.
    assert shown_rows(inputs_with([90, 0, 5, 1, 0, 9, 2]), "globules", 3).tolist() == [3, 6, 7]


def test_a_rare_indicator_is_filled_up_with_images_without_it() -> None:
    assert shown_rows(inputs_with([0, 0, 7, 0]), "streaks", 3).tolist() == [1, 2, 3]
    assert shown_rows(inputs_with([0, 0]), "streaks", 3).tolist() == [1, 2]
