import json
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.commands.predict import PredictOptions
from common.errors import UsageError
from common.report.predict import image_files, predict_command

CLASSES = ["blue", "red"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose model says "red" when an image's red channel is brighter than its blue one."""
    path = tmp_path_factory.mktemp("run")
    inputs = keras.Input((8, 8, 3))
    colour = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    outputs = keras.layers.Dense(2, activation="softmax", name="predictions")
    model = keras.Model(inputs, outputs(colour))
    outputs.set_weights([np.array([[-3.0, 3], [0, 0], [3, -3]]), np.zeros(2)])
    model.save(path / "model.keras")
    settings = {"study": "cervical", "classes": CLASSES, "image_size": 8, "resize_filter": "nearest"}
    (path / "config.json").write_text(json.dumps(settings))
    return path


@pytest.fixture
def pictures(tmp_path):
    """Five images of different size and format in two folders, and a text file between them."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    colours = {"a.png": (200, 10, 10), "b.jpg": (10, 10, 200), "c.bmp": (250, 0, 90), "deep/d.png": (0, 0, 99), "deep/e.png": (99, 0, 0)}
    for index, (name, colour) in enumerate(colours.items()):
        Image.new("RGB", (10 + index, 20), colour).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def options(run, *images, **others):
    made = object.__new__(PredictOptions)  # unchecked: the command itself tells what it cannot use
    for name, value in {"run": run, "images": images, "batch_size": 2, **others}.items():
        object.__setattr__(made, name, value)
    return made


def test_a_folder_gives_one_row_an_image(run, pictures, tmp_path):
    target = tmp_path / "out.csv"
    predict_command(options(run, pictures, output=target))
    table = pd.read_csv(target)
    assert list(table.columns) == ["image", "predicted", "prob_blue", "prob_red"]
    names = [path.removeprefix(f"{pictures.as_posix()}/") for path in table["image"]]
    assert names == ["a.png", "b.jpg", "c.bmp", "deep/d.png", "deep/e.png"]
    assert table["predicted"].tolist() == ["red", "blue", "red", "blue", "red"]
    # Softmax of ±3 (red − blue) / 255 for (200, 10, 10).
    assert table["prob_red"][0] == pytest.approx(1 / (1 + np.exp(-6 * 190 / 255)), abs=1e-5)
    assert table[["prob_blue", "prob_red"]].sum(axis=1).to_numpy() == pytest.approx(np.ones(5), abs=1e-6)


def test_stdout_is_nothing_but_the_csv(run, pictures, capsys):
    predict_command(options(run, pictures / "a.png", pictures / "b.jpg", pictures / "a.png"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "image,predicted,prob_blue,prob_red"
    assert len(lines) == 3


def test_an_unreadable_image_is_named_or_skipped(run, pictures, capsys):
    (pictures / "bad.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(UsageError, match="bad.png.*--skip-unreadable"):
        predict_command(options(run, pictures))
    predict_command(options(run, pictures, skip_unreadable=True))
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 6 and "bad.png" in said.err
    with pytest.raises(UsageError, match="none of the images"):
        predict_command(options(run, pictures / "bad.png", skip_unreadable=True))


def test_missing_images_folders_and_outputs_are_named(run, pictures, tmp_path):
    with pytest.raises(UsageError, match="nothing.png"):
        predict_command(options(run, pictures / "nothing.png"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty holds no images"):
        image_files([tmp_path / "empty"])
    with pytest.raises(UsageError, match="--output"):
        predict_command(options(run, pictures, output=tmp_path / "no" / "out.csv"))
    with pytest.raises(UsageError, match="--output .*: is a folder; expected a CSV file"):
        predict_command(options(run, pictures, output=tmp_path))


def test_a_folder_without_a_model_or_classes_is_named(pictures, tmp_path):
    with pytest.raises(UsageError, match="config.json is missing"):
        predict_command(options(tmp_path, pictures))
    (tmp_path / "config.json").write_text('{"study": "cervical"}')
    with pytest.raises(UsageError, match="no classes"):
        predict_command(options(tmp_path, pictures))
    (tmp_path / "config.json").write_text('{"study": "cervical", "classes": ["a", "b"], "image_size": 8}')
    with pytest.raises(UsageError, match="model.keras is missing"):
        predict_command(options(tmp_path, pictures))
    (tmp_path / "model.keras").write_bytes(b"no model")
    with pytest.raises(UsageError, match="model.keras is damaged or cut off"):
        predict_command(options(tmp_path, pictures))


def test_a_model_of_other_classes_is_named(run, pictures, tmp_path):
    (tmp_path / "config.json").write_text('{"study": "cervical", "classes": ["a", "b", "c"], "image_size": 8}')
    (tmp_path / "model.keras").write_bytes((run / "model.keras").read_bytes())
    with pytest.raises(UsageError, match="2 outputs.* 3 classes"):
        predict_command(options(tmp_path, pictures / "a.png"))


def test_code_inside_a_model_file_does_not_run(pictures, tmp_path):
    inputs = keras.Input((8, 8, 3))
    hidden = keras.layers.Lambda(lambda image: image * 2)(inputs)
    outputs = keras.layers.Dense(2, activation="softmax")(keras.layers.GlobalAveragePooling2D()(hidden))
    keras.Model(inputs, outputs).save(tmp_path / "model.keras")
    (tmp_path / "config.json").write_text('{"study": "cervical", "classes": ["a", "b"], "image_size": 8}')
    with pytest.raises(UsageError, match="model.keras: cannot be loaded"):
        predict_command(options(tmp_path, pictures / "a.png"))


def test_a_run_of_an_unknown_study_imports_nothing(run, pictures, tmp_path, monkeypatch):
    hostile, said = tmp_path / "received", tmp_path / "executed"
    hostile.mkdir()
    for name in ("__init__.py", "models.py"):
        (hostile / name).write_text(f"open({str(said)!r}, 'w')")
    (hostile / "model.keras").write_bytes((run / "model.keras").read_bytes())
    monkeypatch.syspath_prepend(str(tmp_path))
    for study in ("received", "../received", "", None, ["received"], "common", "os"):
        (hostile / "config.json").write_text(json.dumps({"study": study, "classes": CLASSES, "image_size": 8}))
        with pytest.raises(UsageError, match="study is .*expected"):
            predict_command(options(hostile, pictures / "a.png"))
    assert not said.exists()


def test_a_model_that_was_cut_off_is_called_that(run, pictures, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    whole = (copy / "model.keras").read_bytes()
    for damaged in (b"", whole[: len(whole) // 2]):
        (copy / "model.keras").write_bytes(damaged)
        with pytest.raises(UsageError, match="model.keras is damaged or cut off"):
            predict_command(options(copy, pictures))


def test_folders_are_walked_as_everywhere_and_what_is_passed_over_is_said(tmp_path, capsys):
    for name in ("a.PNG", "b.jfif", "c.svs", "@eaDir/a.PNG"):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pictures" / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "pictures")
    assert [path.name for path in image_files([tmp_path / "link"])] == ["a.PNG", "b.jfif"]
    assert "passed over: 1 .svs files, 1 images in helper folders" in capsys.readouterr().err
