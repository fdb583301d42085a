"""The images of a session: a folder that nothing leads out of, and uploads that are checked before anything looks at them."""

import hashlib
import io
import logging
import re
from pathlib import Path

import numpy as np
from PIL import Image

from common.data.dermoscopy import is_beside
from common.data.images import read_image
from common.data.pixels import read_header
from common.data.walk import walk
from common.errors import UsageError
from common.runs.files import atomic

log = logging.getLogger(__name__)

MAX_PIXELS = 50_000_000
UPLOAD = "upload/"


class ImageFolder:
    """Images under `root`, named by their path relative to it, and uploads, kept as PNG files in `uploads`.

    Raises:
        UsageError: no image there.
    """

    def __init__(self, root: Path, uploads: Path, max_mb: float = 20.0) -> None:
        self.root, self.uploads, self.max_bytes = Path(root).resolve(), Path(uploads), int(max_mb * 1e6)
        found = (self.root / name for name in walk(self.root, "--images").images if not is_beside(name))
        # A link may lead out of the folder; what it points to decides.
        self._paths = {p.relative_to(self.root).as_posix(): p for p in found if p.is_file() and p.resolve().is_relative_to(self.root)}
        odd = [name for name in self._paths if name != name.encode(errors="replace").decode()]
        if odd:
            log.warning("left out: %d images with a name that is no UTF-8, which no browser can ask for (%r, …)", len(odd), odd[0])
            self._paths = {name: path for name, path in self._paths.items() if name not in odd}
        if not self._paths:
            raise UsageError(f"--images {root}: no images found")

    def names(self) -> list[str]:
        """All images by name, uploads last."""
        uploads = sorted(self.uploads.glob("*.png")) if self.uploads.is_dir() else []
        return [*self._paths, *(UPLOAD + path.stem for path in uploads)]

    def path(self, name: str) -> Path:
        """File of an image. UsageError for a name that is not in the list: no path is ever built from what a browser sends."""
        if name in self._paths:
            return self._paths[name]
        if name.startswith(UPLOAD) and re.fullmatch(r"[0-9a-f]{16}", name.removeprefix(UPLOAD)):
            path = self.uploads / f"{name.removeprefix(UPLOAD)}.png"
            if path.is_file():
                return path
        raise UsageError(f"{name}: no such image in the folder")

    def read(self, name: str) -> np.ndarray:
        """`(height, width, 3)` uint8 RGB. UsageError: unknown name, too large, or not decodable."""
        path = self.path(name)
        self._check(path, name)
        try:
            return read_image(path)
        except UsageError as error:
            raise UsageError(f"{name}: {str(error).replace(str(path), 'the file')}") from None

    def add(self, path: Path) -> str:
        """Take an uploaded file in and return its name. Only its pixels are kept: no metadata, no name of a person or folder.

        Raises:
            UsageError: too large, or not an image.
        """
        path = Path(path)
        self._check(path, path.name)
        try:
            image = read_image(path)
        except UsageError as error:
            raise UsageError(f"{path.name}: {str(error).replace(str(path), 'the file')}") from None
        name = pixels_digest(image)
        if not (self.uploads / f"{name}.png").is_file():
            write_png(self.uploads / f"{name}.png", image)
        return UPLOAD + name

    def _check(self, path: Path, name: str) -> None:
        """File size and pixel count from the header, before anything is decoded."""
        try:
            if path.stat().st_size > self.max_bytes:
                raise UsageError(f"{name}: the file has {path.stat().st_size / 1e6:.1f} MB; at most {self.max_bytes / 1e6:g} are opened")
        except OSError:
            raise UsageError(f"{name}: cannot be read as an image") from None
        try:
            header = read_header(path)
        except UsageError:
            raise UsageError(f"{name}: cannot be read as an image") from None
        if header.width * header.height > MAX_PIXELS:
            raise UsageError(f"{name}: {header.width} x {header.height} pixels; at most {MAX_PIXELS // 10**6} million are opened")


def pixels_digest(image: np.ndarray) -> str:
    """16 hexadecimal digits of SHA-256 over size and pixels."""
    return hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()[:16]


def write_png(path: Path, image: np.ndarray) -> None:
    """`(h, w)` bool or uint8, or `(h, w, 3)` uint8, to a PNG file that is whole or absent."""
    array = image.astype(np.uint8) * 255 if image.dtype == bool else image
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    with atomic(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
