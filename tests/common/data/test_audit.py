"""The audit finds what was planted, and the known facts of the real data sets."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common.data.audit import audit, audit_command, possible_splits, write_audit
from common.data.dataset import Dataset
from common.data.folders import folders_dataset
from common.data.splits import grouped_split, stratified_split
from common.errors import UsageError
from common.report.samples import some_of_each

RNG = np.random.default_rng(0)


def _pixels(height: int = 20, width: int = 30) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two classes of ten images, with one of each fault."""
    root = tmp_path_factory.mktemp("audit")
    for label in ("a", "b"):
        (root / label).mkdir()
        for number in range(10):
            Image.fromarray(_pixels(20 + number)).save(root / label / f"s{number // 2}_{number}.png")
    whole = (root / "a" / "s0_0.png").read_bytes()
    (root / "a" / "s0_1.png").write_bytes(whole[: len(whole) // 2])  # truncated
    (root / "a" / "s1_2.png").write_text("no image at all")
    Image.fromarray(_pixels()).convert("CMYK").save(root / "a" / "s1_3.jpg")
    (root / "a" / "s1_3.png").unlink()
    Image.fromarray(_pixels()).save(root / "b" / "s0_0.png", format="JPEG")  # the suffix lies
    Image.fromarray(_pixels()[..., 0].astype(np.uint16) * 200).save(root / "b" / "s0_1.png")  # 16-bit grey
    _write_deep_colour(root / "b" / "s1_2.png")
    for copy in ("b/s4_9.png", "a/s4_9.png"):
        (root / copy).write_bytes((root / "a" / "s4_8.png").read_bytes())
    dataset = folders_dataset(root, r"(s\d)_")
    return replace(dataset, official_counts={"a": 10, "b": 11, "c": 5}, left_out={"whole-slide images": 3})


def _write_deep_colour(path: Path) -> None:
    """A PNG of 2 x 2 pixels with 16 bits a channel, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + struct.pack(">6H", *range(0, 60000, 10000)) for _ in range(2))
    header = struct.pack(">2I5B", 2, 2, 16, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


@pytest.fixture(scope="module")
def result(planted: Dataset) -> dict:
    manifest = planted.manifest
    first = manifest["image"].str.contains(r"_[02468]\.", regex=True)
    paper = manifest.assign(split=np.where(first, "train", "test"))
    return audit(planted, {"paper": paper, "grouped": grouped_split(manifest, (0.6, 0.2, 0.2), 0)})


def test_counts_are_compared_with_the_official_ones(result: dict) -> None:
    assert result["classes"]["b"] == {"images": 10, "official": 11, "groups": 5}
    assert result["classes"]["c"]["images"] == 0
    assert result["official"] is False
    assert "Not the official numbers: b 10 of 11, c 0 of 5." in result["findings"]
    assert "Passed over: 3 whole-slide images." in result["findings"]


def test_broken_and_odd_files_are_named(result: dict) -> None:
    assert set(result["unreadable"]) == {"a/s0_1.png", "a/s1_2.png"}
    assert result["unreadable"]["a/s1_2.png"] == "not an image file"
    assert result["wrong_suffix"] == {"b/s0_0.png": "JPEG"}
    assert result["odd_modes"] == {"a/s1_3.jpg": "CMYK", "b/s0_1.png": "16-bit grey", "b/s1_2.png": "16-bit RGB"}
    assert result["formats"] == {"PNG": 16, "JPEG": 2}
    assert result["modes"]["RGB"] == 15


def test_images_that_show_next_to_nothing_are_named(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "other").mkdir()
    empty = np.full((60, 80, 3), 214, np.uint8) + RNG.integers(0, 6, (60, 80, 3), dtype=np.uint8)  # a background's noise
    faint = empty.copy()
    faint[20:40, 30:50] -= 40  # something pale in the middle
    Image.fromarray(empty).save(tmp_path / "cells" / "empty.png")
    Image.fromarray(faint).save(tmp_path / "cells" / "faint.png")
    Image.fromarray(_pixels()).save(tmp_path / "other" / "noise.png")
    found = audit(folders_dataset(tmp_path), {})
    assert found["flat"] == ["cells/empty.png"]
    assert "1 images are nearly of one colour, so perhaps show nothing: cells/empty.png." in found["findings"]


def test_some_pictures_of_each_class_are_drawn_each_of_another_group(planted: Dataset, tmp_path: Path) -> None:
    audit_command(planted, lambda how: planted.manifest.assign(split="train"), tmp_path)
    page = (tmp_path / "audit.md").read_text()
    assert "![Pictures of each class](pictures.png)" in page
    with Image.open(tmp_path / "pictures.png") as drawn:
        assert drawn.width > drawn.height > 100
    chosen = some_of_each(planted.manifest, 5)
    assert list(chosen) == ["a", "b"]
    for label, names in chosen.items():
        groups = [name.split("/")[1][:2] for name in names]
        assert len(names) == 5 and sorted(groups) == ["s0", "s1", "s2", "s3", "s4"] and all(name.startswith(f"{label}/") for name in names)
    assert chosen == some_of_each(planted.manifest.sample(frac=1, random_state=1), 5)  # whatever the order
    assert chosen != some_of_each(planted.manifest, 5, seed=1)
    assert len(some_of_each(planted.manifest, 8)["a"]) == 8  # more pictures than groups


def test_missing_files_are_reported_not_raised(planted: Dataset) -> None:
    more = pd.DataFrame({"image": ["a/gone.png"], "label": "a", "group": "g"})
    found = audit(replace(planted, manifest=pd.concat([planted.manifest, more], ignore_index=True)), {})
    assert found["unreadable"]["a/gone.png"] == "missing"


def test_identical_files_are_found_also_across_a_split(planted: Dataset, result: dict) -> None:
    assert result["identical"] == [["a/s4_8.png", "a/s4_9.png", "b/s4_9.png"]]
    unlabelled = replace(
        planted, manifest=planted.manifest.assign(label=["" if name.startswith("a/") else "b" for name in planted.manifest["image"]])
    )
    assert audit(unlabelled, {})["contradictions"] == []
    assert result["contradictions"] == [["a/s4_8.png", "b/s4_9.png"], ["a/s4_9.png", "b/s4_9.png"]]
    assert result["splits"]["paper"]["test_images_identical_to_train"] == 2


def test_leakage_and_counts_of_each_split(result: dict) -> None:
    paper, grouped = result["splits"]["paper"], result["splits"]["grouped"]
    assert paper["totals"] == {"train": 10, "validation": 0, "test": 10}
    assert paper["leakage"]["test"]["shared"] == 10  # every pair of a slide was torn apart
    assert grouped["leakage"]["test"]["shared"] == grouped["leakage"]["validation"]["shared"] == 0
    assert "Split paper: 10 of 10 test images (100%) share their group with a training image." in result["findings"]
    several = ["s0", "s1", "s2", "s3", "s4"]  # slides with cells of both classes: one group each
    assert result["groups"] == {"number": 5, "largest": 4, "images_sharing": 20, "with_several_labels": several}
    assert any(line.startswith("5 groups hold images of several classes (s0, s1, s2, …)") for line in result["findings"])


def test_sizes_are_those_of_the_readable_images(result: dict) -> None:
    assert result["sizes"]["width"] == {"min": 2, "median": 30.0, "mean": pytest.approx((17 * 30 + 2) / 18), "max": 30}
    assert result["sizes"]["height"]["max"] == 28


def test_masks_are_checked(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for name in ("0", "1", "2"):
            Image.fromarray(_pixels()).save(tmp_path / "data" / label / f"{label}{name}.png")
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.ones((20, 30), dtype=bool)).save(tmp_path / "masks" / "a0.png")
    Image.fromarray(np.zeros((20, 30), dtype=bool)).save(tmp_path / "masks" / "a1.png")
    Image.fromarray(np.ones((5, 5), dtype=bool)).save(tmp_path / "masks" / "a2.png")
    (tmp_path / "masks" / "b0.png").write_bytes(b"broken")
    found = audit(folders_dataset(tmp_path / "data", mask_dir=tmp_path / "masks"), {})
    masks = found["masks"]["mask_lesion"]
    assert {key: masks[key] for key in masks if key != "problems"} == {"present": 4, "unreadable": 1, "other_size": 1, "empty": 1}
    assert len(masks["problems"]) == 2 and str(tmp_path / "data") not in str(masks["problems"])
    assert any("4 of 6 images have a lesion mask; 1 cannot be read" in line for line in found["findings"])


def no_split(how: str) -> pd.DataFrame:
    raise UsageError("class x has 2 images")


def test_report_and_json_are_written_and_agree(planted: Dataset, result: dict, tmp_path: Path) -> None:
    write_audit(result, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "audit.json").read_text()) == result
    page = (tmp_path / "out" / "audit.md").read_text()
    assert page.startswith("# Audit of folders\n")
    for text in (*result["findings"], "| b | 10 | 11 | -1 | 5 |", "a/s4_8.png = a/s4_9.png = b/s4_9.png", "- b/s0_1.png: 16-bit grey"):
        assert text in page
    assert str(planted.data_dir) not in page + json.dumps(result)
    assert "Synthetic" not in page
    assert not audit_command(replace(planted, synthetic=True), no_split, tmp_path / "drawn")
    assert "**Synthetic images, drawn by this project" in (tmp_path / "drawn" / "audit.md").read_text()


def test_sipakmed_as_distributed(shared_data) -> None:
    root = shared_data("sipakmed")
    files = sorted(root.glob("im_*/im_*/CROPPED/*.jpg"))
    labels = [path.parts[-4].removeprefix("im_") for path in files]
    groups = [f"{label}/{path.stem.split('_')[0]}" for label, path in zip(labels, files, strict=True)]
    manifest = pd.DataFrame({"image": [path.relative_to(root).as_posix() for path in files], "label": labels, "group": groups})
    found = audit(Dataset("sipakmed", root, manifest), {"random": stratified_split(manifest, (0.64, 0.16, 0.2), 0)})
    # data/README of the development copy, and the facts file, section 1.1.
    assert found["images"] == 4049
    assert found["groups"]["number"] == 966
    assert found["identical"] == [] and found["unreadable"] == {} and found["odd_modes"] == {}
    sizes = found["sizes"]
    assert (sizes["width"]["min"], sizes["width"]["max"], sizes["height"]["min"], sizes["height"]["max"]) == (62, 531, 48, 553)
    assert 0.8 < found["splits"]["random"]["leakage"]["test"]["fraction"] < 0.95


@pytest.mark.slow
def test_ham10000_shares_lesions(shared_data) -> None:
    root = shared_data("ham10000")
    table = pd.read_csv(root / "HAM10000_metadata.csv")
    manifest = pd.DataFrame(
        {
            "image": "images/" + table["image_id"] + ".jpg",
            "label": table["dx"],
            "group": table["lesion_id"],
            "mask_lesion": "lesion_masks/" + table["image_id"] + "_segmentation.png",
        }
    )
    official = {"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142}
    splits = {"grouped": grouped_split(manifest, (0.7, 0.15, 0.15), 0)}
    found = audit(Dataset("ham10000", root, manifest, official_counts=official), splits)
    # data/README of the development copy: 4501 images share their lesion with another, 2545 images more than lesions.
    assert found["official"] is True and found["unreadable"] == {}
    assert found["groups"]["images_sharing"] == 4501
    assert found["images"] - found["groups"]["number"] == 2545
    assert found["masks"]["mask_lesion"]["present"] == 10015 and found["masks"]["mask_lesion"]["unreadable"] == 0
    assert found["splits"]["grouped"]["leakage"]["test"]["shared"] == 0


def test_what_is_used_and_what_is_not_stands_in_the_first_ten_lines(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for label in ("a", "b"):
        (root / label / ".ipynb_checkpoints").mkdir(parents=True)
        for number in range(3):
            Image.fromarray(_pixels()).save(root / label / f"{label}{number}.png")
        Image.fromarray(_pixels()).save(root / label / ".ipynb_checkpoints" / "copy.png")
        (root / label / "scan.xyz").write_bytes(b"x")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_pixels()).save(root / "a" / "a0.png", exif=exif)
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.ones((20, 30), dtype=np.uint8) * 77).save(tmp_path / "masks" / "a1.png")
    Image.fromarray(np.ones((20, 30), dtype=bool)).save(tmp_path / "masks" / "x9.png")
    audit_command(folders_dataset(root, mask_dir=tmp_path / "masks"), no_split, tmp_path / "out")
    head = "\n".join((tmp_path / "out" / "audit.md").read_text().splitlines()[:10])
    for words in (
        "6 images in 2 classes", "2 .xyz files", "2 images in helper folders", "1 masks named like no image (first: x9.png)",
        "1 of 6 images have a lesion mask; 1 cannot be read", "nothing but the value 77", "Labels: none refused",
        "1 images are stored turned",
    ):  # fmt: skip
        assert words in head, words


def test_a_split_that_the_data_do_not_allow_is_left_out_and_said(caplog):
    found = possible_splits(lambda how: no_split(how) if how == "grouped" else pd.DataFrame({"split": ["train"]}))
    assert list(found) == ["paper"] and "no grouped split: class x has 2 images" in caplog.text
