"""Which printed row a run stands beside, and what it is called."""

from dataclasses import replace

import pytest

from common.settings import recipe
from melanoma.experiments.train import DESCRIBED
from melanoma.reporting import map_notes, printed_numbers, printed_row, run_title
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
    for other in ({"split": "grouped"}, {"reading": "corrected"}, {"head": "l2"}, {"watch": "dice+bce"}, {"binarise": True}):
        assert printed_numbers({**settings, **other}, metrics) == {}, other  # another method than the printed one
    assert printed_numbers(settings, {**metrics, "lesion_masks_for": ["globules"]}) == {}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ("the continuous map", "the indicator's logit")),
        ({"binarise": True}, ("1 wherever it is above 0", "the indicator's logit")),
        ({"target": "melanoma"}, ("the continuous map", "melanoma's logit")),
        ({"target": "predicted"}, ("the continuous map", "the predicted diagnosis.")),
        ({"segmentation": False}, ("the continuous map", "no output for the indicator")),
    ],
)
def test_the_report_says_which_score_and_which_map_were_measured(settings: dict, said: tuple[str, ...]) -> None:
    outputs = {"globules": ["melanoma"] if "segmentation" in settings else ["globules", "melanoma"]}
    text = " ".join(map_notes({"outputs": outputs}, {"indicators": ["globules"], **settings}))
    assert all(part in text for part in said)
