from types import SimpleNamespace

import pandas as pd
import pytest

from common.errors import UsageError
from common.runs.reading import RunFolder


def test_a_run_a_path_and_a_folder_are_the_same(tmp_path):
    folder = RunFolder.of(tmp_path)
    assert RunFolder.of(SimpleNamespace(path=tmp_path)) == folder == RunFolder.of(folder) == RunFolder.of(str(tmp_path))


@pytest.mark.parametrize("name", ["nowhere", "file", "empty"])
def test_what_is_no_run_is_named(tmp_path, name):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=name):
        RunFolder.existing(tmp_path / name)


def test_files_come_back_as_written(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_json("a.json", {"x": float("nan"), "y": (1, 2)})
    folder.write_table("b.csv", pd.DataFrame({"x": [0.1, 0.2]}))
    assert folder.read_json("a.json") == {"x": None, "y": [1, 2]}
    assert folder.read_table("b.csv")["x"].tolist() == [0.1, 0.2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.csv"]
    assert folder.has("a.json") and not folder.has("c.json")


@pytest.mark.parametrize("text", ["{", "[1]", "\x00"])
def test_broken_json_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match="config.json"):
        RunFolder(tmp_path).read_json("config.json")


def test_missing_and_empty_tables_are_named(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    for name in ("empty.csv", "missing.csv"):
        with pytest.raises(UsageError, match=name):
            RunFolder(tmp_path).read_table(name)


@pytest.mark.parametrize(
    ("text", "said"), [("stage,loss\na,0.5\n", "column epoch"), ("epoch,loss\n", "no epoch"), ("epoch,loss\n1,x\n", "of loss")]
)
def test_a_torn_history_is_named(tmp_path, text, said):
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        RunFolder(tmp_path).read_table("history.csv")
    (tmp_path / "history.csv").write_text("stage,epoch,loss,val_loss\na,1,0.5,\nb,1,0.4,0.3\n")
    for options in ({}, {"dtype": str, "keep_default_na": False}):
        assert len(RunFolder(tmp_path).read_table("history.csv", **options)) == 2


@pytest.mark.parametrize("name", ["../masks/a.png", "/etc/a.png", "../masks/../../a.png"])
@pytest.mark.parametrize("made_here", [True, False])
def test_masks_beside_the_images_only_in_a_run_made_here(tmp_path, name, made_here):
    """--mask-dir may be any folder; a folder that was received names none outside."""
    folder = RunFolder(tmp_path)
    folder.write_table("manifest.csv", pd.DataFrame({"image": ["a.png"], "mask_lesion": [name]}))
    if made_here:
        folder.write_json("local.json", {"data_dir": "data"})
    if made_here and name == "../masks/a.png":
        assert folder.read_table("manifest.csv")["mask_lesion"].tolist() == [name]
    else:
        with pytest.raises(UsageError, match="expected a path inside the data folder"):
            folder.read_table("manifest.csv")


def test_images_stay_inside_also_in_a_run_made_here(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_table("manifest.csv", pd.DataFrame({"image": ["../a.png"]}))
    folder.write_json("local.json", {"data_dir": "data"})
    with pytest.raises(UsageError, match="expected a path inside the data folder"):
        folder.read_table("manifest.csv")
