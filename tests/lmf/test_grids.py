"""Finished runs found again, and sorted into what may stand in one figure."""

import pandas as pd
import pytest

from common.errors import UsageError
from common.runs.reading import RunFolder
from lmf import grids
from tests.lmf.test_tables import made_up_run, wrong_in


def test_finished_runs_are_found_again(tmp_path):
    with pytest.raises(UsageError, match="no finished run"):
        grids.finished_runs(tmp_path)
    facts = {"backbone": "resnet50", "seed": 0, "split": "paper", "reading": "described", "image_size": 112, "weights": "imagenet"}
    for loss, alpha, beta in (("lmf", 0.5, 1.0), ("lmf", 1.0, 1.0), ("cce", None, None)):
        settings = {**facts, "dataset": "ham10000", "loss": loss, "alpha": alpha, "beta": beta}
        made_up_run(tmp_path / "deep" / f"{loss}{alpha}", wrong_in(0), **{key: settings[key] for key in settings if key != "dataset"})
        folder = RunFolder(tmp_path / "deep" / f"{loss}{alpha}")
        config = folder.read_json("config.json")
        folder.write_json("config.json", {**config, "settings": {**config["settings"], **settings}})
    found = grids.finished_runs(tmp_path)
    assert len(found) == 3 and list(found[found["swept"]]["alpha"]) == [1.0]  # Table 6 has (0.5, 1) for this cell
    assert grids.class_counts(found) == {"ham10000": {"akiec": 60, "nv": 120}}
    settings = grids.by_setting(found)
    assert sorted(settings["setting"]) == ["alpha", "alpha", "beta", "equal"]


def runs_table(*rows: dict) -> pd.DataFrame:
    common = {"backbone": "resnet50", "seed": 0, "split": "paper", "reading": "described", "image_size": 112, "epochs": 12, "weights": "w"}
    return pd.DataFrame([{**common, "dataset": "ham10000", "loss": "lmf", "macro_f1": 0.5, "run": "nowhere", **row} for row in rows])


def test_fig_4_never_mixes_data_sets_networks_or_ways_of_training():
    """Six runs with alpha = beta = 1 in six groups are no sweep; in one group alpha = beta was varied, in another only beta."""
    ones = [{}, {"dataset": "odir5k"}, {"backbone": "vgg16"}, {"image_size": 64}, {"epochs": 3}, {"split": "grouped"}]
    runs = runs_table(
        *[{"alpha": 1.0, "beta": 1.0, **one} for one in ones],
        {"alpha": 2.0, "beta": 2.0, "dataset": "odir5k"},
        {"alpha": 1.0, "beta": 0.5, "split": "grouped"},
        {"alpha": 1.0, "beta": 1.0, "seed": 1, "epochs": 3},
        {"alpha": None, "beta": None, "loss": "cce"},
    )
    (first, equal), (second, beta) = grids.sweeps(runs)
    assert first.startswith("ODIR-5K, resnet50, split paper") and set(equal["setting"]) == {"equal"} and sorted(equal["value"]) == [1, 2]
    assert "split grouped" in second and set(beta["setting"]) == {"beta"} and sorted(beta["value"]) == [0.5, 1]
    assert grids.sweeps(runs[:6]) == []


def test_fig_3_takes_every_data_set_with_two_losses_whose_models_are_here(tmp_path):
    def here(name: str, *files: str) -> str:
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).touch()
        return str(tmp_path / name)

    both = ("model.keras", "local.json")
    runs = runs_table(
        {"loss": "cce", "run": here("a", *both)},
        {"loss": "lmf", "run": here("b", *both)},
        {"loss": "lmf", "run": here("c", *both)},  # the same loss again, as after a change of alpha
        {"loss": "focal", "run": here("d", "model.keras")},  # nobody knows where its images lie
        {"loss": "cce", "dataset": "odir5k", "run": here("e", *both)},
        {"loss": "lmf", "dataset": "odir5k", "run": here("f", *both)},
        {"loss": "lmf", "dataset": "isic2019", "run": here("g", *both)},
        {"loss": "cce", "seed": 1, "run": here("h", *both)},
    )
    ((title, paths),) = grids.side_by_side(runs)
    assert [path.name for path in paths] == ["a", "b", "e", "f"] and title.startswith("resnet50, seed 0, split paper")
