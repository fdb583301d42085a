"""`validate RUN` on an external set: what is left out, joined classes, the drop, and one line for everything that is wrong."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.cli import parse
from common.commands.validate import COMMAND, ValidateOptions
from common.data.sample import ensure_sample
from common.errors import UsageError
from common.report.validate import read_external, validate_command
from common.runs.outcome import write_predictions

CLASSES = ("dark", "light", "middle")
SIDE = 32


def picture(seed: int, grey: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(-20, 21, (5, 5, 1)) + grey
    return Image.fromarray(np.clip(np.repeat(small, 3, axis=2), 0, 255).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that tells dark, middle and light pictures apart by their mean, and says so on its own 12 test images."""
    folder, data = tmp_path / "run", tmp_path / "data"
    folder.mkdir()
    image = keras.Input((SIDE, SIDE, 3))
    conv = keras.layers.Conv2D(3, 1, kernel_initializer="ones", name="conv")(keras.layers.Rescaling(1 / 255)(image))
    dense = keras.layers.Dense(3, activation="softmax")
    model = keras.Model(image, dense(keras.layers.GlobalAveragePooling2D()(conv)))
    dense.set_weights([np.array([[-6.0, 6, 0]] * 3), np.array([24.0, -33, 0])])  # the three means are 3 x the grey level
    model.save(folder / "model.keras")
    rows = []
    for number in range(24):
        label, grey = (("dark", 40), ("middle", 130), ("light", 220))[number % 3]
        name = f"{label}/{number}.png"
        (data / label).mkdir(parents=True, exist_ok=True)
        picture(number, grey).save(data / name)
        rows.append({"image": name, "label": label, "group": f"p{number}", "split": "train" if number < 12 else "test"})
    manifest = pd.DataFrame(rows)
    manifest.to_csv(folder / "manifest.csv", index=False)
    (folder / "config.json").write_text(json.dumps({"study": "lmf", "experiment": "train", "classes": CLASSES, "image_size": SIDE}))
    (folder / "local.json").write_text(json.dumps({"data_dir": str(data)}))
    test = manifest[manifest["split"] == "test"]
    pixels = np.stack([np.asarray(Image.open(data / name)) for name in test["image"]]).astype("float32")
    write_predictions(folder, test, model.predict(pixels, verbose=0), CLASSES)
    return folder


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """Nine new pictures in two folders, one of them wrongly labelled; a copy and a near-copy of training images; a class nobody knows."""
    root = tmp_path / "other"
    for label, grey, numbers in (("dark", 45, range(100, 104)), ("light", 215, range(104, 108))):
        (root / label).mkdir(parents=True)
        for number in numbers:
            picture(number, grey).save(root / label / f"{number}.png")
    picture(108, 215).save(root / "dark" / "wrong.png")
    shutil.copy(tmp_path / "data" / "dark" / "0.png", root / "dark" / "copy.png")
    with Image.open(tmp_path / "data" / "dark" / "3.png") as near:
        Image.fromarray(np.asarray(near) + 2).save(root / "dark" / "near.png")
    (root / "odd").mkdir()
    picture(109, 130).save(root / "odd" / "a.png")
    return root


def test_a_new_set_is_measured_without_what_the_run_has_seen(run: Path, external: Path) -> None:
    path = validate_command(ValidateOptions(run=run, data_dir=external))
    found = json.loads((path.parent / "validation.json").read_text())
    assert found["left_out"]["byte-identical"] == 1 and found["left_out"]["near-copies"] == 1 and found["unmapped"] == {"odd": 1}
    assert found["n"] == 9 and found["absent"] == ["middle"] and found["own_n"] == 8
    assert "It has no images of middle: the run's own are its 8 test images of the others." in path.read_text()
    accuracy = next(row for row in found["rows"] if row["metric"] == "accuracy")
    assert accuracy["own"] == 1 and accuracy["external"] == pytest.approx(8 / 9) and accuracy["drop"] == pytest.approx(-1 / 9)
    wrong = pd.read_csv(path.parent / "wrong.csv")
    assert wrong["image"].tolist() == ["dark/wrong.png"] and wrong["predicted"].tolist() == ["light"]
    assert "dark/wrong.png" in path.read_text() and found["shift"]["external images"]["brightness"] > 0


def test_the_pictures_of_both_sides_are_drawn_and_empty_ones_counted(run: Path, external: Path) -> None:
    """A set whose crops miss their cells scores like one on which the network fails: only the pictures tell."""
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 5, (SIDE, SIDE, 1)) + 218
        Image.fromarray(np.repeat(noise, 3, axis=2).astype(np.uint8)).save(external / "light" / f"empty{number}.png")
    page = validate_command(ValidateOptions(run=run, data_dir=external, name="there"))
    text = page.read_text()
    assert "![Pictures of both sets](pictures.png)" in text and (page.parent / "pictures.png").is_file()
    found = json.loads((page.parent / "validation.json").read_text())["shift"]
    assert found["external images"]["flat"] == pytest.approx(3 / json.loads((page.parent / "validation.json").read_text())["n"])
    assert found["own test images"]["flat"] == 0
    assert "| external images |" in text and "| 25.0 % |" in text


def test_a_class_map_joins_classes_of_both_sides(run: Path, external: Path, tmp_path: Path) -> None:
    lines = ["run,dark,low", "run,middle,low", "external,dark,low", "external,odd,low"]
    (tmp_path / "map.csv").write_text("\n".join(["set,class,joined", *lines]) + "\n")
    path = validate_command(ValidateOptions(run=run, data_dir=external, classes=tmp_path / "map.csv", name="joined"))
    found = json.loads((path.parent / "validation.json").read_text())
    assert path.parent.name == "validation-joined" and found["classes"] == ["light", "low"] and found["n"] == 10 and not found["unmapped"]


