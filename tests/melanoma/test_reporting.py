"""Which printed row a run stands beside, and what it is called."""

from dataclasses import replace

import pytest

from common.settings import recipe
from melanoma.experiments.train import DESCRIBED
from melanoma.reporting import printed_numbers, printed_row, run_title
from melanoma.training.grids import cell_name


@pytest.mark.parametrize(
    ("changes", "row", "folder"),
    [
        ({}, (3, "bio_u_net"), "bio_u_net-seed0"),
        ({"simclr": False}, (3, "f_res_seg"), "f_res_seg-seed0"),
        ({"segmentation": False, "simclr": False, "tasks": "two"}, (3, "f_res"), "f_res-seed0"),
        ({"repeats": 3}, (4, "3"), "bio_u_net-repeats3-seed0"),
        ({"repeats": 9}, None, "bio_u_net-repeats9-seed0"),
        ({"tasks": "two", "seed": 2}, (5, "two"), "bio_u_net-two-seed2"),
        ({"tasks": "six", "repeats": 2}, None, "bio_u_net-six-repeats2-seed0"),
        ({"tasks": "two", "simclr": False}, None, "f_res_seg-two-seed0"),
        ({"order": "interleaved"}, None, "bio_u_net-interleaved-seed0"),
    ],
)
def test_row_and_folder_follow_from_the_settings(changes: dict, row: tuple | None, folder: str) -> None:
    settings = replace(DESCRIBED, **changes)
    assert printed_row(recipe(settings)) == row
    assert cell_name(settings) == folder


def test_a_run_of_table_5_is_called_that_and_stands_beside_its_numbers() -> None:
    settings = recipe(replace(DESCRIBED, tasks="two", indicators=("globules",)))
    assert run_title(settings) == "Bio-U-Net, two tasks, resnet50 at 512 px"
    metrics = {"localisation": {"gradcam": {"globules": {"t00": {"dice": 0.1}}, "lesion": {"t00": {"dice": 0.1}}}}}
    settings = {**settings, "dataset": "isic2018"}
    printed = printed_numbers(settings, metrics)
    assert printed["localisation.gradcam.globules.t00.dice"].value == 0.1416
    assert printed["melanoma_auc"].value == 0.84
    assert "Table 5" in printed["accuracy"].source
    assert not [name for name in printed if "lesion" in name]
    assert printed_numbers({**settings, "image_size": 128}, metrics) == {}
    assert printed_numbers(settings, {**metrics, "lesion_masks_for": ["globules"]}) == {}
