import os

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from common.errors import UsageError
from feedback.page.files import ImageFolder

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype("uint8")


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for name in ("b.png", "sub/a.png", "b_segmentation.png", "b_superpixels.png"):
        Image.fromarray(PIXELS).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def test_lists_images_but_neither_masks_nor_what_lies_outside(root, tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "secret.png")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    folder = ImageFolder(root, tmp_path / "uploads")
    assert folder.names() == ["b.png", "sub/a.png"]
    np.testing.assert_array_equal(folder.read("sub/a.png"), PIXELS)


def test_an_image_that_no_browser_can_ask_for_is_left_out_and_said(root, tmp_path, caplog):
    """Its name has a byte that is no UTF-8; Gradio's answer, and with it the whole page, would fail."""
    (root / "b.png").rename(os.fsdecode(os.fsencode(root) + b"/caf\xe9.png"))
    assert ImageFolder(root, tmp_path / "uploads").names() == ["sub/a.png"]
    assert "left out: 1 images with a name that is no UTF-8" in caplog.text


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "sub/../b.png", "upload/../../b", "upload/0123456789abcdef", "", "c.png"])
def test_no_path_is_built_from_a_name(root, tmp_path, name):
    Image.fromarray(PIXELS).save(tmp_path / "secret.png")
    with pytest.raises(UsageError, match="no such image in the folder"):
        ImageFolder(root, tmp_path / "uploads").read(name)


def test_uploads_are_checked_and_only_their_pixels_are_kept(root, tmp_path):
    folder = ImageFolder(root, tmp_path / "uploads", max_mb=0.01)
    note = PngImagePlugin.PngInfo()
    note.add_text("patient", "somebody")
    Image.fromarray(PIXELS).save(tmp_path / "Somebody.png", pnginfo=note)
    name = folder.add(tmp_path / "Somebody.png")
    assert folder.add(tmp_path / "Somebody.png") == name
    assert folder.names() == ["b.png", "sub/a.png", name]
    np.testing.assert_array_equal(folder.read(name), PIXELS)
    assert b"somebody" not in folder.path(name).read_bytes().lower()
    (tmp_path / "broken.png").write_bytes((tmp_path / "Somebody.png").read_bytes()[:60])
    with pytest.raises(UsageError, match="broken.png: "):
        folder.add(tmp_path / "broken.png")
    (tmp_path / "page.jpg").write_text("<html>")
    with pytest.raises(UsageError, match="page.jpg: cannot be read as an image"):
        folder.add(tmp_path / "page.jpg")
    noise = np.random.default_rng(1).integers(0, 256, (100, 100, 3)).astype("uint8")
    Image.fromarray(noise).save(tmp_path / "large.png")
    with pytest.raises(UsageError, match=r"the file has 0.0 MB; at most 0.01 are opened"):
        folder.add(tmp_path / "large.png")
    assert len(folder.names()) == 3


def test_too_many_pixels_are_refused_from_the_header(root, tmp_path):
    # 60 million white pixels are a file of a few kilobytes.
    Image.new("1", (10_000, 6_000)).save(tmp_path / "bomb.png")
    with pytest.raises(UsageError, match="10000 x 6000 pixels; at most 50 million"):
        ImageFolder(root, tmp_path / "uploads").add(tmp_path / "bomb.png")


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no images found"):
        ImageFolder(tmp_path, tmp_path / "uploads")
