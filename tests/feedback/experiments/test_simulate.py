"""Readings, what options put over them, and wrong options that answer before Keras is imported."""

import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from common.cli import main, parse
from common.errors import UsageError
from common.settings import recipe
from feedback.__main__ import COMMANDS
from feedback.experiments import baseline, search, simulate, slices, tables
from feedback.experiments.simulate import BALANCED, CORRECTED, DESCRIBED, SimulateSettings, stored

ROOT = Path(__file__).resolve().parents[3]
PATHS = {"base", "data_dir", "cache_dir", "run_dir", "labels_csv", "mask_dir"}


def test_described_is_what_the_thesis_says():
    base = baseline.DESCRIBED
    assert (base.backbone, base.image_size, base.resize_filter, base.epochs, base.rotations) == ("vgg16", 227, "nearest", 20, 24)
    assert (base.head, base.head_units, base.class_weights, base.weights) == ("flatten", 2048, "inverse", "imagenet")
    assert (DESCRIBED.weights_of_terms, DESCRIBED.epochs, DESCRIBED.batch_size) == ((0.7, 0.3), 40, 1)
    assert DESCRIBED.channel_weights == "constant" and DESCRIBED.keep_overlap_in_training and DESCRIBED.threshold == 0.5
    assert replace(DESCRIBED, objective="explanation").weights_of_terms == (0.0, 1.0)
    assert replace(DESCRIBED, objective="classification").weights_of_terms == (1.0, 0.0)
    sliced = slices.default("described", "isic2018")
    assert (sliced.balance, sliced.slices, sliced.epochs) == ("upsampled", 20, 20)  # section 5.9
    assert tables.default("described", "isic2018").reduced_epochs == 20


def _given(settings: SimulateSettings, name: str) -> list[str]:
    value = getattr(settings, name)
    flag = name.replace("_", "-")
    return [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]


def test_every_setting_that_separates_the_readings_can_be_varied_alone(small_base, tmp_path):
    """Each option over the other reading's defaults, together with what it needs to act."""
    needs = {"adapt_learning_rate": ["--adapt-epochs", "1"], "keep_overlap_in_training": ["--split", "paper"]}
    places = ["--dataset", "isic2018", "--data-dir", str(tmp_path), "--base", str(small_base)]
    differing = {item.name for item in fields(DESCRIBED) if getattr(DESCRIBED, item.name) != getattr(CORRECTED, item.name)} - {"reading"}
    assert differing >= set(BALANCED) - {"objective", "explanation_weight"}  # 0.3 in both, a share in one and a norm in the other
    for name in differing:
        for reading, other in (("described", CORRECTED), ("corrected", DESCRIBED)):
            words = ["--reading", reading, *places, *needs.get(name, []), *_given(other, name)]
            assert getattr(parse(simulate.COMMAND, words), name) == getattr(other, name)
    for name in ("resize_filter", "split"):
        words = ["--dataset", "isic2019", "--data-dir", str(tmp_path), *_given(baseline.CORRECTED, name)]
        assert getattr(parse(baseline.COMMAND, words), name) == getattr(baseline.CORRECTED, name)


def test_the_balanced_objective_stands_for_its_options(small_base, tmp_path):
    places = ["--dataset", "isic2018", "--data-dir", str(tmp_path), "--base", str(small_base)]
    found = parse(simulate.COMMAND, [*places, "--objective", "balanced-combined", "--epochs", "3"])
    assert {**BALANCED, "epochs": 3}.items() <= asdict(found).items() and found.split == "paper"
    corrected = parse(simulate.COMMAND, [*places, "--reading", "corrected"])
    assert BALANCED.items() <= asdict(corrected).items()


def test_small_networks_get_small_heads(tmp_path):
    places = ["--dataset", "isic2019", "--data-dir", str(tmp_path)]
    small = parse(baseline.COMMAND, [*places, "--backbone", "mobilenetv2_035"])
    assert (small.head, small.head_units) == ("average", 256)
    given = parse(baseline.COMMAND, ["--backbone=mobilenetv2_035", "--head", "flatten", "--head-units", "0"])
    assert (given.head, given.head_units, given.weights) == ("flatten", 0, "none")
    assert parse(baseline.COMMAND, ["--backbone", "vgg16"]).head_units == 2048


