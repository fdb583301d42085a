"""The loader on the layouts SIPaKMeD comes in, the printed split to the image, and the random views."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cervical import data
from cervical.experiments.base import CLASSES, CellSource
from cervical.experiments.finetune import DESCRIBED
from cervical.training.outcome import standard_notes
from cervical.training.stages import run_settings
from common.data.dataset import Dataset
from common.data.near_copies import hashes_of, near_pairs
from common.data.sample import ensure_sample
from common.data.splits import leakage
from common.errors import UsageError

# facts 1.1: images a class, test, validation, train.
COUNTS = {
    "Dyskeratotic": (813, 163, 130, 520),
    "Koilocytotic": (825, 165, 132, 528),
    "Metaplastic": (793, 159, 127, 507),
    "Parabasal": (787, 158, 126, 503),
    "Superficial-Intermediate": (831, 167, 133, 531),
}


def synthetic_manifest():
    rows = [
        {"image": f"im_{label}/{number // 5:03d}_{number % 5:02d}.bmp", "label": label, "group": f"{label}/{number // 5:03d}"}
        for label, (count, *_) in COUNTS.items()
        for number in range(count)
    ]
    return pd.DataFrame(rows)


def write_cells(folder: Path, suffix: str, names=("001_01", "001_02", "002_01")) -> None:
    folder.mkdir(parents=True)
    for index, name in enumerate(names):
        Image.new("RGB", (20 + index, 30), (200, 10 * index, 90)).save(folder / f"{name}{suffix}")


@pytest.mark.parametrize(("inner", "prefix", "suffix"), [("{}/{}/CROPPED", "im_", ".bmp"), ("{}", "im_", ".jpg"), ("{}", "", ".png")])
def test_loader_reads_every_layout(tmp_path, inner, prefix, suffix):
    for label in CLASSES:
        write_cells(tmp_path / inner.format(prefix + label, prefix + label), suffix)
    found = data.sipakmed_dataset(tmp_path)
    assert len(found.manifest) == 15 and set(found.manifest["label"]) == set(CLASSES)
    first = found.manifest.iloc[0]
    assert (tmp_path / first["image"]).is_file() and first["group"] == "Dyskeratotic/001"
    assert found.manifest["group"].nunique() == 10


def test_only_cropped_cells_are_read_and_the_rest_is_counted(tmp_path):
    for label in CLASSES:
        write_cells(tmp_path / f"im_{label}" / f"im_{label}" / "CROPPED", ".bmp")
        inner = tmp_path / f"im_{label}" / f"im_{label}"
        Image.new("RGB", (50, 40)).save(inner / "001.bmp")
        (inner / "001_cyt01.dat").write_text("1,2\n")
    found = data.sipakmed_dataset(tmp_path)
    assert len(found.manifest) == 15
    assert found.left_out == {"cluster images": 5, ".dat files": 5}


def test_cric_groups_span_classes(tmp_path):
    for label, names in (("Negative", ("a_1", "b_1")), ("HSIL", ("a_2", "c_1"))):
        write_cells(tmp_path / label, ".jpg", names)
    found = data.cric_dataset(tmp_path)
    assert found.manifest.groupby("group")["label"].nunique().to_dict() == {"a": 2, "b": 1, "c": 1}
    (tmp_path / "HSIL").rename(tmp_path / "cats")
    with pytest.raises(UsageError, match="the folder cats is no Bethesda class"):
        data.cric_dataset(tmp_path)


def test_missing_and_empty_classes_are_named(tmp_path):
    for label in CLASSES[:4]:
        write_cells(tmp_path / f"im_{label}", ".bmp")
    with pytest.raises(UsageError, match="im_Superficial-Intermediate"):
        data.sipakmed_dataset(tmp_path)
    (tmp_path / "im_Superficial-Intermediate").mkdir()
    with pytest.raises(UsageError, match="no image of a cell in im_Superficial-Intermediate"):
        data.sipakmed_dataset(tmp_path)


def test_printed_split_has_the_printed_counts():
    split = data.paper_split(synthetic_manifest(), seed=42)
    assert split["split"].value_counts().to_dict() == {"train": 2589, "test": 812, "validation": 648}
    for label, (_, test, validation, train) in COUNTS.items():
        part = split.loc[split["label"] == label, "split"].value_counts()
        assert (part["test"], part["validation"], part["train"]) == (test, validation, train)


def test_printed_split_does_not_depend_on_row_order():
    manifest = synthetic_manifest()
    mixed = manifest.sample(frac=1, random_state=3)
    plain, again = data.paper_split(manifest), data.paper_split(mixed)
    assert list(again["image"]) == list(mixed["image"])  # rows as given
    assert again.set_index("image")["split"].sort_index().equals(plain.set_index("image")["split"].sort_index())
    assert not data.paper_split(manifest, seed=1)["split"].equals(plain["split"])


def test_too_few_images_of_a_class_are_named():
    manifest = synthetic_manifest()
    few = manifest[(manifest["label"] != "Parabasal") | manifest["image"].str.contains("000_0[01]")]
    with pytest.raises(UsageError, match="Parabasal has only 2"):
        data.paper_split(few)


def test_real_files_have_the_printed_split_and_its_leak(shared_data):
    found = data.sipakmed_dataset(shared_data("sipakmed"))
    assert found.manifest["label"].value_counts().to_dict() == data.OFFICIAL_COUNTS
    split = data.paper_split(found.manifest, seed=42)
    test = leakage(split)["test"]
    # facts 1.1: 710 of 812 test cells share their slide with a training cell, per class as given there.
    assert (test["images"], test["shared"]) == (812, 710)
    assert [test["per_class"][name]["shared"] for name in CLASSES] == [136, 137, 118, 154, 165]
    grouped = data.split_manifest(found.manifest, "grouped", 0)
    assert leakage(grouped)["test"]["shared"] == 0
    assert grouped["split"].value_counts(normalize=True).to_dict() == pytest.approx(
        {"train": 0.64, "validation": 0.16, "test": 0.2}, abs=0.01
    )


def same_cells(number: int = 40) -> pd.DataFrame:
    """Cells of groups that the list of doubles names, and of as many others."""
    listed = pd.read_csv(data.SAME_CELLS)
    pairs = [cell.rsplit("_", 1)[0] for cell in [*listed["cell"][:number], *listed["same_cell"][:number]]]
    groups = sorted({*pairs, *(f"{label}/9{number:02d}" for label in CLASSES for number in range(30))})
    return pd.DataFrame(
        [{"image": f"{group}_{cell}.bmp", "label": group.split("/")[0], "group": group} for group in groups for cell in "12"]
    )


def test_cluster_images_that_show_the_same_cell_stay_on_one_side():
    listed = pd.read_csv(data.SAME_CELLS)
    assert (listed["cell"] != listed["same_cell"]).all() and listed["bits"].max() <= 60 and len(listed) == 131
    manifest = same_cells()
    plain = Dataset("sipakmed", Path("nowhere"), manifest)
    apart = data.split_manifest(manifest, "grouped", 0).set_index("group")["split"].to_dict()
    fields = data.with_fields(plain).manifest
    whole = data.split_manifest(fields, "grouped", 0)
    part = whole.set_index("group")["split"].to_dict()
    pairs = [[name.rsplit("_", 1)[0] for name in row] for row in listed[["cell", "same_cell"]].to_numpy().tolist()]
    pairs = [pair for pair in pairs if set(pair) <= set(part)]
    assert len(pairs) >= 40 and any(apart[one] != apart[other] for one, other in pairs)
    assert all(part[one] == part[other] for one, other in pairs)
    assert whole["group"].equals(manifest["group"]) and leakage(whole)["test"]["shared"] == 0
    # A chain of three: 008 shows a cell of 018 and one of 069.
    chain = fields.set_index("group")["field"]
    assert len({*chain[["Dyskeratotic/008", "Dyskeratotic/018", "Dyskeratotic/069"]]}) == 1
    assert data.paper_split(fields, 0)["split"].equals(data.paper_split(manifest, 0)["split"])


@pytest.mark.parametrize(("split", "doubles"), [("paper", True), ("grouped", False)])
def test_a_report_says_how_many_test_cells_have_a_double_in_training(split: str, doubles: bool):
    dataset = data.with_fields(Dataset("sipakmed", Path("nowhere"), same_cells()))
    manifest = data.split_manifest(dataset.manifest, split, 0)
    settings = replace(DESCRIBED, dataset="sipakmed", split=split)
    job = SimpleNamespace(cells=SimpleNamespace(dataset=dataset, manifest=manifest), settings=settings)
    note = next(line for line in standard_notes(job, leakage(manifest)) if line.startswith("SIPaKMeD shows some cells"))
    number = int(note.split(": ")[1].split()[0])
    known = manifest[manifest["split"] == "train"]
    test = manifest[manifest["split"] == "test"]
    expected = (test["field"].isin(known["field"]) & ~test["group"].isin(known["group"])).sum()
    assert number == expected and (number > 0) == doubles


def test_a_grouped_run_says_that_it_knows_of_the_same_cells():
    dataset = data.with_fields(Dataset("sipakmed", Path("nowhere"), same_cells()))
    settings = replace(DESCRIBED, dataset="sipakmed", split="grouped")
    assert run_settings(settings, dataset)["same_cells"] == "on one side"
    assert "same_cells" not in run_settings(replace(settings, split="paper"), dataset)
    assert "same_cells" not in run_settings(settings, Dataset("folders", Path("nowhere"), same_cells()))


def test_the_real_grouped_split_has_no_cell_on_two_sides(shared_data):
    found = data.find(replace(DESCRIBED, dataset="sipakmed", data_dir=shared_data("sipakmed")))
    assert found.manifest["group"].nunique() == 966 and found.manifest["field"].nunique() == 854
    split = data.split_manifest(found.manifest, "grouped", 42)
    parts = split["split"].to_numpy()
    assert split["split"].value_counts(normalize=True).to_dict() == pytest.approx(
        {"train": 0.64, "validation": 0.16, "test": 0.2}, abs=0.01
    )
    hashes = hashes_of([found.data_dir / name for name in found.manifest["image"]])
    pairs = near_pairs(hashes)
    across = found.manifest["group"].to_numpy()
    assert sum(across[one] != across[other] for one, other, _ in pairs) > 150
    assert [(one, other) for one, other, _ in pairs if parts[one] != parts[other]] == []


@pytest.fixture(scope="module")
def cells(sample_cache) -> data.Cells:
    settings = replace(DESCRIBED, image_size=24, copies=2, cache_dir=sample_cache, limit=50)
    return data.prepare(data.load_for_training(settings), settings)


def test_copies_follow_their_image_and_leave_test_images_alone(cells):
    training = (cells.manifest["split"] == "train").to_numpy()
    assert len(cells.train.rows) == 3 * training.sum() and len(cells.train.images) == len(cells.train.labels)
    assert cells.train.labels[::3].tolist() == cells.test.labels[training].tolist()
    originals = cells.train.images[::3]
    assert (originals == cells.test.images[training]).all()
    assert (cells.train.images[1::3] != originals).any(axis=(1, 2, 3)).all()
    assert not set(cells.test.rows) & set(np.flatnonzero(training))
    assert cells.class_counts.sum() == training.sum()


def test_sample_is_synthetic_and_bounded(sample_cache):
    found = data.load(CellSource(cache_dir=sample_cache), limit=25)
    assert found.synthetic and found.name == "sample" and len(found.manifest) == 25


def test_unreadable_images_stop_the_loader_or_are_skipped(tmp_path, sample_cache):
    shutil.copytree(ensure_sample("sipakmed", sample_cache), tmp_path / "cells")
    broken = sorted((tmp_path / "cells").rglob("CROPPED/*.bmp"))[0]
    broken.write_bytes(b"no image")
    options = {"dataset": "sipakmed", "data_dir": tmp_path / "cells", "cache_dir": tmp_path / "cache"}
    with pytest.raises(UsageError, match=broken.name):
        data.load(CellSource(**options))
    assert len(data.load(CellSource(**options, skip_unreadable=True)).manifest) == 299


def test_views_keep_shape_and_depend_on_the_generator_only():
    images = np.random.default_rng(0).integers(0, 256, (6, 20, 20, 3)).astype("uint8")
    first, targets = data.random_views(images, "targets", np.random.default_rng(1))
    again, _ = data.random_views(images, None, np.random.default_rng(1))
    other, _ = data.random_views(images, None, np.random.default_rng(2))
    assert first.shape == images.shape and first.dtype == np.uint8 and targets == "targets"
    assert (first == again).all() and (first != other).any()


def test_views_flip_half_the_images_and_turn_and_scale_little(monkeypatch):
    monkeypatch.setattr(data, "ROTATION", 0.0)
    monkeypatch.setattr(data, "SCALING", 0.0)
    images = np.random.default_rng(0).integers(0, 256, (200, 9, 9, 3)).astype("uint8")
    views, _ = data.random_views(images, None, np.random.default_rng(0))
    same = (views == images).all(axis=(1, 2, 3))
    flipped = (views == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same | flipped).all() and 70 < flipped.sum() < 130


def test_views_scale_a_centred_disc_within_a_fifth():
    rows, columns = np.mgrid[:60, :60]
    disc = (((rows - 29.5) ** 2 + (columns - 29.5) ** 2) < 15**2).astype("uint8") * 255
    views, _ = data.random_views(np.repeat(disc[None, :, :, None], 100, axis=0).repeat(3, axis=3), None, np.random.default_rng(0))
    widths = (views[:, 30, :, 0] > 127).sum(axis=1)
    heights = (views[:, :, 30, 0] > 127).sum(axis=1)
    assert widths.min() >= 23 and widths.max() <= 37 and heights.min() >= 23 and heights.max() <= 37
    assert np.corrcoef(widths, heights)[0, 1] < 0.5  # the two factors are independent


def test_channel_statistics_are_exact():
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 5, 3)).astype("uint8")
    part = data.Part(images, np.zeros(7), np.array([0, 2, 3, 6]))
    mean, variance = data.channel_statistics(part, block=3)
    assert mean == pytest.approx(images[[0, 2, 3, 6]].mean(axis=(0, 1, 2)))
    assert variance == pytest.approx(images[[0, 2, 3, 6]].astype(float).var(axis=(0, 1, 2)))


def test_free_views_turn_by_any_angle():
    half = np.zeros((40, 40), "uint8")
    half[:20] = 255
    views, _ = data.free_views(np.repeat(half[None, :, :, None], 40, axis=0).repeat(3, axis=3), None, np.random.default_rng(0))
    tops = views[:, 5, 20, 0]
    assert (tops > 127).any() and (tops < 127).any()
    assert views.dtype == np.uint8 and views.shape == (40, 40, 40, 3)
