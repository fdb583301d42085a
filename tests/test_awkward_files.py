"""Every study reads one awkward folder alike, and refuses the same broken one before it trains, in one line that names the file."""

import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.cli import main
from common.errors import UsageError

STUDIES = ("cervical", "lmf", "melanoma", "feedback")
HEIGHT, WIDTH = 20, 30


def picture(*seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))


def region(turned: bool = False) -> np.ndarray:
    mask = np.zeros((WIDTH, HEIGHT) if turned else (HEIGHT, WIDTH), np.uint8)
    mask[4:10, 5:12] = 1
    return mask


def awkward(root: Path) -> tuple[Path, Path]:
    """Ten images and their masks as several people leave them; a notebook's checkpoint, a thumbnail and a note are none."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for number, label in enumerate(("melanoma", "other")):
        images, masks, store = root / "images" / label, root / "masks" / label, root / "store" / label
        for folder in (images / "p1", masks / "p1", masks / "p2", images / ".ipynb_checkpoints", images / "@eaDir", store):
            folder.mkdir(parents=True)
        accented = unicodedata.normalize("NFC", f"caf\u00e9{number}")
        picture(number, 0).save(images / "p1" / f"a{number}.png")
        picture(number, 1).save(store / f"b{number}.bmp")
        os.symlink(store, images / "p2")
        picture(number, 2).save(images / f"c{number}.JPG", "JPEG", exif=exif)
        picture(number, 3).save(images / f"d{number}.jfif", "JPEG")
        picture(number, 4).save(images / f"{accented}.png")
        for name in (".ipynb_checkpoints/a-checkpoint.png", "@eaDir/a.png"):
            shutil.copy(images / "p1" / f"a{number}.png", images / name)
        (images / "note.txt").write_text("x")
        red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        red[region() > 0] = (255, 0, 0)
        Image.fromarray(red).save(masks / "p1" / f"a{number}.PNG", "PNG")
        Image.fromarray(region()).save(masks / "p2" / f"b{number}.png")
        Image.fromarray(region(turned=True) * 100).save(masks / f"c{number}_segmentation.png")
        Image.fromarray(region() * 255).convert("1").save(masks / f"d{number}.png")
        Image.fromarray(region() * 255).save(masks / f"{unicodedata.normalize('NFD', accented)}.png")
    os.symlink(root / "images", root / "link")
    return root / "link", root / "masks"


@pytest.mark.parametrize("study", STUDIES)
def test_every_audit_finds_what_is_there_and_counts_the_rest(study: str, tmp_path: Path, capfd) -> None:
    images, masks = awkward(tmp_path)
    commands = import_module(f"{study}.__main__").COMMANDS
    words = ["--data-dir", images, "--mask-dir", masks, "--cache-dir", tmp_path / "cache", "--run-dir", tmp_path / "out"]
    assert main(study, commands, ["audit", "--dataset", "folders", *map(str, words)]) == 0
    found = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert found["images"] == 10 and found["left_out"] == {"images in helper folders": 4, ".txt files": 2}
    assert not found["unreadable"] and len(found["turned"]) == 2
    mask = found["masks"]["mask_lesion"]
    assert (mask["present"], mask["empty"], mask["other_size"], mask["problems"]) == (10, 0, 0, {})
    said = "\n".join(capfd.readouterr().out.splitlines()[:10])
    assert "10 images in 2 classes." in said and "Passed over: 4 images in helper folders, 2 .txt files." in said
    assert "10 of 10 images have a lesion mask." in said
    assert "Labels: none refused, none missing." in said


def cut_in_the_middle(images: Path, masks: Path) -> str:
    path = images / "other" / "d1.jfif"
    data = path.read_bytes()
    path.write_bytes(data[:700] + bytes(200) + data[900:])
    return "d1.jfif"


def of_12_bits(images: Path, masks: Path) -> str:
    Image.fromarray(np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH)).save(images / "other" / "p1" / "a1.png")
    return "a1.png.*16-bit pixels that stay below 600"


def of_two_pages(images: Path, masks: Path) -> str:
    picture(9).save(images / "other" / "pages.tif", save_all=True, append_images=[picture(8)])
    Image.fromarray(region()).save(masks / "other" / "pages.png")
    return "pages.tif.*several pages"


def a_broken_link(images: Path, masks: Path) -> str:
    os.symlink("../nowhere/e.png", images / "other" / "e.png")
    Image.fromarray(region()).save(masks / "other" / "e.png")
    return "e.png.*not found"


def a_split_download(images: Path, masks: Path) -> str:
    for label in ("melanoma", "other"):
        shutil.copytree(images / label, images / "train" / label)
        shutil.move(images / label, images / "test" / label)
    return "train and test look like a split|test and train look like a split"


def a_mask_of_two_images(images: Path, masks: Path) -> str:
    picture(7).save(images / "other" / "d1.png")
    return "d1.png fits 2 images"


def a_mask_that_was_not_fetched(images: Path, masks: Path) -> str:
    (masks / "other" / "d1.png").unlink()
    os.symlink("../.git/annex/objects/x.png", masks / "other" / "d1.png")
    return "mask not found: .*d1.png"


def a_mask_of_many_values(images: Path, masks: Path) -> str:
    Image.fromarray(np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint8)).save(masks / "other" / "d1.png")
    return "cannot read mask .*d1.png: it holds 256 values"


def a_mask_of_another_size(images: Path, masks: Path) -> str:
    Image.fromarray(region(turned=True)).save(masks / "other" / "d1.png")
    return "d1.png: the mask is 20x30 pixels, its image d1.jfif 30x20"


EVERYWHERE = (cut_in_the_middle, of_12_bits, of_two_pages, a_broken_link, a_split_download, a_mask_of_two_images)
WHERE_MASKS_TRAIN = (a_mask_that_was_not_fetched, a_mask_of_many_values, a_mask_of_another_size)


def load(study: str, images: Path, masks: Path, cache: Path) -> Any:
    """What the study's training does with its images before it opens a run folder."""
    command = {"cervical": "finetune", "feedback": "simulate"}.get(study, "train")
    settings = import_module(f"{study}.experiments.{command}").default("corrected", "folders")
    settings = replace(settings, data_dir=images, mask_dir=masks, cache_dir=cache)
    return import_module(f"{study}.data").load(settings, *(["simulation"] if study == "feedback" else []))


@pytest.mark.parametrize("study", STUDIES)
def test_training_takes_the_awkward_folder(study: str, tmp_path: Path) -> None:
    dataset = load(study, *awkward(tmp_path), tmp_path / "cache")
    assert len(dataset.manifest) == 10 and (dataset.manifest["mask_lesion"] != "").all()


@pytest.mark.parametrize(
    ("study", "spoil"),
    [(study, spoil) for study in STUDIES for spoil in EVERYWHERE]
    + [(study, spoil) for study in ("melanoma", "feedback") for spoil in WHERE_MASKS_TRAIN],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_training_refuses_what_nobody_can_read(study: str, spoil: Callable[[Path, Path], str], tmp_path: Path) -> None:
    images, masks = awkward(tmp_path)
    said = spoil(images, masks)
    with pytest.raises(UsageError, match=said) as refused:
        load(study, images, masks, tmp_path / "cache")
    assert "\n" not in str(refused.value)
