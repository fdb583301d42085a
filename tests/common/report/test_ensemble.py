"""Several runs and several views as one prediction."""

import json
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.errors import UsageError
from common.report.ensemble import VIEWS, combined
from common.report.predict import predict_command

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
    options = {"run": run, "images": (pictures,), "output": target, "skip_unreadable": False, "batch_size": 2, **values}
    predict_command(SimpleNamespace(**options))
    return pd.read_csv(target)


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
