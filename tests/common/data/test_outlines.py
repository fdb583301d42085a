"""Experts' outlines are masks: drawn cells in SIPaKMeD's layout, areas by hand, and bad files in one line."""

import numpy as np
import pytest

from cervical.data import find
from cervical.experiments.base import CellSource
from common.data.images import read_image
from common.data.masks import read_mask
from common.data.outlines import outline_mask, read_outline, read_outline_mask
from common.data.walk import is_outline
from common.errors import UsageError


def test_a_rectangle_by_hand(tmp_path):
    (tmp_path / "a.dat").write_text("2,1\n5,1\n5,3\n2 3\n\n")
    assert read_outline(tmp_path / "a.dat").tolist() == [[2, 1], [5, 1], [5, 3], [2, 3]]
    mask = outline_mask(tmp_path / "a.dat", 8, 6)
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:6] = True  # corners belong to the outline
    assert ((mask > 0) == expected).all() and mask.dtype == np.uint8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n3,4\n", "2 corners"),
        ("1,2\nx,y\n3,4\n", "line 2 is 'x,y'"),
        ("1,2,3\n", "line 1"),
        ("0,0\n9,0\n9,30\n", "outside its image of 10x8"),
    ],
)
def test_bad_outlines_are_one_line(tmp_path, text, message):
    (tmp_path / "a.dat").write_text(text)
    with pytest.raises(UsageError, match=message) as raised:
        outline_mask(tmp_path / "a.dat", 10, 8)
    assert "a.dat" in str(raised.value) and "\n" not in str(raised.value)


def test_drawn_cells_lie_in_their_outlines(sample_cache):
    dataset = find(CellSource(cache_dir=sample_cache))
    manifest = dataset.manifest
    assert {"mask_cytoplasm", "mask_nucleus"} <= set(manifest) and (manifest["mask_nucleus"] != "").all()
    darker = []
    for _, row in manifest.iloc[::15].iterrows():
        image = read_image(dataset.data_dir / row["image"])
        cell, nucleus = (read_mask(dataset.data_dir / row[f"mask_{part}"]) for part in ("cytoplasm", "nucleus"))
        assert cell.shape == nucleus.shape == image.shape[:2]
        assert (nucleus & ~cell).sum() <= 0.1 * nucleus.sum() and 0 < nucleus.sum() < cell.sum()
        darker.append(image[nucleus].mean() < image[~cell].mean())
    assert np.mean(darker) > 0.9, "nuclei are darker than what lies around the cell"


def test_an_outline_needs_its_image(tmp_path):
    (tmp_path / "2_nuc.dat").write_text("2,1\n5,1\n5,3\n")
    with pytest.raises(UsageError, match="an outline without its image"):
        read_outline_mask(tmp_path / "2_nuc.dat")
    (tmp_path / "2.bmp").write_bytes(b"BM, and then nothing")
    with pytest.raises(UsageError, match=r"cannot read image .*2\.bmp"):
        read_mask(tmp_path / "2_nuc.dat")
    assert is_outline("a/2_nuc.dat") and not is_outline("a/2_nuc.png")
