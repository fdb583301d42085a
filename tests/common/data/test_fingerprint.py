"""Identity by content: images, masks, labels and groups, and what is read again when."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data import fingerprint as module
from common.data.fingerprint import file_hashes, fingerprint
from common.data.folders import folders_dataset
from common.errors import UsageError


def test_fingerprint_ignores_row_order_and_sees_labels_groups_and_sizes(folder: Path) -> None:
    dataset = folders_dataset(folder)
    first = fingerprint(dataset)
    assert len(first) == 16 and int(first, 16) >= 0
    shuffled = replace(dataset, manifest=dataset.manifest.sample(frac=1, random_state=1))
    assert fingerprint(shuffled) == first
    assert fingerprint(replace(dataset, manifest=dataset.manifest.assign(group="g"))) != first
    assert fingerprint(replace(dataset, manifest=dataset.manifest.iloc[1:])) != first
    with open(folder / "a" / "s1_0.png", "ab") as handle:
        handle.write(b"x")
    assert fingerprint(dataset) != first


def test_another_picture_of_the_same_size_in_bytes_is_another_data_set(folder: Path, tmp_path: Path) -> None:
    dataset = replace(folders_dataset(folder), cache_dir=tmp_path / "cache")
    first = fingerprint(dataset)
    path = folder / "a" / "s2_0.bmp"
    status = path.stat()
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a copy that keeps times: the time of the change of the file tells
    assert fingerprint(dataset) != first


def test_a_file_that_was_only_touched_is_the_same_data(folder: Path, tmp_path: Path) -> None:
    dataset = replace(folders_dataset(folder), cache_dir=tmp_path / "cache")
    first = fingerprint(dataset)
    for path in folder.rglob("*.png"):
        os.utime(path, ns=(1, 1))
    assert fingerprint(dataset) == first


def test_masks_count_where_they_are_trained_on(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    for label in "ab":
        (tmp_path / "masks" / label).mkdir()
        Image.new("1", (10, 12), 1).save(tmp_path / "masks" / label / "s1_0.png")
    plain, masked = folders_dataset(folder), folders_dataset(folder, mask_dir=tmp_path / "masks")
    first = fingerprint(masked)
    assert fingerprint(masked, masks=False) == fingerprint(plain) != first
    Image.new("1", (10, 12), 0).save(tmp_path / "masks" / "b" / "s1_0.png")
    assert fingerprint(masked) != first


def test_only_changed_files_are_read_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLED_SECONDS", -1)
    names = list(folders_dataset(folder).manifest["image"])
    first = file_hashes(folder, names, tmp_path / "cache")
    read: list[int] = []
    each = module.for_each
    monkeypatch.setattr(module, "for_each", lambda work, count, *rest, **more: (read.append(count), each(work, count, *rest, **more)))
    assert file_hashes(folder, names, tmp_path / "cache") == first
    (folder / "a" / "s2_0.bmp").write_bytes(b"other")
    assert {name for name, value in file_hashes(folder, names, tmp_path / "cache").items() if value != first[name]} == {"a/s2_0.bmp"}
    assert read == [0, 1]
    note = next((tmp_path / "cache" / "hashes").iterdir())
    note.write_text(note.read_text()[:40])  # cut off
    assert file_hashes(folder, names, tmp_path / "cache").keys() == first.keys() and read[-1] == len(names)


def test_a_file_that_changed_just_now_is_read_again(folder: Path, tmp_path: Path) -> None:
    file_hashes(folder, ["a/s1_0.png"], tmp_path / "cache")
    assert not (tmp_path / "cache" / "hashes").exists()


def test_missing_files_are_named_or_stand_for_themselves(folder: Path) -> None:
    with pytest.raises(UsageError, match="image not found: .*gone.png"):
        file_hashes(folder, ["gone.png"])
    assert file_hashes(folder, ["gone.png"], missing="") == {"gone.png": ""}
