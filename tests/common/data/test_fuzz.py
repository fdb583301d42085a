"""Any folder of files gives a data set or one line that says what is wrong with it, never a traceback."""

import io
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from common.data.audit import audit, write_audit
from common.data.fingerprint import fingerprint
from common.data.folders import folders_dataset
from common.data.images import cached_images
from common.data.masks import cached_masks, check_masks
from common.data.readable import check_readable
from common.data.splits import grouped_split, stratified_split
from common.errors import UsageError

STEMS = st.sampled_from(["1", "2", "s1_3", "é", "e\u0301", "x y", "1_segmentation", ".hid", "A", "a", "名", "-", "1_mask"])
RAW = st.binary(min_size=1, max_size=6).filter(lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b".."))
NAMES = st.one_of(STEMS.map(os.fsencode), RAW)
SUFFIXES = st.sampled_from([".png", ".PNG", ".jpg", ".jpeg", ".tif", ".gif", ".webp", ".bmp", ".ppm", ".jp2", ".dcm", ".txt", ""])
FOLDERS = st.sampled_from([b"a", b"b", b"a/p1", b"b/p1", b"a/.ipynb_checkpoints", b"b/@eaDir", b"train/a", b"test/a", b"k\xe9", b"."])
MODES = ("1", "L", "RGB", "RGBA", "LA", "P", "CMYK", "I;16", "F", "I")
KINDS = st.sampled_from(("image", "mask", "cut", "empty", "text", "link", "up", "broken link", "pages"))


@st.composite
def files(draw: st.DrawFn) -> list[tuple[bytes, str, str, int, int]]:
    """(path, kind, Pillow mode, highest value, orientation) of a few files."""
    one = st.tuples(FOLDERS, NAMES, SUFFIXES, KINDS, st.sampled_from(MODES), st.sampled_from((1, 2, 100, 255)), st.integers(0, 9))
    drawn = draw(st.lists(one, max_size=7))
    return [
        (folder + b"/" + name + os.fsencode(suffix), kind, mode, top, turned) for folder, name, suffix, kind, mode, top, turned in drawn
    ]


def _content(kind: str, mode: str, top: int, turned: int) -> bytes:
    """Bytes of a small picture or mask in a format that takes the mode."""
    disc = (np.hypot(*np.mgrid[-4:4, -5:5]) < 3) * top
    values = disc if kind == "mask" else np.arange(80).reshape(8, 10) * top // 80
    if mode in ("F", "I", "I;16"):
        image = Image.fromarray(values.astype({"F": np.float32, "I": np.int32, "I;16": np.uint16}[mode]))
    else:
        image = Image.fromarray(values.astype(np.uint8)).convert({"P": "RGB", "LA": "L", "1": "L"}.get(mode, mode)).convert(mode)
    name = {"CMYK": "JPEG", "F": "TIFF", "I": "TIFF", "RGB": ("PNG", "JPEG", "BMP", "WEBP")[top % 4]}.get(mode, "PNG")
    how: dict = {"save_all": True, "append_images": [image]} if kind == "pages" and name in ("TIFF", "WEBP") else {}
    if turned and name in ("PNG", "JPEG", "WEBP"):
        how["exif"] = Image.Exif()
        how["exif"][0x0112] = turned
    buffer = io.BytesIO()
    image.save(buffer, name, **how)
    return buffer.getvalue()


def _write(root: Path, listed: list[tuple[bytes, str, str, int, int]]) -> None:
    base = os.fsencode(root)
    for name, kind, mode, top, turned in listed:
        path = base + b"/" + name
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if kind in ("link", "up", "broken link"):
                os.symlink({"link": base + b"/a", "up": b"..", "broken link": b"nowhere"}[kind], path)
                continue
            content = b"" if kind == "empty" else b"text" if kind == "text" else _content(kind, mode, top, turned)
            with open(path, "wb") as file:
                file.write(content[: len(content) // 2] if kind == "cut" else content)
        except OSError:
            continue  # a name is taken by a folder, or a folder's by a file


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(files(), files(), st.booleans(), st.sampled_from([None, r"(s\d)_", r"([^/]+)\.", "p1"]), st.booleans())
def test_no_folder_gives_a_traceback(images, masks, with_masks: bool, pattern: str | None, skip: bool) -> None:
    root = Path(tempfile.mkdtemp())
    try:
        # Two classes with an image each, so that most examples get past the first check.
        sure = [(os.fsencode(f"{label}/s{number}_0.png"), "image", "RGB", 255, 0) for number, label in enumerate("aabb")]
        _write(root / "data", [*images, *sure])
        _write(root / "masks", [*masks, (b"a/s0_0.png", "mask", "L", 1, 0)])
        try:
            dataset = folders_dataset(root / "data", pattern, root / "masks" if with_masks else None)
            write_audit(audit(dataset, {}), root / "audit")
            dataset = check_readable(dataset, skip, root / "cache", (8, "nearest"))
            assert len(cached_images(dataset, 8, "nearest", root / "cache")) == len(dataset.manifest)
            assert len(fingerprint(dataset)) == 16
            dataset.manifest.to_csv(root / "manifest.csv", index=False, errors="surrogateescape")
            for split in (stratified_split, grouped_split):
                split(dataset.manifest, (0.5, 0.0, 0.5), 0)
            if with_masks:
                check_masks(dataset, root / "cache")
                assert set(np.unique(cached_masks(dataset, "mask_lesion", 8, root / "cache"))) <= {0, 1}
        except UsageError as error:
            assert str(error).strip()  # the command line makes one line of it, whatever the names hold
    finally:
        shutil.rmtree(root)
