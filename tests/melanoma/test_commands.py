"""The commands from end to end on a few squares and a tiny network: what they leave behind, that they resume, that tables follow."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.cli import main
from common.errors import UsageError
from melanoma.__main__ import COMMANDS
from melanoma.experiments.ablation import AblationSettings
from melanoma.tables import TRIVIAL
from melanoma.training.inputs import load_inputs, open_run
from melanoma.training.pretraining import origin

# The paper's rows instead of the like-for-like ones, which test_sample.py has.
DESCRIBED = ("--encoders", "plain", "--head", "described", "--watch", "dice")
pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")


def run(*words: object) -> int:
    return main("melanoma", COMMANDS, [str(word) for word in words])


@pytest.fixture(scope="module")
def common(isic: Path, images_b: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Options of every run here: one epoch a stage, MobileNetV2's name for the tiny network."""
    return [
        "--dataset", "isic2018", "--data-dir", isic, "--unlabelled-dir", images_b, "--cache-dir", tmp_path_factory.mktemp("cache"),
        "--backbone", "mobilenetv2_035", "--weights", "none", "--image-size", 64, "--epochs", 1, "--learning-rate", 0.001,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tiny: None, common: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ablation's runs of one seed, tables included."""
    folder = tmp_path_factory.mktemp("runs")
    assert run("ablation", *common, *DESCRIBED, "--rows", "f_res", "bio_u_net", "--run-dir", folder) == 0
    return folder


def test_a_run_folder_is_complete(runs: Path) -> None:
    folder = runs / "bio_u_net-seed0"
    for name in (
        "contents.json", "manifest.csv", "history.csv", "model.keras", "predictions.csv", "metrics.json", "report.md", "model_card.md",
        "localisation.csv", "figures/sheet_globules.png", "figures/heatmaps_streaks.png",
        "figures/thresholds.png", "finished.json",
    ):  # fmt: skip
        assert (folder / name).is_file(), name
    assert not (folder / "checkpoints").exists()
    stages = pd.read_csv(folder / "history.csv")["stage"].tolist()
    assert stages == ["classifier-globules", "segmentation-globules", "classifier-streaks", "segmentation-streaks", "head"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["outputs"] == {"globules": ["globules"], "streaks": ["streaks"]}
    assert metrics["indicators"]["globules"] == {"with": 20, "without": 20}
    assert list(metrics["baselines"]) == ["majority class", "logistic probe"]
    assert list(metrics["localisation"]) == ["gradcam", "unet_mask", *TRIVIAL]


def test_scores_follow_from_localisation_csv(runs: Path) -> None:
    folder = runs / "bio_u_net-seed0"
    table = pd.read_csv(folder / "localisation.csv")
    chosen = table[(table["method"] == "gradcam") & (table["indicator"] == "globules") & (table["threshold"] == 0) & ~table["empty"]]
    entry = json.loads((folder / "metrics.json").read_text())["localisation"]["gradcam"]["globules"]["t00"]
    assert entry["dice"] == pytest.approx(chosen["dice"].mean())
    assert entry["n"] == len(chosen)
    assert sorted(table["threshold"].unique()) == pytest.approx([step / 10 for step in range(10)])


def test_the_plain_classifier_draws_one_map_for_all_indicators_and_keeps_its_own_head(runs: Path) -> None:
    folder = runs / "f_res-seed0"
    assert json.loads((folder / "metrics.json").read_text())["outputs"] == {"classifier": ["melanoma"]}
    assert pd.read_csv(folder / "history.csv")["stage"].unique().tolist() == ["classifier-classifier"]
    with np.load(folder / "shown.npz") as shown:
        rows = {name: shown[f"{name}__rows"].tolist() for name in ("globules", "streaks")}
        maps = {name: shown[f"{name}__gradcam"] for name in rows}
    shared = set(rows["globules"]) & set(rows["streaks"])
    for row in shared:
        assert np.array_equal(maps["globules"][rows["globules"].index(row)], maps["streaks"][rows["streaks"].index(row)])


def test_pretraining_is_shared_and_measured(runs: Path) -> None:
    folder = runs / "pretrain-seed0"
    quality = json.loads((folder / "embedding_quality.json").read_text())
    names = {"knn_accuracy", "knn_auc", "probe_accuracy", "probe_auc"}
    assert set(quality["after"]) == names | {f"{name}_interval" for name in names} | {"n"}
    assert "](figures/training_curves.png)" in (folder / "report.md").read_text()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["dataset_b"] == {"images": 17, "same_id": 0, "renamed": 1, "kept": 16}
    assert {"alignment", "uniformity"} <= set(pd.read_csv(folder / "history.csv").columns)
    assert [path.name for path in sorted(runs.glob("pretrain*"))] == ["pretrain-seed0"]
    settings = json.loads((runs / "bio_u_net-seed0" / "config.json").read_text())["settings"]
    assert settings["dataset_b"]["renamed"] == 1
    assert settings["dataset_b"] == json.loads((folder / "config.json").read_text())["settings"]["dataset_b"]
    assert "1 more because it has the id without `_downsampled`" in (runs / "bio_u_net-seed0" / "report.md").read_text()


def settings_of(common: list[object], **more: object) -> AblationSettings:
    return AblationSettings(
        dataset="isic2018", data_dir=common[3], unlabelled_dir=common[5], cache_dir=common[7], backbone="mobilenetv2_035", weights="none",
        image_size=64, pretrain_epochs=1, learning_rate=0.001, rows=("bio_u_net",), **more,
    )  # fmt: skip


def test_a_run_knows_its_pretraining_whether_it_is_given_or_made(runs: Path, common: list[object]) -> None:
    """Settings alone tell the pre-training, so that a run that makes its own and one that is given it are the same run."""
    inputs = load_inputs(settings_of(common).cell(0, "bio_u_net"))
    recorded = json.loads((runs / "bio_u_net-seed0" / "config.json").read_text())["settings"]
    for pretrained in (None, runs / "pretrain-seed0"):
        found = origin(replace(inputs, settings=replace(inputs.settings, pretrained=pretrained)))
        assert found == {name: recorded[name] for name in ("dataset_b", "pretraining")}
    other = load_inputs(settings_of(common, temperature=0.1).cell(0, "bio_u_net"))
    assert origin(other)["pretraining"] != recorded["pretraining"]
    with pytest.raises(UsageError, match="--pretrained .*: is no run of `melanoma pretrain`"):
        origin(replace(inputs, settings=replace(inputs.settings, pretrained=runs / "f_res-seed0")))
    other = load_inputs(settings_of(common, normalise="weights", pretrained=runs / "pretrain-seed0").cell(0, "bio_u_net"))
    with pytest.raises(UsageError, match="its normalise is image, this run's weights"):
        origin(other)
    given = settings_of(common, pretrained=runs / "pretrain-seed0")
    other = load_inputs(replace(given, weights="imagenet").cell(0, "bio_u_net"))
    with pytest.raises(UsageError, match="its weights is none, this run's imagenet"):
        origin(other)


def test_a_run_that_is_given_its_pretraining_needs_no_dataset_b(runs: Path, common: list[object], tmp_path: Path) -> None:
    """It asked for --unlabelled-dir, which it does not read."""
    settings = replace(settings_of(common, pretrained=runs / "pretrain-seed0").cell(0, "bio_u_net"), unlabelled_dir=None)
    inputs = load_inputs(settings)
    run = open_run(inputs, "train", tmp_path / "run", **origin(inputs))
    run.release()
    assert (run.path / "config.json").is_file()


def test_a_pretraining_that_has_seen_this_data_set_is_refused(runs: Path, common: list[object], tmp_path: Path) -> None:
    """Issue 20, fault 3: backbone and scaling were compared, the images were not."""
    seen = Path(shutil.copytree(runs / "pretrain-seed0", tmp_path / "seen"))
    inputs = load_inputs(settings_of(common, pretrained=seen).cell(0, "bio_u_net"))
    table = pd.read_csv(seen / "dataset_b.csv")
    table.loc[0, "image"] = "sub/ISIC_0000003_downsampled.jpg"
    table.to_csv(seen / "dataset_b.csv", index=False)
    with pytest.raises(UsageError, match=r"has seen 1 of this data set's 40 images \(ISIC_0000003\)"):
        origin(inputs)
    (seen / "dataset_b.csv").unlink()
    with pytest.raises(UsageError, match=r"does not say which images it has seen \(dataset_b.csv is missing\)"):
        origin(inputs)


def test_the_manifest_names_the_masks(runs: Path) -> None:
    """Issue 20, fault 6: without them `explain` measures no pointing, energy or Dice."""
    manifest = pd.read_csv(runs / "bio_u_net-seed0" / "manifest.csv")
    assert {"mask_globules", "mask_streaks"} <= set(manifest)


def test_tables_of_the_ablation(runs: Path) -> None:
    (folder,) = (runs / "tables").iterdir()
    table = pd.read_csv(folder / "table_3" / "table.csv")
    ours = table[(table["kind"] == "row") & (table["block"] == "streaks") & (table["method"] == "Bio-U-Net")].iloc[0]
    entry = json.loads((runs / "bio_u_net-seed0" / "metrics.json").read_text())["localisation"]["gradcam"]["streaks"]["t00"]
    assert ours["ours"] == pytest.approx(entry["dice"])
    assert ours["printed"] == pytest.approx(0.1417)
    assert "image size 64" in ours["differs"]  # no difference is taken from another problem's number
    for name in ("table_1/report.md", "table_6/report.md", "table_7/report.md", "figures/figure_1.png", "figures/figure_4.png",
                 "table_7/figure_6.png", "figures/figure_7.png", "figures/figure_10.png"):  # fmt: skip
        assert (folder / name).is_file(), name


def test_a_finished_run_is_left_alone_and_other_settings_are_refused(runs: Path, common: list[object], capsys) -> None:
    folder = runs / "f_res-seed0"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert run("train", *common, "--no-simclr", "--no-segmentation", "--run-dir", folder) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    capsys.readouterr()
    assert run("train", *common, "--no-simclr", "--no-segmentation", "--run-dir", folder, "--classifier-epochs", 2) == 2
    assert "classifier_epochs was 1, now 2" in capsys.readouterr().err
    assert run("ablation", *common, *DESCRIBED[:4], "--rows", "f_res", "--run-dir", runs, "--classifier-epochs", 2) == 2
    assert "classifier_epochs was 1, now 2" in capsys.readouterr().err


def test_report_predict_and_tables_work_on_finished_runs(runs: Path, isic: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(runs / "bio_u_net-seed0", folder)
    report = (folder / "report.md").read_text()
    (folder / "report.md").unlink()
    assert run("report", folder) == 0
    assert (folder / "report.md").read_text() == report
    image = sorted((isic / "ISIC2018_Task1-2_Training_Input").iterdir())[0]
    assert run("predict", folder, image, "--output", tmp_path / "out.csv") == 0
    table = pd.read_csv(tmp_path / "out.csv")
    assert table[["prob_melanoma", "prob_other"]].sum(axis=1).tolist() == pytest.approx([1.0])
    assert run("tables", runs, "--output", tmp_path / "tables") == 0
    assert list(tmp_path.glob("tables/*/table_3/report.md"))


def test_baselines_share_the_plain_classifier(runs: Path, common: list[object]) -> None:
    assert run("baselines", *common, "--head", "described", "--run-dir", runs, "--lime-samples", 20, "--lime-images", 1) == 0
    methods = json.loads((runs / "cams-seed0" / "metrics.json").read_text())["localisation"]
    assert list(methods) == ["gradcam", "gradcam++", "layercam", "lime", *TRIVIAL]
    plain = json.loads((runs / "f_res-seed0" / "metrics.json").read_text())["localisation"]["gradcam"]["globules"]["t00"]["dice"]
    assert methods["gradcam"]["globules"]["t00"]["dice"] == pytest.approx(plain, abs=0.01)  # the same map through the saved model
    assert (runs / "vat-seed0" / "predictions.csv").is_file()
    assert "Dataset B: 17 images" in (runs / "vat-seed0" / "report.md").read_text()
    assert list(json.loads((runs / "unet-seed0" / "metrics.json").read_text())["localisation"]) == ["unet", *TRIVIAL]
    (folder,) = (runs / "tables").iterdir()
    assert "| globules | VAT + Grad-CAM |" in (folder / "table_2" / "report.md").read_text()
    assert (folder / "figures" / "figure_3.png").is_file()


def test_audit_counts_the_indicators_and_the_overlap(common: list[object], tmp_path: Path) -> None:
    assert run("audit", *common[:8], "--run-dir", tmp_path) == 0
    text = (tmp_path / "indicators.md").read_text()
    assert "| globules | 20 | 20 | 0 | 603 | 1991 |" in text
    assert "| renamed | 1 |" in text
    audit = json.loads((tmp_path / "audit.json").read_text())
    assert audit["findings"][:3] == ["40 images in 2 classes.", "Passed over: 1 .csv files.", "Every image can be decoded whole."]
    assert {name: row["official"] for name, row in audit["classes"].items()} == {"melanoma": None, "other": None}
    assert "40 of 40 images have a globules mask; 20 are empty." in audit["findings"]


def test_audit_goes_on_over_broken_images_and_masks(isic: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(isic, tmp_path / "copy"))
    (folder / "ISIC2018_Task1-2_Training_Input" / "ISIC_0000002.jpg").write_text("no image")
    (folder / "ISIC2018_Task2_Training_GroundTruth" / "ISIC_0000004_attribute_globules.png").write_text("no mask")
    words = ("--dataset", "isic2018", "--data-dir", folder, "--cache-dir", tmp_path / "cache")
    assert run("audit", *words, "--run-dir", tmp_path / "run") == 0
    findings = json.loads((tmp_path / "run" / "audit.json").read_text())["findings"]
    assert any("ISIC_0000002.jpg" in line for line in findings)
    assert "| globules | 19 | 21 | 0 |" in (tmp_path / "run" / "indicators.md").read_text()


def test_thresholds_and_pretrain_find_their_runs_done(runs: Path, common: list[object]) -> None:
    """Under --run-dir a cell is called by its settings, so Table 6 is made of the ablation's run."""
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*-seed0/finished.json")}
    assert run("thresholds", *common, "--head", "described", "--watch", "dice", "--run-dir", runs) == 0
    assert run("pretrain", *common, "--run-dir", runs / "pretrain-seed0") == 0
    assert {path: path.stat().st_mtime_ns for path in runs.glob("*-seed0/finished.json")} == before


@pytest.mark.parametrize(
    ("words", "folder", "stages", "said"),
    [
        (("repeats", "--rows", "2"), "bio_u_net-repeats2-seed0", {"globules", "streaks"}, "2 segmentation updates an iteration"),
        (("multitask", "--rows", "five"), "bio_u_net-five-seed0", {"all"}, "five tasks"),
        pytest.param(("multitask", "--rows", "six"), "bio_u_net-six-seed0", {"all"}, "six tasks", marks=pytest.mark.slow),
    ],
)
def test_rows_of_tables_4_and_5(runs: Path, common: list[object], words: tuple[str, ...], folder: str, stages: set[str], said: str) -> None:
    assert run(*words, *common, "--head", "described", "--watch", "dice", "--run-dir", runs) == 0
    history = pd.read_csv(runs / folder / "history.csv")
    assert set(history["stage"]) == {f"{stage}-{name}" for stage in ("classifier", "segmentation") for name in stages} | {"head"}
    outputs = json.loads((runs / folder / "metrics.json").read_text())["outputs"]
    assert "all" not in outputs or outputs["all"] == ["globules", "streaks", "melanoma"][: 3 if "six" in words else 2]
    assert said in (runs / folder / "report.md").read_text().splitlines()[0]
    (tables,) = (runs / "tables").iterdir()
    report = tables / f"table_{4 if words[0] == 'repeats' else 5}" / "report.md"
    assert said.split(" segm")[0].replace("updates", "repeats") in report.read_text()


def test_the_corrected_reading_splits_by_lesion_and_draws_where_there_is_something(
    tiny: None, common: list[object], tmp_path: Path
) -> None:
    words = ("--reading", "corrected", "--no-simclr", "--indicators", "globules", "--run-dir", tmp_path / "run")
    assert run("train", *common, *words) == 0
    report = (tmp_path / "run" / "report.md").read_text()
    assert "whole lesions, 80/10/10" in report
    assert "f_Res + f_Seg" in report.splitlines()[0]
    assert {"classifier-globules", "segmentation-globules", "head"} == set(pd.read_csv(tmp_path / "run" / "history.csv")["stage"])


def test_explain_draws_a_finished_run(runs: Path, tmp_path: Path) -> None:
    assert run("explain", runs / "bio_u_net-seed0", "--methods", "gradcam", "--no-faithfulness", "--output", tmp_path / "why") == 0
    assert list((tmp_path / "why").rglob("*.png"))


@pytest.mark.slow
def test_the_real_network_learns_the_sample_whole(sample_cache: Path, tmp_path: Path) -> None:
    """All five indicators, five encoders, traced steps: the default command at a smaller size."""
    words = ("--cache-dir", sample_cache, "--run-dir", tmp_path / "run", "--image-size", 64)
    assert run("train", *words) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["synthetic"]
    assert len(metrics["localisation"]["unet_mask"]) == 5
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    drawn = history[history["stage"] == "segmentation-pigment_network"]["dice_loss"]
    assert drawn.iloc[-1] < drawn.iloc[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--indicators", "blue_veil"], "--indicators blue_veil"),
        (["ablation", "--rows", "nonsense"], "--rows nonsense"),
        (["baselines", "--rows", "nonsense"], "--rows nonsense"),
    ],
)
def test_wrong_names_are_one_line(tiny: None, common: list[object], words: list[str], said: str, tmp_path: Path, capsys) -> None:
    assert run(*words, *common, "--run-dir", tmp_path / "run") == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
