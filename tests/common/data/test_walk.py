"""One walk: links, loops, permissions, helper folders, suffixes; nothing is lost without a count."""

import os
from pathlib import Path

import pytest

from common.data.walk import is_image, walk
from common.errors import UsageError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for name in ("a/1.PNG", "a/deep/2.jpeg", "b/3.jfif", "b/4.jpe", "b/5.gif", "b/6.ppm", "b/7.jp2", "b/8.Tif", "b/9.webp", "b/0.bmp"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_every_suffix_in_any_case_sorted_by_folders(tree: Path) -> None:
    found = walk(tree)
    assert len(found.images) == 10 and found.images[:2] == ("a/1.PNG", "a/deep/2.jpeg") and found.folders == ("a", "b")
    assert not found.passed
    assert is_image("x.JPG") and not is_image("._x.jpg") and not is_image("x.xyz")


def test_what_is_passed_over_is_counted_by_reason_and_folder(tree: Path) -> None:
    for name in ("a/x.xyz", "a/y.XYZ", "b/Thumbs.db", "b/.DS_Store", "b/README", "a/.ipynb_checkpoints/1.png", "a/@eaDir/1.PNG/THUMB.jpg"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    (tree / ".git/annex").mkdir(parents=True)
    (tree / ".git/annex/1.png").touch()
    (tree / "b/notes").symlink_to(tree / "nowhere")
    os.mkfifo(tree / "b/pipe.png")
    found = walk(tree)
    assert len(found.images) == 10
    assert found.reasons("a") == {".xyz files": 2, "images in helper folders": 2}
    expected = {".xyz files": 2, "hidden files": 2, "images in helper folders": 2, "broken links": 1, "special files": 1}
    assert found.reasons() == {**expected, "suffixless files": 1}


def test_linked_folders_are_followed_and_loops_end(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "store" / "p7").mkdir(parents=True)
    (tmp_path / "store" / "p7" / "x.png").touch()
    (tree / "a" / "p7").symlink_to(tmp_path / "store" / "p7")
    (tree / "a" / "up").symlink_to(tree)
    (tree / "a" / "self").symlink_to("self")
    (tmp_path / "store" / "p7" / "back").symlink_to(tree / "a")
    (tree / "c").symlink_to(tree / "b")
    found = walk(tree)
    assert "a/p7/x.png" in found.images and len(found.images) == 11
    assert found.reasons()["linked folders already read"] == 3 and found.reasons()["broken links"] == 1


def test_a_hidden_store_that_links_show_is_read(tmp_path: Path) -> None:
    (tmp_path / ".store" / "a").mkdir(parents=True)
    (tmp_path / ".store" / "a" / "x.png").touch()
    (tmp_path / "a").symlink_to(".store/a")
    assert walk(tmp_path).images == ("a/x.png",) and not walk(tmp_path).passed


def test_a_link_whose_image_is_not_there_stays_an_image(tree: Path) -> None:
    (tree / "a" / "annex.png").symlink_to("../.git/annex/objects/x")
    assert "a/annex.png" in walk(tree).images


def test_a_folder_that_belongs_to_something_else_is_left_out(tree: Path) -> None:
    assert walk(tree, without=[tree / "b"]).images == ("a/1.PNG", "a/deep/2.jpeg")
    assert walk(tree, without=[tree / "b"]).folders == ("a",) and not walk(tree, without=[tree / "b"]).passed
    assert len(walk(tree, without=[tree]).images) == 10


def test_a_folder_that_may_not_be_read_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refusing(path: str):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root may read every folder
    with pytest.raises(UsageError, match=r"--mask-dir .*a/deep: this folder cannot be read \(Permission denied\)"):
        walk(tree, "--mask-dir")


def test_names_that_are_not_utf8(tree: Path) -> None:
    os.rename(os.fsencode(tree / "a" / "1.PNG"), os.fsencode(tree / "a") + b"/k\xe9.png")
    name = next(name for name in walk(tree).images if name.startswith("a/k"))
    assert os.fsencode(name) == b"a/k\xe9.png" and (tree / name).is_file()
