"""In a locale without UTF-8, and with file names that are no UTF-8, commands work, and tables name files so that they are found again."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
# Python takes names for ASCII then: nothing coerces the locale, and no mode makes it UTF-8.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`images/<class>/` and `masks/<class>/` with umlauts, and one image and mask whose names are Latin-1."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    mask = np.zeros((24, 24), np.uint8)
    mask[6:16, 6:16] = 255
    for label in ("gesund_ü", "melanoma"):
        for kind in ("images", "masks"):
            (root / kind / label).mkdir(parents=True)
        for index in range(7):
            Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(root / "images" / label / f"bild_ä{index}.png")
            Image.fromarray(mask).save(root / "masks" / label / f"bild_ä{index}.png")
    for kind in ("images", "masks"):
        plain = root / kind / "melanoma" / "bild_ä6.png"
        os.rename(os.fsencode(plain), os.fsencode(plain.parent) + b"/k\xe9k.png")
    return root


def run(*words: object) -> str:
    """What the command says; it must end well."""
    ended = subprocess.run(
        [sys.executable, "-m", *map(str, words)], env={**os.environ, **ASCII}, capture_output=True, cwd=ROOT, timeout=280
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr.decode(errors="replace")
    return ended.stdout.decode("ascii")


@pytest.mark.parametrize("study", ["cervical", "lmf", "melanoma", "feedback"])
def test_audit_counts_every_image_and_mask(study: str, data: Path, tmp_path: Path) -> None:
    own = ["--role", "simulation"] if study == "feedback" else []
    folders = ["--data-dir", data / "images", "--mask-dir", data / "masks", "--cache-dir", tmp_path / "cache"]
    said = run(study, "audit", "--dataset", "folders", *folders, "--run-dir", tmp_path / "out", *own)
    assert "14 images in 2 classes" in said and "14 of 14 images have a lesion mask." in said and "Labels: none refused" in said
    label = "other" if study == "melanoma" else "gesund_ü"
    assert f"| {label} | 7 |" in (tmp_path / "out" / "audit.md").read_text(encoding="utf-8")


def test_what_is_trained_predicted_and_reported_names_its_files(data: Path, tmp_path: Path) -> None:
    images = keras.Input((None, None, 3))
    keras.Model(images, keras.layers.Conv2D(4, 3, strides=2)(images)).save(tmp_path / "small.keras")
    train = [
        "--data-dir",
        data / "images",
        "--cache-dir",
        tmp_path / "cache",
        "--network",
        tmp_path / "small.keras",
        "--reading",
        "described",
    ]
    folder = tmp_path / "run"
    run("lmf", "train", "--dataset", "folders", *train, "--image-size", 24, "--epochs", 1, "--batch-size", 4, "--run-dir", folder)
    run("lmf", "report", folder)
    run("lmf", "predict", folder, data / "images", "--output", tmp_path / "found.csv")
    for path in (folder / "manifest.csv", tmp_path / "found.csv"):
        table = pd.read_csv(path, encoding="utf-8", encoding_errors="surrogateescape")
        named = [data / "images" / name for name in table["image"]]
        assert len(named) == 14 and all(os.path.isfile(each) for each in named)
