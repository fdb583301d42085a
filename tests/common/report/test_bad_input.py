"""What a practitioner may give wrongly: one line that names it, exit code 2, and a run folder as it was."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from cervical.__main__ import COMMANDS
from common.cli import main
from tests.common.data.test_dicom import write
from tests.common.report.test_calibrate import run  # noqa: F401 (a fixture)


@pytest.fixture
def given(run: Path, tmp_path: Path) -> dict[str, Path]:  # noqa: F811
    """Everything that the commands below name."""
    external = tmp_path / "external"
    for label, grey in (("dark", 7), ("light", 240)):
        (external / label).mkdir(parents=True)
        Image.new("RGB", (4, 4), (grey,) * 3).save(external / label / "new.png")
    (tmp_path / "map.csv").write_text("set,class,joined\nrun,grey,x\n")
    (tmp_path / "metadata.csv").write_text("image,sex\n30.png,f\n31.png,m\n")
    write(tmp_path / "empty.dcm", None)
    tags = {"syntax": JPEG2000Lossless, "PixelData": encapsulate([b"nothing"])}
    write(tmp_path / "packed.dcm", np.zeros((2, 2), np.uint16), **tags)
    other = tmp_path / "other"
    shutil.copytree(run, other)
    config = json.loads((run / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "classes": ["light", "dark"]}))
    names = {path.stem: path for path in (tmp_path / "map.csv", tmp_path / "metadata.csv", tmp_path / "empty.dcm", tmp_path / "packed.dcm")}
    return {"run": run, "external": external, "other": other, **names}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("calibrate {run} --coverage 1.5", "--coverage 1.5: expected more than 0 and less than 1"),
        ("calibrate {run} --coverage 0.99", "--coverage 0.99: needs at least 99 calibration images, there are 30"),
        ("validate {run} --data-dir {external} --classes {map}", "map.csv: the run set has no class grey; it has dark, light"),
        ("report {run} --by age --metadata {metadata}", "--by age: {metadata} has no such column; expected some of image, sex"),
        ("report {run} --by sex --metadata {metadata}", "metadata.csv: has no row for the test image 32 (22 of 24 are missing)"),
        ("report {run} --with {other}", "other: its classes are light, dark; expected dark, light"),
        ("predict {run} {external} --with {other}", "other: its classes are light, dark; expected dark, light"),
        ("export {run} --format onnx", "--format onnx: the package tf2onnx is not installed; install requirements-export.txt"),
        ("predict {run} {empty}", "empty.dcm: a DICOM object without pixels; expected an image"),
        ("predict {run} {packed}", "packed.dcm: its pixels cannot be decoded"),
    ],
)
def test_one_line_exit_2_and_nothing_written(
    words: str, said: str, given: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "onnx" in words:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    before = {path: path.read_bytes() for path in given["run"].rglob("*") if path.is_file()}
    assert main("cervical", COMMANDS, words.format(**given).split()) == 2
    error = capsys.readouterr().err
    assert said.format(**given) in error and error.count("\n") == 1
    assert {path: path.read_bytes() for path in given["run"].rglob("*") if path.is_file()} == before
