"""Several runs and several views as one prediction, and what that gains."""

import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.commands.predict import PredictOptions
from common.commands.report import ReportOptions
from common.errors import UsageError
from common.report.predict import VIEWS, combined, predict_command
from common.report.report import report_command
from common.runs.outcome import write_metrics, write_predictions

CLASSES = ["left", "right"]


def made_run(path: Path, strength: float, classes: list[str] = CLASSES) -> Path:
    """A run that says "left" or "right" by the side that is brighter: mirroring an image turns its answer around."""
    path.mkdir()
    weights = np.zeros((4 * 4 * 3, 2))
    columns = np.indices((4, 4, 3))[1].ravel()
    weights[columns < 2, 0] = weights[columns >= 2, 1] = strength / 24
    image = keras.Input((4, 4, 3))
    dense = keras.layers.Dense(2, activation="softmax")
    model = keras.Model(image, dense(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))))
    dense.set_weights([weights, np.zeros(2)])
    model.save(path / "model.keras")
    settings = {"study": "lmf", "classes": classes, "image_size": 4, "resize_filter": "nearest"}
    (path / "config.json").write_text(json.dumps(settings))
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, column in (("a.png", slice(0, 2)), ("b.png", slice(2, 4))):
        pixels = np.zeros((4, 4, 3), np.uint8)
        pixels[:, column] = 200
        Image.fromarray(pixels).save(folder / name)
    return folder


def predicted(run: Path, pictures: Path, target: Path, **values: object) -> pd.DataFrame:
    predict_command(PredictOptions(run=run, images=(pictures,), output=target, batch_size=2, **values))
    return pd.read_csv(target)


def test_members_decide_by_the_costs_that_the_mean_is_decided_by() -> None:
    members = [pd.DataFrame({"image": ["x"], "prob_left": [left], "prob_right": [1 - left]}) for left in (0.6, 0.7, 0.95)]
    costs = np.array([[0.0, 1.0], [9.0, 0.0]])  # left only from 0.9 on
    (row,) = combined(members, CLASSES, costs).to_dict("records")
    assert row["predicted"] == "right" and row["disagreement"] == pytest.approx(1 / 3)
    assert combined(members, CLASSES)["disagreement"].tolist() == [0]


def test_probabilities_are_the_means_of_the_runs(pictures: Path, tmp_path: Path) -> None:
    first, second = made_run(tmp_path / "one", 4), made_run(tmp_path / "two", -1)
    alone = [predicted(run, pictures, tmp_path / "out.csv") for run in (first, second)]
    both = predicted(first, pictures, tmp_path / "out.csv", with_runs=(second,))
    assert both["prob_left"].to_numpy() == pytest.approx((alone[0]["prob_left"] + alone[1]["prob_left"]) / 2, abs=1e-6)
    assert both["predicted"].tolist() == ["left", "right"] and both["disagreement"].tolist() == [0.5, 0.5]


def test_views_that_mirror_the_picture_cancel_what_depends_on_its_side(pictures: Path, tmp_path: Path) -> None:
    run = made_run(tmp_path / "one", 4)
    assert predicted(run, pictures, tmp_path / "out.csv")["prob_left"][0] > 0.9
    assert predicted(run, pictures, tmp_path / "out.csv", views=2)["prob_left"].to_numpy() == pytest.approx([0.5, 0.5], abs=1e-6)


def test_the_eight_views_are_all_different_and_the_first_is_the_picture() -> None:
    image = np.arange(48).reshape(4, 4, 3)
    seen = {view(image).tobytes() for view in VIEWS}
    assert len(seen) == 8 and np.array_equal(VIEWS[0](image), image)


def test_runs_of_other_classes_are_refused(pictures: Path, tmp_path: Path) -> None:
    first, second = made_run(tmp_path / "one", 1), made_run(tmp_path / "two", 1, ["right", "left"])
    with pytest.raises(UsageError, match="--with .*two: its classes are right, left; expected left, right"):
        predicted(first, pictures, tmp_path / "out.csv", with_runs=(second,))


def test_combined_by_hand() -> None:
    tables = [pd.DataFrame({"image": ["x"], "prob_left": [value], "prob_right": [1 - value]}) for value in (0.9, 0.8, 0.1)]
    row = combined(tables, CLASSES).iloc[0]
    assert row["prob_left"] == pytest.approx(0.6) and row["predicted"] == "left" and row["disagreement"] == pytest.approx(1 / 3)


