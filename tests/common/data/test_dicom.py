"""DICOM pictures against values worked out by hand from the standard's formulas."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

from common.data.dicom import read_dicom, window
from common.data.pixels import is_dicom
from common.errors import UsageError


def write(path: Path, pixels: np.ndarray | None, kind: str = "MONOCHROME2", bits: int = 12, **tags: object) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = tags.pop("syntax", ExplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", generate_uid()
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID = "Somebody^Secret", "12345"
    if pixels is not None:
        data.Rows, data.Columns = pixels.shape[:2]
        data.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
        if pixels.ndim == 3:
            data.PlanarConfiguration = 0
        data.PhotometricInterpretation = kind
        data.BitsAllocated = 8 * pixels.dtype.itemsize
        data.BitsStored, data.HighBit = bits, bits - 1
        data.PixelRepresentation = int(pixels.dtype.kind == "i")
        data.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def test_a_window_on_rescaled_values(tmp_path: Path) -> None:
    stored = np.array([[0, 1000, 1024], [1064, 1104, 4095]], np.uint16)
    path = write(tmp_path / "a.dcm", stored, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=80)
    found = read_dicom(path)
    values = stored.astype(float) - 1024  # Hounsfield units; the window 40 ± 40 by PS3.3 C.11.2.1.2
    expected = np.clip((values - 39.5) / 79 + 0.5, 0, 1) * 255
    assert found.shape == (2, 3, 3) and np.abs(found[..., 0] - expected).max() <= 0.5
    assert (found[..., 0] == found[..., 2]).all() and found[0, 0, 0] == 0 and found[1, 2, 0] == 255


def test_white_is_zero_is_turned_and_twelve_bits_without_a_window_are_no_night(tmp_path: Path) -> None:
    stored = np.array([[0, 4095], [2048, 1024]], np.uint16)
    plain, turned = (read_dicom(write(tmp_path / f"{kind}.dcm", stored, kind))[..., 0] for kind in ("MONOCHROME2", "MONOCHROME1"))
    assert plain.tolist() == [[0, 255], [128, 64]] and np.abs(255 - plain.astype(int) - turned).max() <= 1
    signed = read_dicom(write(tmp_path / "signed.dcm", np.array([[-100, 0], [100, 50]], np.int16), bits=16))[..., 0]
    assert signed.tolist() == [[0, 128], [255, 191]]


def test_the_three_window_functions_by_hand() -> None:
    values = np.array([0.0, 50, 100])
    assert window(values, 50, 100, "LINEAR_EXACT") == pytest.approx([0, 0.5, 1])
    assert window(values, 50, 101, "LINEAR") == pytest.approx([0.005, 0.505, 1.0])
    assert window(values, 50, 100, "SIGMOID") == pytest.approx([1 / (1 + np.e**2), 0.5, 1 / (1 + np.e**-2)])
    assert window(values, 50, 1).tolist() == [0, 1, 1]


def test_the_linear_window_is_pydicoms(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 4096, (20, 20)).astype(np.uint16)
    path = write(tmp_path / "a.dcm", stored, WindowCenter=[1500, 40], WindowWidth=[1000, 80])
    theirs = pydicom.pixels.apply_windowing(stored, pydicom.dcmread(path), index=0)  # in 0..4095, as the stored bits
    assert np.abs(read_dicom(path)[..., 0] - theirs * 255 / 4095).max() <= 0.51


def test_colour_comes_as_rgb(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    assert np.array_equal(read_dicom(write(tmp_path / "rgb.dcm", rgb, "RGB", bits=8)), rgb)
    ybr = pydicom.pixels.convert_color_space(rgb, "RGB", "YBR_FULL")
    assert np.abs(read_dicom(write(tmp_path / "ybr.dcm", ybr, "YBR_FULL", bits=8)).astype(int) - rgb).max() <= 2


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"pixels": None}, "a DICOM object without pixels; expected an image"),
        ({"NumberOfFrames": 3, "pixels": np.zeros((6, 2), np.uint16)}, "a DICOM object of 3 frames; expected one"),
        ({"syntax": JPEG2000Lossless}, "its pixels cannot be decoded"),
    ],
)
def test_what_is_no_single_picture_is_one_line_without_the_patient(tmp_path: Path, tags: dict, said: str) -> None:
    pixels = tags.pop("pixels", np.zeros((2, 2), np.uint16))
    if "syntax" in tags:
        from pydicom.encaps import encapsulate

        tags["PixelData"] = encapsulate([b"nothing"])
    with pytest.raises(UsageError) as caught:
        read_dicom(write(tmp_path / "a.dcm", pixels, **tags))
    message = str(caught.value)
    assert said in message and "a.dcm" in message and "\n" not in message and "Secret" not in message and "12345" not in message


def test_other_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"hello")
    with pytest.raises(UsageError, match="a.dcm: not a DICOM file"):
        read_dicom(tmp_path / "a.dcm")
    assert is_dicom(Path("x.DCM")) and not is_dicom(Path("x.png"))


def test_dicom_images_go_through_folders_and_the_audit(tmp_path: Path) -> None:
    from common.data.audit import audit
    from common.data.folders import folders_dataset
    from common.data.images import cached_images

    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(4):
            write(tmp_path / "data" / label / f"{number}.dcm", rng.integers(0, 4096, (12, 10)).astype(np.uint16))
    dataset = folders_dataset(tmp_path / "data")
    assert len(dataset.manifest) == 8 and not dataset.left_out
    images = cached_images(dataset, 8, "bilinear", tmp_path / "cache")
    assert images.shape == (8, 8, 8, 3) and images.max() > 150
    result = audit(dataset, {})
    assert result["formats"] == {"DICOM": 8} and not result["unreadable"] and not result["wrong_suffix"]
