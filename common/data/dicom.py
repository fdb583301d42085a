"""DICOM images as pictures (h, w, 3) uint8, as a viewer shows them by the standard (PS3.3 C.7.6.3, C.11.1, C.11.2), read by `pydicom`.

Stored values -> modality look-up (rescale slope and intercept) -> window or VOI look-up -> grey, MONOCHROME1 turned around; palette and YBR
colours -> RGB. Without a window the picture's own range is shown. No tag but the pixels leaves this room: messages name the file only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UsageError

# Rows times columns; larger ones are refused before they are decoded.
MOST_PIXELS = 100_000_000


def read_dicom(path: Path | str) -> np.ndarray:
    """The picture (h, w, 3) uint8.

    Raises:
        UsageError: not a DICOM file, an object without pixels (a report, say), several frames, too many pixels, or a compression that no
            installed handler decodes; one line that names the file.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        data = pydicom.dcmread(path)
    except (InvalidDicomError, EOFError, ValueError, AttributeError, KeyError):
        raise UsageError(f"{path}: not a DICOM file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or 'truncated'})") from None
    if "PixelData" not in data:
        raise UsageError(f"{path}: a DICOM object without pixels; expected an image")
    frames = int(data.get("NumberOfFrames") or 1)
    if frames != 1:
        raise UsageError(f"{path}: a DICOM object of {frames} frames; expected one, save the frame that is meant as an image of its own")
    if int(data.get("Rows") or 0) * int(data.get("Columns") or 0) > MOST_PIXELS:
        raise UsageError(f"{path}: {data.Rows} x {data.Columns} pixels; expected at most {MOST_PIXELS:,}")
    try:
        return _picture(data)
    except (NotImplementedError, RuntimeError, ValueError, AttributeError, KeyError, TypeError) as error:
        syntax = getattr(getattr(data, "file_meta", None), "TransferSyntaxUID", None)
        name = getattr(syntax, "name", "unknown encoding")
        said = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UsageError(f"{path}: its pixels cannot be decoded ({name}: {said})") from None


def _picture(data: Any) -> np.ndarray:
    from pydicom.pixels import apply_color_lut, apply_modality_lut

    kind = str(data.PhotometricInterpretation)
    pixels = data.pixel_array
    if kind in ("MONOCHROME1", "MONOCHROME2"):
        grey = _shown(np.asarray(apply_modality_lut(pixels, data), np.float64), data)
        grey = 255 - grey if kind == "MONOCHROME1" else grey
        return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)
    if kind == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, data)
        bits = int(data.RedPaletteColorLookupTableDescriptor[2])
        return np.rint(pixels.astype(np.float64) * (255 / (2**bits - 1))).astype(np.uint8)
    if kind != "RGB" and not kind.startswith("YBR"):  # pydicom gives YBR colours as RGB
        raise ValueError(f"photometric interpretation {kind[:20]}")
    top = 2 ** int(data.BitsStored) - 1
    return np.rint(pixels.astype(np.float64) * (255 / top)).astype(np.uint8)


def _shown(values: np.ndarray, data: Any) -> np.ndarray:
    """Grey levels 0..255 of rescaled values (h, w): through the first window, or VOI table, or the picture's own range."""
    from pydicom.pixels import apply_voi_lut

    centre, width = _first(data.get("WindowCenter")), _first(data.get("WindowWidth"))
    if centre is not None and width is not None and width > 0:
        return 255 * window(values, centre, width, str(data.get("VOILUTFunction") or "LINEAR"))
    if "VOILUTSequence" in data:
        bits = int(data.VOILUTSequence[0].LUTDescriptor[2])
        return np.asarray(apply_voi_lut(np.rint(values).astype(np.int64), data), np.float64) * (255 / (2**bits - 1))
    low, high = values.min(), values.max()
    return 255 * (values - low) / (high - low) if high > low else np.zeros_like(values)


def window(values: np.ndarray, centre: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """Shares 0..1 of the window (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    LINEAR: (x − (c − 0.5)) / (w − 1) + 0.5; LINEAR_EXACT: (x − c) / w + 0.5, both cut to 0..1; SIGMOID: 1 / (1 + exp(−4 (x − c) / w)).
    """
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - centre) / width))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if function != "LINEAR":
        raise ValueError(f"window function {function[:20]}")
    if width <= 1:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def _first(value: Any) -> float | None:
    """The first of several windows; None without one."""
    if value is None or value == "":
        return None
    try:
        return float(value)
    except TypeError:
        return float(value[0]) if len(value) else None