def finished(path: Path, rng: np.random.Generator, labels: np.ndarray, **settings: object) -> Path:
    """A run that is right on about three quarters of the test images, with errors of its own."""
    right = rng.random(len(labels)) < 0.75
    sure = rng.uniform(0.55, 0.75, len(labels))
    left = np.where((labels == 0) == right, sure, 1 - sure)
    path.mkdir()
    config = {
        "study": "lmf",
        "experiment": "train",
        "dataset": "own",
        "classes": CLASSES,
        "seed": 0,
        "settings": {"preprocessing": "unit", **settings},
    }
    (path / "config.json").write_text(json.dumps(config))
    rows = pd.DataFrame({"image": [f"{i:03d}.png" for i in range(len(labels))], "label": [CLASSES[each] for each in labels]})
    write_predictions(path, rows, np.stack([left, 1 - left], axis=1), CLASSES)
    write_metrics(path, 0)
    return path


def test_report_tells_what_an_ensemble_gains_with_an_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    runs = [finished(tmp_path / str(number), rng, labels) for number in range(5)]
    report_command(ReportOptions(run=runs[0], with_runs=tuple(runs[1:])))
    assert capsys.readouterr().out.endswith("gains.md\n")
    row = pd.read_csv(runs[0] / "gains.csv").set_index("metric").loc["accuracy"]
    # By hand: five answers of equal weight, close to a majority of them.
    mean = np.mean([pd.read_csv(run / "predictions.csv")["prob_left"] for run in runs], axis=0)
    alone = [(pd.read_csv(run / "predictions.csv")["prob_left"] < 0.5) == labels for run in runs]
    assert row["method_value"] == pytest.approx(((mean < 0.5) == labels).mean())
    assert row["against_value"] == pytest.approx(np.mean(alone)) and row["seeds"] == 5
    assert row["low"] < row["difference"] < row["high"] and row["low"] > 0 and row["verdict"] == "better"
    text = (runs[0] / "gains.md").read_text()
    assert "What 5 runs gain" in text and "on 200 test images" in text


def test_report_tells_what_views_gain(pictures: Path, tmp_path: Path) -> None:
    run = made_run(tmp_path / "one", 4)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "experiment": "train", "dataset": "own"}))
    rows = pd.DataFrame({"image": ["a.png", "b.png"], "label": ["left", "right"]})
    alone = predicted(run, pictures, tmp_path / "out.csv")
    write_predictions(run, rows, alone[["prob_left", "prob_right"]].to_numpy(), CLASSES)
    write_metrics(run, 0)
    report_command(ReportOptions(run=run, views=2, data_dir=pictures))
    row = pd.read_csv(run / "gains.csv").set_index("metric").loc["accuracy"]
    # Mirrored, each picture is called the other side with the same certainty: the mean knows nothing and takes the first class.
    assert (row["against_value"], row["method_value"], row["verdict"]) == (1.0, 0.5, "one seed")


@pytest.mark.parametrize(
    ("settings", "count", "said"),
    [
        ({"preprocessing": "backbone"}, 50, "scales pixels by {'preprocessing': 'backbone'}; expected {'preprocessing': 'unit'}"),
        ({}, 49, "its test images are not those of"),
    ],
)
def test_runs_that_cannot_be_averaged_are_refused(settings: dict, count: int, said: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 50)
    first = finished(tmp_path / "first", rng, labels)
    second = finished(tmp_path / "second", rng, labels[:count], **settings)
    with pytest.raises(UsageError, match=f"--with .*second: {said}"):
        report_command(ReportOptions(run=first, with_runs=(second,)))
    assert not (first / "gains.md").exists()


def test_views_out_of_range_and_a_folder_without_use_are_refused(tmp_path: Path) -> None:
    run = finished(tmp_path / "first", np.random.default_rng(0), np.array([0, 1]))
    with pytest.raises(UsageError, match="--views 9: expected between 1 and 8"):
        ReportOptions(run=run, views=9)
    with pytest.raises(UsageError, match="--data-dir: has no effect here"):
        ReportOptions(run=run, with_runs=(run,), data_dir=tmp_path)
