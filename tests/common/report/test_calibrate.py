"""Calibration of a run on its validation images, measured on its test images."""

import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.cli import parse
from common.commands.calibrate import COMMAND, CalibrateOptions
from common.commands.predict import PredictOptions
from common.errors import UsageError
from common.metrics.conformal import ConformalSets, scores
from common.report.calibrate import calibrate_command
from common.report.predict import CALIBRATION, calibrated_sets
from common.runs.outcome import write_predictions
from common.runs.reading import RunFolder

CLASSES = ("dark", "light")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose model knows an image's brightness and nothing else: 30 validation and 24 test images, some mislabelled."""
    folder, data = tmp_path / "run", tmp_path / "data"
    folder.mkdir()
    data.mkdir()
    image = keras.Input((4, 4, 3))
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    dense = keras.layers.Dense(2, activation="softmax")
    model = keras.Model(image, dense(mean))
    dense.set_weights([np.array([[-2.0, 2]] * 3), np.array([3.0, -3])])
    model.save(folder / "model.keras")
    rng, rows = np.random.default_rng(0), []
    for number in range(54):
        value = int(rng.integers(0, 256))
        Image.new("RGB", (4, 4), (value,) * 3).save(data / f"{number}.png")
        right = CLASSES[int(value > 127)]
        label = right if rng.random() < 0.85 else CLASSES[1 - CLASSES.index(right)]
        rows.append(
            {"image": f"{number}.png", "label": label, "group": f"g{number // 2}", "split": "validation" if number < 30 else "test"}
        )
    manifest = pd.DataFrame(rows)
    manifest.to_csv(folder / "manifest.csv", index=False)
    settings = {"study": "cervical", "experiment": "finetune", "classes": CLASSES, "image_size": 4, "resize_filter": "nearest"}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "local.json").write_text(json.dumps({"data_dir": str(data)}))
    test = manifest[manifest["split"] == "test"]
    pixels = np.stack([np.asarray(Image.open(data / name)) for name in test["image"]]).astype("float32")
    write_predictions(folder, test, model.predict(pixels, verbose=0), CLASSES)
    return folder


def validation_by_hand(run: Path) -> tuple[np.ndarray, np.ndarray]:
    manifest = pd.read_csv(run / "manifest.csv")
    rows = manifest[manifest["split"] == "validation"]
    values = np.array([np.asarray(Image.open(run.parent / "data" / name)).mean() for name in rows["image"]]) / 255
    light = 1 / (1 + np.exp(-(12 * values - 6)))  # softmax of ∓(6 v − 3)
    return np.stack([1 - light, light], axis=1), np.array([CLASSES.index(label) for label in rows["label"]])


def test_sets_of_the_run_are_those_of_its_validation_images(run: Path) -> None:
    calibrate_command(CalibrateOptions(run=run, coverage=0.8))
    rows, labels = validation_by_hand(run)
    new = np.array([[0.99, 0.01], [0.5, 0.5], [0.02, 0.98]])
    limit = np.sort(scores(rows)[np.arange(30), labels])[int(np.ceil(31 * 0.8)) - 1]
    found = calibrated_sets(RunFolder(run), new, CLASSES)
    assert found is not None and np.array_equal(found, 1 - new <= limit + 1e-6)
    expected = ConformalSets.fit(rows, labels).predict(new, 0.8)
    assert np.array_equal(found, expected)


def test_the_report_says_coverage_temperature_and_abstention(run: Path) -> None:
    text = calibrate_command(CalibrateOptions(run=run)).read_text()
    assert "Temperature " in text and "30 validation images, measured on 24 test images" in text and "AURC" in text
    table = pd.read_csv(run / "calibration.csv")
    assert set(table["nominal"][~table["by_class"]]) == {0.8, 0.9, 0.95} and table["coverage"].between(0, 1).all()
    assert set(table["nominal"][table["by_class"]]) == {0.8, 0.9}, "too few images of a class for 0.95"
    assert (run / "figures" / "risk_coverage.png").is_file() and json.loads((run / CALIBRATION).read_text())["coverage"] == 0.9


def test_bad_coverage_and_too_few_images_are_one_line_and_write_nothing(run: Path) -> None:
    with pytest.raises(UsageError, match="--coverage 1.5: expected more than 0 and less than 1"):
        parse(COMMAND, [str(run), "--coverage", "1.5"])
    with pytest.raises(UsageError, match="--coverage 0.99: needs at least 99 calibration images, there are 30"):
        calibrate_command(CalibrateOptions(run=run, coverage=0.99))
    assert not (run / CALIBRATION).exists() and not (run / "calibration.md").exists()


def test_a_run_without_validation_images_and_other_classes_are_told(run: Path) -> None:
    calibrate_command(CalibrateOptions(run=run))
    with pytest.raises(UsageError, match="calibrated for other classes"):
        calibrated_sets(RunFolder(run), np.full((1, 2), 0.5), ("a", "b"))
    kept = json.loads((run / CALIBRATION).read_text())
    for damaged in ({name: value for name, value in kept.items() if name != "score"}, kept | {"labels": kept["labels"][1:]}):
        (run / CALIBRATION).write_text(json.dumps(damaged))
        with pytest.raises(UsageError, match=r"calibration\.json: (score is missing|expected a class number for each score)"):
            calibrated_sets(RunFolder(run), np.full((1, 2), 0.5), CLASSES)
    manifest = pd.read_csv(run / "manifest.csv")
    manifest[manifest["split"] == "test"].to_csv(run / "manifest.csv", index=False)
    with pytest.raises(UsageError, match="no validation images"):
        calibrate_command(CalibrateOptions(run=run))


def test_predict_names_the_set_after_calibration(run: Path, tmp_path: Path) -> None:
    from common.report.predict import predict_command

    options = PredictOptions(run=run, images=(tmp_path / "data",), output=tmp_path / "out.csv", batch_size=8)
    predict_command(options)
    assert "set" not in pd.read_csv(tmp_path / "out.csv")
    calibrate_command(CalibrateOptions(run=run, coverage=0.8))
    predict_command(options)
    rows = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert set(rows["set"]) <= {"", "dark", "light", "dark | light"} and (rows["unsure"] == ~rows["set"].isin(CLASSES)).all()
