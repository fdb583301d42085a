"""Fig. 3 from real (tiny) runs, and the boxes."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from common.cli import parse
from common.errors import UsageError
from lmf.experiments.explain import COMMAND, LossMapsOptions
from lmf.explain import explain_command, inside, read_boxes, scaled


@pytest.fixture(scope="module")
def runs(trained):
    """LMF and its cross-entropy control, which share their test images."""
    return trained.path, trained.path / "control"


def test_the_losses_stand_side_by_side(runs, tmp_path):
    image = pd.read_csv(runs[0] / "predictions.csv")["image"][3]
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(f"image,x,y,width,height\n{image},0,0,10000,10000\n")
    explain_command(LossMapsOptions(run=runs[0], beside=(runs[1],), boxes=boxes, output=tmp_path / "out"))
    table = pd.read_csv(tmp_path / "out" / "losses.csv")
    assert set(table["loss"]) == {"lmf", "cce"} and set(table["image"]) == {image}
    predicted = pd.read_csv(runs[0] / "predictions.csv").set_index("image").loc[image, "predicted"]
    assert table.set_index("loss").loc["lmf", "predicted"] == predicted
    # A box over everything holds the whole map, unless the map is empty.
    assert all(value == pytest.approx(1) for value in table["map_inside_boxes"].dropna())
    assert (tmp_path / "out" / "losses.png").is_file()


def test_without_boxes_the_rarest_class_is_shown(runs, tmp_path):
    explain_command(LossMapsOptions(run=runs[0], beside=(runs[1],), output=tmp_path))
    table = pd.read_csv(tmp_path / "losses.csv")
    assert len(table) == 2 and set(table["label"]) <= {"df", "vasc"} and table["map_inside_boxes"].isna().all()


def test_two_runs_of_one_loss_are_refused(runs, tmp_path):
    with pytest.raises(UsageError, match="two runs of one loss on sample-ham10000"):
        explain_command(LossMapsOptions(run=runs[0], beside=(runs[0],), output=tmp_path))


@pytest.mark.parametrize(
    "words", ["--methods lime", "--engine own", "--lime-samples 50", "--faithfulness-images 5", "--seed 4", "--sanity", "--no-faithfulness"]
)
def test_options_that_fig_3_does_not_use_are_refused(runs, words):
    with pytest.raises(UsageError, match=f"{words.split()[0]}: has no effect here: --beside and --boxes draw"):
        parse(COMMAND, [str(runs[0]), "--beside", str(runs[1]), *words.split()])


def test_boxes_on_other_images_are_listed(runs, tmp_path):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("image,x,y,width,height\nimages/nobody.jpg,0,0,5,5\nstranger.jpg,0,0,5,5\n")
    with pytest.raises(UsageError, match=r"2 images are no test images that the runs share: images/nobody\.jpg, stranger\.jpg"):
        explain_command(LossMapsOptions(run=runs[0], beside=(runs[1],), boxes=boxes, output=tmp_path / "out"))


def test_one_data_dir_for_two_data_sets_is_refused(runs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"settings": config["settings"] | {"dataset": "odir5k"}}))
    with pytest.raises(UsageError, match="--data-dir names one folder"):
        explain_command(LossMapsOptions(run=runs[0], beside=(other,), data_dir=tmp_path))


def test_boxes_follow_the_resize():
    assert scaled(np.array([[10.0, 20, 30, 40]]), (400, 200, 3), 100) == pytest.approx(np.array([[5, 5, 15, 10]]))
    assert scaled(None, (400, 200, 3), 100).shape == (0, 4)


def test_share_of_a_map_inside_boxes():
    map = np.zeros((4, 4))
    map[0, 0], map[3, 3] = 1.0, 3.0
    assert inside(map, np.array([[0.0, 0, 2, 2]])) == pytest.approx(0.25)
    assert inside(map, np.array([[0.0, 0, 4, 4], [0.0, 0, 4, 4]])) == pytest.approx(1)
    assert inside(map, np.zeros((0, 4))) is None and inside(np.zeros((4, 4)), np.array([[0.0, 0, 2, 2]])) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,x,y\na,1,2\n", "lacks the column width"),
        ("image,x,y,width,height\na,1,2,3,4\nb,1,2,0,4\n", "row 3 has no box"),
        ("image,x,y,width,height\na,one,2,3,4\n", "row 2 has no box"),
        ("", "not a readable CSV"),
    ],
)
def test_wrong_boxes_are_named(text, words, tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        read_boxes(path)
