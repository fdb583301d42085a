"""Options and readings become settings; wrong options are named; the grids stand for the cells they should."""

from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import UsageError
from lmf.config import READINGS, TrainLossOptions, run_name, settings_of, weights_of, with_control
from lmf.options import GRID, AuditOptions, SweepOptions, TablesOptions, arguments_of


def real(tmp_path, **values) -> TrainLossOptions:
    return TrainLossOptions(**{"dataset": "ham10000", "data_dir": tmp_path, **values})


def test_the_described_reading_is_the_papers(tmp_path):
    settings = settings_of(real(tmp_path))
    expected = {
        "epochs": 100, "batch_size": 32, "learning_rate": 1e-4, "weight_decay": 5e-4, "decay_every": 30, "decay_factor": 0.1,
        "image_size": 224, "gamma": 1.5, "max_margin": 0.5, "backbone": "efficientnetv2s", "weights": "imagenet", "dropout": 0.2,
        "split": "paper", "losses": "described", "resize_filter": "bilinear",
    }  # fmt: skip
    assert {key: getattr(settings, key) for key in expected} == expected


def test_readings_differ_where_they_should(tmp_path):
    coded, corrected = settings_of(real(tmp_path, reading="coded")), settings_of(real(tmp_path, reading="corrected"))
    assert (coded.losses, coded.preprocessing, coded.split) == ("coded", "unit", "paper")
    assert (corrected.losses, corrected.preprocessing, corrected.split) == ("described", "efficientnetv2s", "grouped")
    assert set(READINGS) == {"described", "coded", "corrected"}


def test_alpha_and_beta_come_from_table_6(tmp_path):
    assert (settings_of(real(tmp_path)).alpha, settings_of(real(tmp_path)).beta) == (1.0, 2.0)
    resnet = settings_of(real(tmp_path, backbone="resnet50", beta=0.7))
    assert (resnet.alpha, resnet.beta) == (0.5, 0.7)
    assert settings_of(real(tmp_path, backbone="mobilenetv2_035")).alpha == 1.0
    assert settings_of(real(tmp_path, loss="cce")).alpha is None


def test_the_sample_is_small_and_from_scratch():
    settings = settings_of(TrainLossOptions(sample="odir5k"))
    assert (settings.dataset, settings.synthetic, settings.weights, settings.backbone) == ("sample-odir5k", True, "none", "mobilenetv2_035")
    assert weights_of(TrainLossOptions()) == "none"


def test_control_belongs_to_the_corrected_reading_or_to_who_asks(tmp_path):
    assert with_control(real(tmp_path, reading="corrected")) and not with_control(real(tmp_path))
    assert with_control(real(tmp_path, control=True)) and not with_control(real(tmp_path, reading="corrected", control=False))
    assert not with_control(real(tmp_path, loss="cce", control=True))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"dataset": "imagenet"}, "--dataset imagenet: expected one of"),
        ({"loss": "focal", "alpha": 1.0}, "belong to --loss lmf"),
        ({"alpha": -1.0}, "--alpha -1.0: expected between 0 and 100"),
        ({"alpha": 0.0, "beta": 0.0}, "at least one above 0"),
        ({"gamma": -0.1}, "--gamma"),
        ({"learning_rate": 0.0}, "--learning-rate"),
        ({"dataset": "ham10000"}, "expected --data-dir"),
        ({"labels_csv": Path(__file__)}, "--labels-csv: --dataset sample has labels of its own"),
        ({"group_pattern": "(.)"}, "--group-pattern: belongs to --dataset folders, not sample"),
        ({"mask_dir": Path(__file__).parent}, "--mask-dir: belongs to --dataset folders"),
        ({"dataset": "folders", "data_dir": Path(__file__).parent, "split": "grouped"}, "--split grouped: expected --group-pattern"),
        ({"dataset": "folders", "data_dir": Path(__file__).parent, "labels_csv": Path(__file__)}, "--labels-csv: --dataset folders"),
    ],
)
def test_wrong_options_are_named(values, words):
    with pytest.raises(UsageError, match=words):
        TrainLossOptions(**values)


