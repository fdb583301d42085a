"""Image files to pixels: the picture as a person sees it, or one line that names the file and says what is in it."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from common.errors import UsageError

# What is opened, by content; anything else that Pillow knows (EPS starts Ghostscript) is not tried.
FORMATS = ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 2**27  # 134 million: 400 MB as RGB. Told from the header, before anything is decoded
Image.MAX_IMAGE_PIXELS = MOST_PIXELS
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # `opened` refuses those itself
DICOM_SUFFIXES = (".dcm", ".dicom")
_ORIENTATION, _BITS, _PHOTOMETRIC, _PLANES, _SAMPLES, _SUBFILE = 274, 258, 262, 284, 339, 254  # TIFF tags
_TWELVE_BITS = 4096


@dataclass(frozen=True)
class Header:
    """What a file says of its picture before it is decoded; `width` and `height` are those of the upright picture."""

    format: str
    mode: str
    width: int
    height: int
    orientation: int


@contextmanager
def opened(path: Path | str) -> Iterator[Image.Image]:
    """The file as a Pillow image, its pixels not yet decoded.

    Raises:
        UsageError: missing, none of `FORMATS`, more than `MOST_PIXELS`, or (in the block) damaged; the message names the file.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UsageError(f"cannot read image {path}: {image.width} x {image.height} pixels; at most {MOST_PIXELS:,} are opened")
            yield image
    except FileNotFoundError:
        raise UsageError(f"image not found: {path}") from None
    except Image.UnidentifiedImageError:
        raise UsageError(f"cannot read image {path}: not an image file") from None
    except UsageError:
        raise
    except Exception as error:  # a damaged file makes Pillow's readers fail in any way
        said = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UsageError(f"cannot read image {path}: {said}") from None


def is_dicom(path: Path | str) -> bool:
    """Whether a file's name says DICOM."""
    return Path(path).suffix.lower() in DICOM_SUFFIXES


def read_header(path: Path | str) -> Header:
    """Format, mode and upright size. UsageError as `opened`."""
    if is_dicom(path):
        height, width = read_image(path).shape[:2]
        return Header("DICOM", "RGB", width, height, 1)
    with opened(path) as image:
        turned = _orientation(image)
        # Pillow gives the upright size of a TIFF, and the stored one of everything else.
        width, height = image.size[::-1] if turned >= 5 and image.format != "TIFF" else image.size
        return Header(str(image.format), _mode(image), width, height, turned)


def read_image(path: Path | str) -> np.ndarray:
    """Decode a file to upright RGB, `(height, width, 3)` uint8, 0..255.

    Grey is repeated, transparency dropped, CMYK converted, 16 bits reduced to their high byte, white-is-zero inverted; the EXIF or TIFF
    orientation is applied, as by every viewer.

    Raises:
        UsageError: missing, damaged (also in the middle), not an image, several pages, or pixels without an agreed range: signed,
            floating-point, 32 bits, 12 bits in 16, 16-bit planes.
    """
    if is_dicom(path):
        from common.data.dicom import read_dicom  # here: few data sets hold any

        return read_dicom(path)
    plain = _plain_jpeg(path)
    if plain is not None:
        return plain
    with opened(path) as image:
        deep, turned = _mode(image).startswith("16-bit"), check_kind(image, path)
        image.load()
        if image.mode.startswith("I"):
            values = upright(_sixteen(image, path), turned)
            return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        colours = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    if deep and colours.max() < _TWELVE_BITS >> 8:
        raise UsageError(f"cannot read image {path}: {_SHALLOW.format(_TWELVE_BITS)}")
    return upright(colours, turned)


_SHALLOW = "16-bit pixels that stay below {}, as 12-bit files do; save it with 8 bits, or stretched to all 16"


def _sixteen(image: Any, path: Path | str) -> np.ndarray:
    """`(h, w)` uint16 of a 16-bit grey file, dark to bright."""
    values = np.asarray(image).astype(np.int64)
    if 0 < values.max() < _TWELVE_BITS:
        raise UsageError(f"cannot read image {path}: {_SHALLOW.format(int(values.max()) + 1)}")
    values = np.clip(values, 0, 65535).astype(np.uint16)
    return 65535 - values if white_is_zero(image) else values


def white_is_zero(image: Any) -> bool:
    """Whether a 16-bit TIFF counts down from white, which Pillow leaves to us (it inverts 8 bits itself)."""
    return image.format == "TIFF" and image.mode.startswith("I") and image.tag_v2.get(_PHOTOMETRIC) == 0


