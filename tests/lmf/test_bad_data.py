"""Data that cannot be trained on end `lmf train` in one clear line and exit code 2, before any training."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.cli import main
from common.data.sample import ensure_sample
from lmf import data
from lmf.__main__ import COMMANDS


def images_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.jpg") if "mask" not in path.parent.name)


def without_an_image(root: Path) -> str:
    first = images_of(root)[0]
    first.unlink()
    return f"are missing: {first.stem}"


def with_a_stranger(root: Path) -> str:
    first = images_of(root)[0]
    shutil.copy(first, first.with_name("stranger.jpg"))
    return "1 images are not in HAM10000_metadata.csv: stranger"


def with_a_torn_image(root: Path) -> str:
    torn = images_of(root)[3]
    torn.write_bytes(torn.read_bytes()[:200])
    return torn.name


def with_a_class_of_three(root: Path) -> str:
    table = pd.read_csv(root / "HAM10000_metadata.csv")
    rare = table["dx"] == table["dx"].value_counts().index[-1]
    for name in table["image_id"][rare].iloc[3:]:
        (root / "images" / f"{name}.jpg").unlink()
    table.drop(table.index[rare][3:]).to_csv(root / "HAM10000_metadata.csv", index=False)
    return "has 3 images, too few for a 70:15:15 split"


def with_two_labels_of_an_eye(root: Path) -> str:
    table = pd.read_csv(root / "full_df.csv", dtype=str)
    table.loc[2, "labels"] = "['N', 'D']"
    table.to_csv(root / "full_df.csv", index=False)
    return f"1 rows have none or several: {table.loc[2, 'filename']} (N+D)"


def with_half_a_label(root: Path) -> str:
    path = root / "ISIC_2019_Training_GroundTruth.csv"
    table = pd.read_csv(path)
    table.loc[0, "NV"] = 0.5
    table.to_csv(path, index=False)
    return f"1 rows hold something else: {table.loc[0, 'image']}"


def with_an_empty_class(root: Path) -> str:
    for path in (root / "Normal" / "images").iterdir():
        path.unlink()
    return "the class folder Normal holds no images"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("ham10000", without_an_image),
        ("ham10000", with_a_stranger),
        ("ham10000", with_a_torn_image),
        ("ham10000", with_a_class_of_three),
        ("odir5k", with_two_labels_of_an_eye),
        ("isic2019", without_an_image),
        ("isic2019", with_half_a_label),
        ("covid_radiography", with_an_empty_class),
    ],
)
def test_damaged_data_are_one_line_and_exit_code_2(name, damage, sample_cache, tmp_path, capsys):
    root = Path(shutil.copytree(ensure_sample(name, sample_cache), tmp_path / name, ignore=shutil.ignore_patterns("SYNTHETIC.txt")))
    assert damage(root) in refused(tmp_path, capsys, "--dataset", name, "--data-dir", root)


def test_a_class_of_few_lesions_cannot_be_split_by_lesion(tmp_path, capsys):
    assert "the class b has only 2 group(s)" in refused(tmp_path, capsys, *by_lesion(drawn_folders(tmp_path / "mine")))


def test_a_class_without_a_training_image_is_named(tmp_path, capsys, monkeypatch):
    """No data are known that our grouped split leaves without: the split is replaced by one that does."""

    def careless(manifest, *_):
        return manifest.assign(split=np.where(manifest["label"] == "b", "test", "train"))

    monkeypatch.setattr(data, "grouped_split", careless)
    said = refused(tmp_path, capsys, *by_lesion(drawn_folders(tmp_path / "mine")))
    assert "no training image of the class b with --split grouped; the losses need at least one of each" in said


def drawn_folders(root: Path) -> Path:
    """Class a: 8 images of 4 lesions; class b: 4 images of 2."""
    for label, lesions in (("a", 4), ("b", 2)):
        (root / label).mkdir(parents=True)
        for lesion in range(lesions):
            for image in range(2):
                pixels = np.random.default_rng([lesion, image]).integers(0, 255, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / label / f"{lesion}_{image}.png")
    return root


def by_lesion(root: Path) -> tuple[str | Path, ...]:
    return ("--dataset", "folders", "--data-dir", root, "--split", "grouped", "--group-pattern", r"(\d+)_")


def refused(folder: Path, capsys, *words) -> str:
    """The one line that `lmf train` says."""
    options = ["--backbone", "mobilenetv2_035", "--weights", "none", "--cache-dir", folder / "cache", "--run-dir", folder / "run"]
    assert main("lmf", COMMANDS, [str(word) for word in ("train", *words, *options)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0 and not (folder / "run").exists()
    return error