def test_the_audit_refuses_what_it_would_not_look_at():
    with pytest.raises(UsageError, match="--group-pattern: belongs to --dataset folders"):
        AuditOptions(group_pattern="(.)")


def test_a_network_must_be_a_keras_file_and_alone(tmp_path):
    file = tmp_path / "net.h5"
    file.touch()
    with pytest.raises(UsageError, match=r"expected a .keras file"):
        TrainLossOptions(network=file)
    file = tmp_path / "net.keras"
    file.touch()
    with pytest.raises(UsageError, match="exclude each other"):
        TrainLossOptions(network=file, backbone="vgg16")
    assert settings_of(TrainLossOptions(network=file)).preprocessing == "raw"
    with pytest.raises(UsageError, match="--network and --weights exclude each other"):
        TrainLossOptions(network=file, weights="none")


def test_tables_stand_for_the_papers_grid(tmp_path):
    for name in ("ham10000", "odir5k", "isic2019", "covid_radiography"):
        (tmp_path / name).mkdir()
    cells = TablesOptions(data_dir=tmp_path).cells()
    assert len(cells) == 60 and len({run_name(cell) for cell in cells}) == 60
    assert {cell.dataset for cell in cells} == {"ham10000", "odir5k", "isic2019", "covid_radiography"}
    assert len(TablesOptions(seeds=(0, 1), losses=("cce", "lmf")).cells()) == 16


def test_tables_name_the_folder_that_is_missing(tmp_path):
    (tmp_path / "ham10000").mkdir()
    with pytest.raises(UsageError, match="no folder odir5k in it"):
        TablesOptions(data_dir=tmp_path, datasets=("ham10000", "odir5k"))
    with pytest.raises(UsageError, match="--seeds: one is given twice"):
        TablesOptions(seeds=(1, 1))
    with pytest.raises(UsageError, match="--backbones alexnet"):
        TablesOptions(backbones=("alexnet",))


def test_the_sweep_trains_each_pair_once(tmp_path):
    options = SweepOptions(dataset="ham10000", data_dir=tmp_path)
    assert len(GRID) == 11 and min(GRID) == 0.5 and max(GRID) == 2.0
    assert len(options.cells()) == 31  # three settings of eleven, (1, 1) in all of them
    assert {cell.epochs for cell in options.cells()} == {60}
    assert options.pairs("beta")[0] == (1.0, 0.5) and options.pairs("alpha")[0] == (0.5, 1.0) and options.pairs("equal")[0] == (0.5, 0.5)


def test_a_sweep_is_of_distinct_values_and_of_anyones_network_and_folders(tmp_path):
    with pytest.raises(UsageError, match="--grid: one is given twice"):
        SweepOptions(grid=(0.5, 1.0, 0.5))
    with pytest.raises(UsageError, match="--settings: one is given twice"):
        SweepOptions(settings=("equal", "equal"))
    file = tmp_path / "net.keras"
    file.touch()
    with pytest.raises(UsageError, match="--network and --backbones"):
        SweepOptions(network=file, backbones=("resnet50",))
    options = SweepOptions(dataset="folders", data_dir=tmp_path, group_pattern="(.)_", network=file, grid=(1.0,))
    (cell,) = options.cells()
    assert (cell.network, cell.group_pattern, cell.dataset) == (file, "(.)_", "folders")


def test_a_cells_command_line_gives_the_same_options(tmp_path):
    from common.cli import _parse
    from lmf.__main__ import COMMANDS

    cell = real(tmp_path, loss="lmf", alpha=0.5, seed=3, skip_unreadable=True, control=False, precision="mixed_bfloat16", limit=100)
    # As the cell's own process reads it.
    assert _parse(COMMANDS["train"], "lmf train", list(arguments_of(cell))) == cell
    assert "--no-control" in arguments_of(cell)


def test_run_names_tell_runs_apart(tmp_path):
    first = real(tmp_path)
    names = {run_name(each) for each in (first, replace(first, seed=1), replace(first, loss="cce"), replace(first, gamma=2.0))}
    assert len(names) == 4
    assert run_name(first) == run_name(real(tmp_path)) and run_name(first).startswith(
        "ham10000-efficientnetv2s-paper-described-lmf-a1-b2-seed0-"
    )
