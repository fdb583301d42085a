"""Every command on the drawn sample with `--limit 50`: one folder of runs that the commands share, on the tiny network.

One indicator, so that it stays fast; several are in test_commands.py, all five with the real network in its slow test.
"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from common.cli import main
from melanoma.__main__ import COMMANDS

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")


def run(*words: object) -> int:
    return main("melanoma", COMMANDS, [str(word) for word in words])


@pytest.fixture(scope="module")
def common(sample_cache: Path) -> list[object]:
    return ["--dataset", "sample", "--limit", 50, "--cache-dir", sample_cache, "--image-size", 64, "--epochs", 1]


@pytest.fixture(scope="module")
def one(common: list[object]) -> list[object]:
    return [*common, "--indicators", "pigment_network"]


@pytest.fixture(scope="module")
def runs(tiny: None, one: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    assert run("pretrain", *one, "--run-dir", folder / "pretrain-seed0") == 0
    assert run("ablation", *one, "--rows", "f_res", "bio_u_net", "--run-dir", folder) == 0
    return folder


def test_the_runs_are_whole_and_marked_synthetic(runs: Path) -> None:
    assert sorted(path.name for path in runs.glob("*-seed0")) == ["bio_u_net-seed0", "f_res-equal-seed0", "pretrain-seed0"]
    for name in ("bio_u_net-seed0", "f_res-equal-seed0"):
        metrics = json.loads((runs / name / "metrics.json").read_text())
        assert metrics["synthetic"]
        entry = metrics["localisation"]["gradcam"]["pigment_network"]["t00"]
        assert entry["dice_all_interval"][0] <= entry["dice_all"] <= entry["dice_all_interval"][1]
        assert "ynthetic" in (runs / name / "report.md").read_text()
    stages = pd.read_csv(runs / "bio_u_net-seed0" / "history.csv")["stage"].tolist()
    assert stages == ["classifier-pigment_network", "segmentation-pigment_network"]
    control = pd.read_csv(runs / "f_res-equal-seed0" / "history.csv")["stage"].tolist()
    assert control == ["classifier-pigment_network", "alternation-pigment_network"]  # the same steps without Dice


@pytest.mark.parametrize(
    ("command", "words"), [("thresholds", ()), ("repeats", ("--rows", "1")), ("multitask", ("--rows", "one")), ("train", ())]
)
def test_the_other_tables_find_bio_u_net_done(runs: Path, one: list[object], command: str, words: tuple[str, ...]) -> None:
    """The row that Tables 3 to 6 share is one run, and `train` with the same settings is that run too."""
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*-seed0/finished.json")}
    equal = ("--head", "l2", "--watch", "dice+bce")
    alone = (*equal, "--pretrained", runs / "pretrain-seed0") if command == "train" else ()
    assert run(command, *one, *words, *alone, "--run-dir", runs / "bio_u_net-seed0" if command == "train" else runs) == 0
    assert {path: path.stat().st_mtime_ns for path in runs.glob("*-seed0/finished.json")} == before


def test_baselines_and_tables(runs: Path, one: list[object], tmp_path: Path) -> None:
    assert run("baselines", *one, "--rows", "cams", "--lime-samples", 10, "--lime-images", 1, "--run-dir", runs) == 0
    assert run("tables", runs, "--output", tmp_path) == 0
    (folder,) = tmp_path.iterdir()
    report = (folder / "table_2" / "report.md").read_text()
    assert "Synthetic data" in report
    assert all(f"| {name} |" in report for name in ("whole image", "centred blob", "mean training mask", "LIME"))
    report = (folder / "table_3_melanoma" / "report.md").read_text()
    assert "majority class" in report
    assert "sensitivity at 80" in report


def test_what_reads_a_finished_run(runs: Path, sample_cache: Path, tmp_path: Path, capsys) -> None:
    folder = runs / "bio_u_net-seed0"
    assert run("report", folder) == 0
    image = next(path for path in sorted(sample_cache.rglob("ISIC_*.*")) if path.suffix in (".jpg", ".png") and "_attr" not in path.name)
    assert run("predict", folder, image, "--output", tmp_path / "out.csv") == 0
    assert len(pd.read_csv(tmp_path / "out.csv")) == 1
    assert run("predict", folder, image, "--output", tmp_path / "out.csv", "--output-dir", tmp_path / "drawn") == 0
    names = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert names == [f"{image.stem}_pigment_network.png", f"{image.stem}_sheet.png", "indicators.csv"]
    row = pd.read_csv(tmp_path / "drawn" / "indicators.csv").iloc[0]
    assert 0 <= row["probability"] <= 1
    assert run("predict", runs / "f_res-equal-seed0", image, "--output-dir", tmp_path / "none") == 2
    assert "has no U-Nets" in capsys.readouterr().err
    assert run("predict", folder, image, "--output-dir", tmp_path / "none", "--views", 2) == 2
    assert "sheets say what the run alone says" in capsys.readouterr().err  # the CSV would say something else
    words = ("--methods", "gradcam", "--no-faithfulness", "--output")
    assert run("explain", folder, *words, tmp_path / "why") == 0
    assert list((tmp_path / "why").glob("encoders_*.png"))
    (tmp_path / "other").mkdir()
    copies = [shutil.copy(image, (tmp_path / place).with_suffix(image.suffix)) for place in ("x", "other/x")]
    assert run("explain", folder, "--images", *copies, *words, tmp_path / "two") == 0
    assert sorted(path.name for path in (tmp_path / "two").glob("encoders_*.png")) == ["encoders_x.png", "encoders_x_2.png"]


def test_one_encoder_for_everything(tiny: None, common: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shared"
    # One epoch draws nothing that could be calibrated; that it is done, and kept, is what this shows.
    monkeypatch.setattr("melanoma.training.shared.calibrate_drawing", lambda *given: {"streaks": (2.0, 0.5)})
    assert run("shared", *common, "--run-dir", folder) == 0
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["outputs"]["shared"][0] == "melanoma"
    assert len(metrics["drawn"]["shared"]) == 5
    assert metrics["drawing_calibration"] == {"streaks": [2.0, 0.5]}
    assert {"gradcam", "unet_mask", "centred blob"} <= set(metrics["localisation"])
    image = next(path for path in sorted((folder / "figures").glob("sheet_*.png")))
    assert run("predict", folder, image, "--output-dir", tmp_path / "drawn", "--output", tmp_path / "out.csv") == 0
    assert len(list((tmp_path / "drawn").glob("*_streaks.png"))) == 1
    assert run("tables", folder, "--output", tmp_path / "tables") == 0
    assert "drawing, melanoma, indicators and masks" in next((tmp_path / "tables").rglob("shared/report.md")).read_text()


def test_audit(common: list[object], tmp_path: Path) -> None:
    assert run("audit", *common[:6], "--run-dir", tmp_path) == 0
    text = (tmp_path / "indicators.md").read_text()
    assert all(name in text for name in ("globules", "milia-like cysts", "negative network", "pigment network", "streaks"))
    assert "Dataset B against Dataset A" in text