def check_kind(image: Any, path: Path | str, any_range: bool = False) -> int:
    """UsageError for pages and pixels that stand for no one picture; returns the orientation that is still to be applied (1: none).

    `any_range`: pixels may be signed, floating-point or of 32 bits, since the caller looks at their values.
    """
    what = ""
    if image.format == "TIFF":
        tags = image.tag_v2
        bits, kind = max(tags.get(_BITS, (1,))), max(tags.get(_SAMPLES, (1,)))
        tile = image.tile[0].codec_name if image.tile else ""
        if bits == 16 and tags.get(_PLANES) == 2:
            what = "16-bit colour in planes; save it with interleaved colours or 8 bits"
        elif tags.get(_ORIENTATION, 1) >= 5 and tile == "raw":
            what = "an uncompressed TIFF with turned rows; save it upright"  # Pillow 12 mixes up its rows and columns
        elif kind == 2 and not any_range:
            what = f"signed {bits}-bit pixels have no agreed range; save it with 8 bits"
    if image.mode == "F" and not any_range:
        what = "floating-point pixels have no agreed range; save it with 8 bits"
    elif image.mode == "I" and image.format != "PPM" and not any_range and not what:
        what = "32-bit pixels have no agreed range; save it with 8 bits"
    if _several_pages(image):
        what = "holds several pages or frames; expected one picture a file"
    if what:
        raise UsageError(f"cannot read image {path}: {what}")
    return 1 if image.format == "TIFF" else _orientation(image)


def _several_pages(image: Any) -> bool:
    """Whether there is more than one picture: a JPEG's preview and a TIFF's smaller copies of itself do not count."""
    if image.format == "MPO" or getattr(image, "n_frames", 1) == 1:
        return False
    if image.format != "TIFF":
        return True
    try:
        for page in range(1, image.n_frames):
            image.seek(page)
            if not image.tag_v2.get(_SUBFILE, 0) & 1:
                return True
    finally:
        image.seek(0)
    return False


def _mode(image: Any) -> str:
    """Pillow's mode; 16-bit files are called that, since Pillow shows 16-bit colour as plain "RGB"."""
    if image.mode.startswith("I"):
        return "16-bit grey" if image.mode != "I" or image.format == "PPM" else "32-bit grey"
    deep = image.format == "TIFF" and max(image.tag_v2.get(_BITS, (1,))) == 16
    if image.format == "PNG" and image.tile:
        deep = str(image.tile[0].args).endswith(";16B")
    return f"16-bit {image.mode}" if deep else image.mode


def _orientation(image: Any) -> int:
    """EXIF or TIFF orientation, 1 (upright) to 8; 1 where it is missing or makes no sense."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # `getexif` would decode the whole image to look for it behind the pixels
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # metadata of any make: its damage is not the picture's
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """`(h, w, …)` as stored -> as seen (TIFF 6.0, tag 274)."""
    if orientation == 1:
        return pixels
    rows, columns = slice(None, None, -1 if orientation in (3, 4, 7, 6) else 1), slice(None, None, -1 if orientation in (2, 3, 7, 8) else 1)
    turned = pixels[rows, columns]
    return np.ascontiguousarray(turned.swapaxes(0, 1) if orientation >= 5 else turned)


def _plain_jpeg(path: Path | str) -> np.ndarray | None:
    """The upright pixels of a grey or three-channel 8-bit JPEG, or None, which leaves the file to Pillow.

    Pillow's pixels (same library underneath) in half the time; and libjpeg's warnings count: a file damaged in the middle is refused.
    """
    try:
        with open(path, "rb", buffering=0) as handle:
            data = handle.read()
        if data[:2] != b"\xff\xd8":
            return None
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except (OSError, ValueError):
        return None
    if height * width > MOST_PIXELS:
        return None  # `opened` says so
    try:
        if colours not in ("Gray", "YCbCr", "RGB"):
            simplejpeg.decode_jpeg(data, "CMYK")  # only to be sure that it is whole
            return None
        pixels = simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False)
    except ValueError as error:
        raise UsageError(f"cannot read image {path}: {error}") from None
    if b"Exif" not in data[:65536]:
        return pixels
    with opened(io.BytesIO(data)) as image:
        return upright(pixels, _orientation(image))
