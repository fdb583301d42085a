"""Files that are whole or absent, and values in the types JSON has."""

import errno
import math
from pathlib import Path

import numpy as np
import pytest

from common.runs.files import atomic, plain, read_json, write_json


def test_atomic_makes_folders_and_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic(tmp_path / "deep" / "model.keras") as temporary:
        assert temporary.suffix == ".keras" and temporary.parent == tmp_path / "deep"
        temporary.write_text("whole")
        assert not (tmp_path / "deep" / "model.keras").exists()
    assert [item.name for item in (tmp_path / "deep").iterdir()] == ["model.keras"]


def test_a_full_disk_leaves_no_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space"), atomic(tmp_path / "a.json") as temporary:
        temporary.write_text("ha")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_json_round_trip_of_what_studies_hold(tmp_path: Path) -> None:
    value = {1: (np.float32(0.5), np.int64(3)), "path": Path("/somewhere/w.h5"), "array": np.arange(3), "nan": math.nan, "text": "μ"}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == {"1": [0.5, 3], "path": "w.h5", "array": [0, 1, 2], "nan": None, "text": "μ"}
    assert "μ" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert plain({"set": {1}}) == {"set": [1]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"endless": math.inf})
    assert not (tmp_path / "b.json").exists()