def test_groups_that_were_trained_on_are_left_out(run: Path, external: Path, tmp_path: Path) -> None:
    labels = pd.DataFrame({"image": ["100", "101", "104"], "label": ["dark", "dark", "light"], "group": ["p0", "new", "other"]})
    labels.to_csv(tmp_path / "labels.csv", index=False)
    path = validate_command(ValidateOptions(run=run, data_dir=external, labels_csv=tmp_path / "labels.csv"))
    found = json.loads((path.parent / "validation.json").read_text())
    assert found["n"] == 2 and found["left_out"]["of a group that the run has seen"] == 1


def test_a_pattern_names_the_groups_of_labelled_images_too(run: Path, external: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,label,group\n100,dark,new\n101,dark,new\n104,light,new\n")
    options = ValidateOptions(run=run, data_dir=external, labels_csv=tmp_path / "labels.csv", group_pattern="/(10[01])")
    with pytest.raises(UsageError, match=r"--group-pattern .* does not match the image light/104.png"):
        read_external(options, "lmf")
    found = read_external(replace(options, group_pattern="/([0-9]+)"), "lmf")
    assert found["group"].tolist() == ["100", "101", "104"]


def test_a_known_data_set_has_its_own_labels_and_groups(run: Path, tmp_path: Path, sample_cache: Path) -> None:
    drawn = ensure_sample("ham10000", sample_cache)
    (tmp_path / "map.csv").write_text("set,class,joined\nexternal,nv,dark\nexternal,mel,light\n")
    options = ValidateOptions(run=run, data_dir=drawn, dataset="ham10000", classes=tmp_path / "map.csv", name="known")
    path = validate_command(options)
    table, own = pd.read_csv(path.parent / "predictions.csv"), pd.read_csv(drawn / "HAM10000_metadata.csv", dtype=str).set_index("image_id")
    stems = table["image"].map(lambda name: Path(name).stem)
    assert table["group"].tolist() == own.loc[stems, "lesion_id"].tolist()
    assert table["label"].tolist() == own.loc[stems, "dx"].map({"nv": "dark", "mel": "light"}).tolist()
    found = json.loads((path.parent / "validation.json").read_text())
    assert set(found["unmapped"]) == {"akiec", "bcc", "bkl", "df", "vasc"} and found["n"] + sum(found["unmapped"].values()) == len(own)
    with pytest.raises(UsageError, match="--dataset cric: expected one of folders, ham10000"):
        validate_command(ValidateOptions(run=run, data_dir=drawn, dataset="cric"))
    with pytest.raises(UsageError, match="--group-pattern: has no effect here: the data set names its own groups"):
        parse(COMMAND, [str(run), "--data-dir", str(drawn), "--dataset", "ham10000", "--group-pattern", "(a)"])


def test_images_are_looked_up_in_a_published_table(run: Path, external: Path, tmp_path: Path) -> None:
    """ISIC's ground truth: classes in capitals, images renamed `_downsampled`, rows of other images, images without a row."""
    rows = ["image,DARK,LIGHT,UNK", "100,1,0,0", "101_downsampled,1,0,0", "104,0,1,0", "105,0,0,1", "elsewhere,1,0,0"]
    (tmp_path / "Train_GroundTruth.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "Train_Metadata.csv").write_text("image,lesion_id\n100,p0\n104,x\n")  # p0 was trained on
    options = ValidateOptions(run=run, data_dir=external, labels_csv=tmp_path / "Train_GroundTruth.csv")
    path = validate_command(options)
    table = pd.read_csv(path.parent / "predictions.csv")
    assert table[["image", "label"]].to_numpy().tolist() == [["dark/101.png", "dark"], ["light/104.png", "light"]]
    found = json.loads((path.parent / "validation.json").read_text())
    assert found["unmapped"] == {"(no label)": 9} and found["left_out"]["of a group that the run has seen"] == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("set,class,joined\nrun,grey,x\n", "the run set has no class grey; it has dark, light, middle"),
        ("set,class,joined\nexternal,grey,x\n", "the external set has no class grey"),
        ("set,class,joined\nrun,dark,x\nrun,dark,y\n", "dark of the run set stands there twice"),
        ("set,class,joined\nother,dark,x\n", "set other: expected run or external"),
        ("class,joined\ndark,x\n", "expected the columns set, class and joined"),
    ],
)
def test_wrong_class_maps_are_one_line(run: Path, external: Path, tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "map.csv").write_text(content)
    with pytest.raises(UsageError, match=said):
        validate_command(ValidateOptions(run=run, data_dir=external, classes=tmp_path / "map.csv"))
    assert not list(run.glob("validation-*"))


def test_wrong_options_and_nothing_left_are_one_line(run: Path, external: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--name a/b: expected a name without folders"):
        parse(COMMAND, [str(run), "--data-dir", str(external), "--name", "a/b"])
    with pytest.raises(UsageError, match="nothing is left"):
        validate_command(ValidateOptions(run=run, data_dir=tmp_path / "data", limit=3))
    gone = tmp_path / "data" / "dark" / "0.png"
    gone.rename(tmp_path / "0.png")
    with pytest.raises(UsageError, match=r"image not found: .*data/dark/0\.png"):
        validate_command(ValidateOptions(run=run, data_dir=external))
    (tmp_path / "0.png").rename(gone)
    (tmp_path / "labels.csv").write_text("image,label\nnobody,dark\n")
    with pytest.raises(UsageError, match="1 images are not below .*: nobody"):
        validate_command(ValidateOptions(run=run, data_dir=external, labels_csv=tmp_path / "labels.csv"))
