"""Readings, what the options put over them, and wrong options that answer before Keras is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import UsageError
from feedback.__main__ import COMMANDS
from feedback.config import (
    BaselineOptions,
    ClippingOptions,
    SimulateOptions,
    SlicesOptions,
    TablesOptions,
    base_settings,
    simulation_settings,
)
from feedback.training.tables import arguments_of, cells_of

ROOT = Path(__file__).resolve().parents[2]


def test_described_is_what_the_thesis_says(tmp_path):
    base = base_settings(BaselineOptions(dataset="isic2019", data_dir=tmp_path))
    assert (base.backbone, base.image_size, base.resize_filter, base.epochs, base.rotations) == ("vgg16", 227, "nearest", 20, 24)
    assert (base.head, base.units, base.class_weights, base.weights) == ("flatten", 2048, "inverse", "imagenet")


def _simulation(small_base, tmp_path, kind=SimulateOptions, **values):
    return simulation_settings(kind(dataset="isic2018", data_dir=tmp_path, base=small_base, **values))


def test_simulation_settings(small_base, tmp_path):
    settings = _simulation(small_base, tmp_path)
    assert (settings.explanation_weight, settings.epochs, settings.batch_size, settings.gradients) == (0.3, 40, 1, "constant")
    assert settings.keep_overlap_in_training and settings.threshold == 0.5 and settings.feedback == "all"
    assert _simulation(small_base, tmp_path, balance="reduced").epochs == 20
    assert _simulation(small_base, tmp_path, SlicesOptions).epochs == 20
    assert _simulation(small_base, tmp_path, objective="explanation").explanation_weight == 1.0
    assert _simulation(small_base, tmp_path, objective="classification").explanation_weight == 0.0
    assert _simulation(small_base, tmp_path, explanation_weight=(0.6,), epochs=3).explanation_weight == 0.6
    assert _simulation(small_base, tmp_path, clip_norm=0.0).clip_norm == 0.0
    assert _simulation(small_base, tmp_path, feedback_form="graded").explanation_loss == "graded"
    corrected = _simulation(small_base, tmp_path, reading="corrected")
    assert (corrected.split, corrected.keep_overlap_in_training, corrected.gradients) == ("grouped", False, "differentiated")


def test_small_networks_get_small_heads(tmp_path):
    small = base_settings(BaselineOptions(dataset="isic2019", data_dir=tmp_path, backbone="mobilenetv2_035"))
    assert (small.head, small.units) == ("average", 256)
    given = base_settings(BaselineOptions(backbone="mobilenetv2_035", head="flatten", head_units=0))
    assert (given.head, given.units, given.weights) == ("flatten", 0, "none")
    assert base_settings(BaselineOptions(backbone="vgg16")).units == 2048


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (BaselineOptions, {"reading": "coded"}, "--reading coded: the thesis's code is not public"),
        (BaselineOptions, {"dataset": "sipakmed", "data_dir": Path(".")}, "--dataset sipakmed: unknown"),
        (BaselineOptions, {"learning_rate": 0.0}, "--learning-rate 0.0: expected more than 0"),
        (SimulateOptions, {"explanation_weight": (0.3, 1.5)}, "--explanation-weight 1.5: expected between 0 and 1"),
        (SimulateOptions, {"dataset": "isic2018", "data_dir": Path(".")}, "--base: expected the run folder"),
        (SimulateOptions, {"base": Path("no-such-run")}, "no-such-run: no such run folder"),
        (SimulateOptions, {"threshold": 1.0}, "--threshold 1.0"),
        (SlicesOptions, {"slices": 0}, "--slices 0"),
        (SimulateOptions, {"precision": "mixed_float16"}, "--precision mixed_float16: tuning works in the base's own arithmetic"),
        (SlicesOptions, {"precision": "mixed_bfloat16"}, "--precision mixed_bfloat16: "),
        (SimulateOptions, {"learning_rate": 10.5}, "--learning-rate 10.5: expected more than 0 and at most 10"),
        (ClippingOptions, {"rates": (1.0, 10.5)}, "--rates 10.5: expected more than 0 and at most 10"),
        (ClippingOptions, {"explanation_weight": (0.1, 0.2)}, "--explanation-weight: clipping takes one value"),
        (TablesOptions, {"seeds": ()}, "--seeds: expected at least one"),
    ],
)
def test_wrong_options(kind, values, message):
    with pytest.raises(UsageError) as raised:
        kind(**values)
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("option", [{"backbone": "vgg16"}, {"weights": "none"}, {"image_size": 64}])
def test_the_network_is_the_bases(small_base, option):
    name = next(iter(option)).replace("_", "-")
    with pytest.raises(UsageError, match=f"--{name}: network, weights and image size are those of --base"):
        SimulateOptions(base=small_base, **option)
    # Without a base the sample's own is trained so, and the grid's cells then name it alone.
    cells = cells_of(TablesOptions(**option), small_base, Path("cells"))
    assert all(f"--{name}" not in cell.arguments and "--base" in cell.arguments for cell in cells)


def test_a_base_that_is_not_finished_is_refused(small_base, tmp_path):
    for name in ("config.json", "model.keras"):
        (tmp_path / name).write_bytes((small_base / name).read_bytes())
    with pytest.raises(UsageError, match="not a finished run folder .finished.json is missing"):
        SimulateOptions(base=tmp_path)


def test_a_cell_of_the_grid_is_the_same_command(small_base, tmp_path):
    options = TablesOptions(
        dataset="isic2018",
        data_dir=tmp_path,
        base=small_base,
        epochs=3,
        skip_unreadable=True,
        seeds=(0, 1),
        balances=("none", "upsampled"),
        slices=2,
    )
    cells = cells_of(options, small_base, tmp_path)
    assert len(cells) == 2 * (2 * 3 + 3) and len({cell.run_dir for cell in cells}) == len(cells)
    assert {cell.experiment for cell in cells} == {"simulate", "slices"}
    words = arguments_of(options, {"base": small_base, "balance": "upsampled", "objective": "explanation", "seed": 1})
    assert "--skip-unreadable" in words and words[words.index("--seed") + 1] == "1" and words[words.index("--epochs") + 1] == "3"
    assert "--objective" in words and "--slices" not in words


def test_commands_import_nothing_heavy():
    code = "import sys, feedback.__main__; print([m for m in ('numpy', 'pandas', 'keras', 'PIL') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    wanted = {"baseline", "simulate", "slices", "thresholds", "tables", "clipping", "audit", "explain", "predict", "report"}
    assert wanted <= set(COMMANDS)
