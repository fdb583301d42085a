"""`explain RUN` from a run folder to the sheet, and what it says when something is missing."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.errors import UsageError
from common.explanation import sheet
from common.explanation.options import METHODS, ExplainOptions
from common.runs.outcome import write_predictions
from tests.common.explanation import nets

CLASSES = ["a", "b", "c"]
TRIVIAL = ["whole image", "centred blob", "mean training mask"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: 12 images larger than the model's input, three classes, some predictions wrong, masks for half of them."""
    folder = tmp_path_factory.mktemp("run")
    data = folder / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for index in range(12):
        Image.fromarray(rng.integers(0, 256, (24, 30, 3), np.uint8)).save(data / f"i{index:02d}.png")
        mask = ""
        if index % 2:
            mask = f"m{index:02d}.png"
            Image.fromarray((np.indices((24, 30))[1] < 15).astype(np.uint8) * 255).save(data / mask)
        rows.append({"image": f"i{index:02d}.png", "label": CLASSES[index % 3], "group": str(index), "split": "test", "mask_lesion": mask})
    manifest = pd.DataFrame(rows)
    train = {"image": "t.png", "label": "a", "group": "t", "split": "train", "mask_lesion": "m01.png"}
    pd.DataFrame([*rows, train]).to_csv(folder / "manifest.csv", index=False)
    nets.nested().save(folder / "model.keras")
    probabilities = np.full((12, 3), 0.1)
    # Every image right but 0, 4 and 8.
    for index in range(12):
        probabilities[index, (index + (index in (0, 4, 8))) % 3] = 0.8
    write_predictions(folder, manifest, probabilities, CLASSES)
    config = {"study": "cervical", "classes": CLASSES, "image_size": nets.SIZE, "resize_filter": "nearest", "synthetic": True}
    config["git_commit"] = "abc123"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "local.json").write_text(json.dumps({"data_dir": str(data)}))
    return folder


@pytest.fixture(scope="module")
def options(run):
    return ExplainOptions(run=run, lime_samples=20, lime_superpixels=6)


@pytest.fixture(scope="module")
def drawn(run, options, tmp_path_factory):
    output = tmp_path_factory.mktemp("out")
    sheet.explain_command(replace(options, output=output, methods=METHODS))
    return output


def test_sheet_maps_and_tables_are_written(drawn, run):
    explained = pd.read_csv(drawn / "explained.csv", dtype=str).astype({"probability": float})
    assert len(explained) == 6
    assert explained["label"][:3].tolist() == CLASSES
    facts = {"run": run.name, "run_commit": "abc123", "layer": "sum", "map_size": "8 x 8", "engine": "own"}
    assert {name: set(explained[name]) for name in facts} == {name: {value} for name, value in facts.items()}
    assert explained["run_id"].str.fullmatch("[0-9a-f]{8}").all() and (explained["commit"].str.len() > 6).all()
    maps = np.load(drawn / "maps.npz")
    for name in ("gradcam", "gradcam++", "scorecam", "faster-scorecam", "layercam", "lime"):
        assert maps[name].shape == (6, nets.SIZE, nets.SIZE)
        assert maps[name].min() >= 0 and maps[name].max() <= 1
    assert maps["images"].dtype == np.uint8 and maps["names"].tolist() == explained["image"].tolist()
    assert len(np.unique(maps["lime_weights"][0])) == maps["lime_segments"][0].max() + 1
    with Image.open(drawn / "sheet.png") as picture:
        assert picture.width > 800 and picture.height > 600
        # Not an empty canvas: the overlays bring many colours.
        assert len(picture.convert("RGB").getcolors(maxcolors=10**7)) > 1000
    table = pd.read_csv(drawn / "faithfulness.csv")
    assert set(table["method"]) == {*METHODS[:5], "lime", "random", *TRIVIAL}
    rows = table.set_index("method").loc[TRIVIAL]
    assert rows["deletion"].isna().all()  # they are held against the masks alone, the left half of each image
    assert rows["continuous_dice"].tolist()[::2] == pytest.approx([2 / 3, 1.0])
    assert {"deletion", "insertion", "pointing", "energy", "jaccard", "continuous_dice"} <= set(table.columns)
    text = (drawn / "faithfulness.md").read_text()
    assert "`mean training mask` look at no image" in text
    assert "Synthetic data" in text and "the layer `sum`, 8 x 8, engine `own`" in text
    assert f"Run `{run.name}`" in text and "noise, 8 x 8 values" in text and "![Deletion and insertion curves](faithfulness.png)" in text
    assert "drawn with seed 0: of each class one that the model gets right" in text
    # Behind the layer `sum` comes a global average, then a dense layer.
    assert "averages this layer over all positions" in text
    assert (drawn / "faithfulness.png").stat().st_size > 10_000


def test_the_same_command_writes_the_same_bytes(options, drawn, tmp_path):
    sheet.explain_command(replace(options, output=tmp_path, methods=METHODS, faithfulness=False))
    first, second = np.load(drawn / "maps.npz"), np.load(tmp_path / "maps.npz")
    assert all(first[name].tobytes() == second[name].tobytes() for name in first.files)
    assert (drawn / "sheet.png").read_bytes() == (tmp_path / "sheet.png").read_bytes()
    assert not (tmp_path / "faithfulness.csv").exists()


def test_own_images(options, run, tmp_path):
    images = (run / "data" / "i03.png", run / "data" / "i01.png")
    sheet.explain_command(replace(options, output=tmp_path, images=images, methods=("gradcam",), layer=("stem_relu",), faithfulness=False))
    explained = pd.read_csv(tmp_path / "explained.csv", keep_default_na=False)
    assert explained["image"].tolist() == ["i03.png", "i01.png"] and explained["label"].tolist() == ["", ""]