def test_a_stored_recipe_gives_the_settings_again():
    settings = replace(CORRECTED, layer="conv2")
    again = stored(recipe(settings, dataset="isic2018"))
    unused = set(settings.unused())
    assert {k: v for k, v in asdict(again).items() if k not in PATHS | unused | {"dataset"}} == {
        k: v for k, v in asdict(settings).items() if k not in PATHS | unused | {"dataset"}
    }
    assert recipe(replace(settings, seed=1)) == recipe(settings) != recipe(replace(settings, epochs=1))


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("baseline", ["--reading", "coded"], "--reading coded: the thesis's code is not public"),
        ("baseline", ["--dataset", "sipakmed", "--data-dir", "."], "--dataset sipakmed: unknown"),
        ("baseline", ["--learning-rate", "0"], "--learning-rate 0.0: expected more than 0"),
        ("baseline", ["--head-units", "0", "--dropout", "0.2"], "--dropout: has no effect here: there are no dense layers"),
        ("search", ["--lambdas", "0.3", "1.5"], "--lambdas 1.5: expected between 0 and 1"),
        ("search", ["--explanation-weight", "0.3"], "--explanation-weight: has no effect here: the search sets it"),
        ("simulate", ["--dataset", "isic2018", "--data-dir", "."], "--base: expected the run folder"),
        ("simulate", ["--base", "no-such-run"], "no-such-run: no such run folder"),
        ("simulate", ["--threshold", "1.0"], "--threshold 1.0"),
        ("simulate", ["--anchor-weight", "-0.5"], "--anchor-weight -0.5: expected between 0 and 1000"),
        ("simulate", ["--feedback-form", "graded"], "--explanation-loss binary: graded feedback needs"),
        ("simulate", ["--learning-rate", "10.5"], "--learning-rate 10.5: expected more than 0 and at most 10"),
        ("simulate", ["--objective", "explanation", "--explanation-weight", "0.2"], "no effect here: the objective is explanation alone"),
        ("simulate", ["--fuse-stages", "2", "--layer", "last"], "--layer: has no effect here: the map is fused"),
        ("simulate", ["--labels-csv", "pyproject.toml"], "--labels-csv: has no effect here"),
        ("slices", ["--slices", "0"], "--slices 0"),
        ("search", ["--rates", "1.0", "10.5"], "--rates 10.5: expected more than 0 and at most 10"),
        ("search", ["--clip-norm", "0", "--clip-norms", "1"], "--clip-norm: has no effect here: the search sets it (--clip-norms)"),
        ("tables", ["--seeds"], "--seeds"),
        ("tables", ["--seeds", "0", "0"], "--seeds 0 0: one is given twice"),
        ("tables", ["--objectives", "combined", "combined"], "--objectives combined combined: one is given twice"),
        ("search", ["--lambdas", "0.3", "0.30"], "--lambdas 0.3 0.3: one is given twice"),
        ("tables", ["--objective", "explanation"], "--objective: has no effect here: tables takes --objectives"),
        ("tables", ["--balance", "none"], "--balance: has no effect here: tables takes --balances"),
    ],
)
def test_wrong_options(command, words, message, capsys):
    assert main("feedback", COMMANDS, [command, *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_base_that_is_not_finished_is_refused(small_base, tmp_path):
    for name in ("config.json", "model.keras"):
        (tmp_path / name).write_bytes((small_base / name).read_bytes())
    with pytest.raises(UsageError, match="not a finished run folder .finished.json is missing"):
        parse(simulate.COMMAND, ["--base", str(tmp_path)])


def test_variants_share_the_readings(small_base):
    for module in (search, slices):
        for reading in ("described", "corrected"):
            assert module.default(reading, "isic2018").split == simulate.default(reading, "isic2018").split


def test_commands_import_nothing_heavy():
    code = (
        "import sys, importlib, feedback.__main__ as m; [importlib.import_module(x) for x in m.COMMANDS.values()]; "
        "print([m for m in ('numpy', 'pandas', 'keras', 'PIL') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    wanted = {"baseline", "simulate", "slices", "thresholds", "tables", "search", "audit", "explain", "predict", "report"}
    assert wanted <= set(COMMANDS)
