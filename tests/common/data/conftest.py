"""A small folder of images that several test files read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, "b" and "a", of three images each: s1_0, s1_1, s2_0."""
    rng = np.random.default_rng(0)
    for label in ("b", "a"):
        (tmp_path / "data" / label / "deep").mkdir(parents=True)
        for name in ("s1_0.png", "deep/s1_1.jpg", "s2_0.bmp"):
            Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(tmp_path / "data" / label / name)
    (tmp_path / "data" / "a" / "notes.txt").write_text("not an image")
    (tmp_path / "data" / "a" / "._s1_0.png").write_bytes(b"left by macOS")
    (tmp_path / "data" / "__MACOSX").mkdir()
    return tmp_path / "data"