def test_several_layers_are_several_columns(options, run, tmp_path):
    two = replace(options, output=tmp_path, methods=("layercam", "faster-scorecam"), layer=("stem_relu", "branch"))
    sheet.explain_command(two)
    maps = np.load(tmp_path / "maps.npz")
    names = ["layercam stem_relu", "layercam branch", "faster-scorecam stem_relu", "faster-scorecam branch"]
    assert set(names) < set(maps.files) and not np.allclose(maps[names[0]], maps[names[1]])
    table = pd.read_csv(tmp_path / "faithfulness.csv")
    assert set(table["method"]) == {*names, "random", *TRIVIAL}
    by_class = pd.read_csv(tmp_path / "faithfulness_by_class.csv")
    assert by_class["class"].nunique() > 1 and {"deletion_low", "insertion_high"} <= set(by_class)
    assert "Maps of several layers: stem_relu, branch" in (tmp_path / "faithfulness.md").read_text()
    sheet.explain_command(replace(two, layer=("branch",), methods=("layercam",)))
    assert np.allclose(np.load(tmp_path / "maps.npz")["layercam"], maps["layercam branch"])


def test_too_many_images_and_no_labelled_ones(options, run, tmp_path, monkeypatch):
    monkeypatch.setattr(sheet, "MOST_IMAGES", 3)
    with pytest.raises(UsageError, match="18 images, and a sheet holds at most 3"):
        sheet.explain_command(replace(options, output=tmp_path, images=(run / "data",)))
    table = pd.read_csv(run / "predictions.csv")
    other = tmp_path / "run"
    other.mkdir()
    for name in ("config.json", "local.json", "model.keras"):
        (other / name).write_bytes((run / name).read_bytes())
    table.assign(label="unheard of").to_csv(other / "predictions.csv", index=False)
    with pytest.raises(UsageError, match="label is 'unheard of'; expected one of its classes"):
        sheet.explain_command(replace(options, run=other, output=tmp_path))


def test_more_images_for_the_measures(options, tmp_path):
    sheet.explain_command(replace(options, output=tmp_path, methods=("gradcam",), faithfulness_images=9))
    assert pd.read_csv(tmp_path / "faithfulness.csv")["images"].tolist() == [9] * 5  # two that look at it, three that do not
    assert "9 test images, drawn with seed 0 from every true class in turn" in (tmp_path / "faithfulness.md").read_text()
    assert len(pd.read_csv(tmp_path / "explained.csv")) == 6


def test_choice_is_balanced_deterministic_and_blind_to_row_order():
    rows = [{"image": f"{i:03d}", "label": "abc"[i % 3], "predicted": "abc"[(i + (i % 4 == 0)) % 3]} for i in range(60)]
    table = pd.DataFrame(rows)
    chosen = sheet.choose(table, CLASSES, seed=0)
    assert chosen["label"].tolist() == ["a", "b", "c"] * 2
    assert (chosen["label"] == chosen["predicted"]).tolist() == [True] * 3 + [False] * 3
    shuffled = table.sample(frac=1, random_state=5).reset_index(drop=True)
    pd.testing.assert_frame_equal(sheet.choose(shuffled, CLASSES, seed=0), chosen)
    assert sheet.choose(table, CLASSES, seed=1)["image"].tolist() != chosen["image"].tolist()
    # No errors at all, or one class never right: fewer rows, no failure.
    assert len(sheet.choose(table[table["label"] == table["predicted"]], CLASSES, 0)) == 3
    only_wrong = sheet.choose(table[table["label"] != table["predicted"]].head(2), CLASSES, 0)
    assert len(only_wrong) == 2
    assert sheet.balanced(table, 7, 0)["label"].value_counts().max() == 3
    assert len(sheet.balanced(table, 1000, 0)) == 60


def test_missing_data_folder_and_wrong_layer(options, run, tmp_path):
    with pytest.raises(UsageError, match="convolution layers are stem, branch"):
        sheet.explain_command(replace(options, output=tmp_path, layer=("nowhere",)))
    local = (run / "local.json").read_text()
    try:
        (run / "local.json").write_text(json.dumps({"data_dir": str(tmp_path / "gone")}))
        with pytest.raises(UsageError, match="--data-dir"):
            sheet.explain_command(replace(options, output=tmp_path))
        (run / "local.json").unlink()
        with pytest.raises(UsageError, match="no local.json"):
            sheet.explain_command(replace(options, output=tmp_path))
        sheet.explain_command(replace(options, output=tmp_path, data_dir=run / "data", methods=("layercam",), faithfulness=False))
    finally:
        (run / "local.json").write_text(local)


def test_images_that_changed_since_the_run_began_are_named(options, run, tmp_path):
    names = pd.read_csv(run / "predictions.csv")["image"].tolist()
    try:
        (run / "contents.json").write_text(json.dumps({"files": dict.fromkeys(names, "0" * 32)}))
        with pytest.raises(UsageError, match=f"files changed since {run} began .*{names[0][:2]}.*put them back, or train again"):
            sheet.explain_command(replace(options, output=tmp_path))
    finally:
        (run / "contents.json").unlink()


def test_sanity_checks_beside_the_sheet(options, tmp_path):
    sheet.explain_command(replace(options, output=tmp_path, methods=("gradcam", "lime"), faithfulness=False, sanity=True, sanity_images=4))
    table = pd.read_csv(tmp_path / "sanity.csv")
    assert table["method"].tolist() == ["gradcam", "lime"] and table["images"].tolist() == [4, 4]
    assert "Synthetic data" in (tmp_path / "sanity.md").read_text() and (tmp_path / "sanity.png").is_file()
    assert set(pd.read_csv(tmp_path / "sanity_cascade.csv")["randomised"]) >= {0.0, 1.0}
