"""ensure_sample: the same bytes each time, whole or not at all, safe for two processes, clear about bad input."""

import errno
import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from common.data.sample import KINDS, VERSION, cells, ensure_sample
from common.data.sample.drawing import write_image
from common.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]


def digest(folder: Path) -> str:
    """Hash of all file names and bytes under a folder."""
    result = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        result.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return result.hexdigest()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bytes_in_another_process(kind: str, sample_cache: Path, tmp_path: Path) -> None:
    first = ensure_sample(kind, sample_cache)
    command = f"from common.data.sample import ensure_sample; print(ensure_sample({kind!r}, {str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert digest(Path(done.stdout.strip())) == digest(first)


def test_another_seed_gives_other_pictures_of_the_same_layout(sample_cache: Path, tmp_path: Path) -> None:
    first, second = ensure_sample("covid_radiography", sample_cache), ensure_sample("covid_radiography", tmp_path, seed=1)
    assert digest(first) != digest(second)
    assert {p.relative_to(first) for p in first.rglob("*")} == {p.relative_to(second) for p in second.rglob("*")}


def test_a_second_call_draws_nothing(sample_cache: Path) -> None:
    first = ensure_sample("covid_radiography", sample_cache)
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert ensure_sample("covid_radiography", sample_cache) == first
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before


def test_a_drawing_that_fails_leaves_nothing_and_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fill_up(path: Path, image: np.ndarray) -> None:
        calls.append(path)
        if len(calls) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_image(path, image)

    monkeypatch.setattr(cells, "write_image", fill_up)
    with pytest.raises(UsageError, match="sipakmed.*--cache-dir.*No space left"):
        ensure_sample("sipakmed", tmp_path)
    assert len(calls) == 5 and list((tmp_path / "samples").iterdir()) == []


def test_a_cache_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(UsageError, match="cache"):
        ensure_sample("sipakmed", tmp_path / "cache")


def test_leftovers_of_a_killed_drawing_go_after_an_hour(tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    names = [f".covid_radiography-seed0-v{VERSION}-{state}" for state in ("dead", "alive")]
    for name, age in zip(names, (4000, 10), strict=True):
        (samples / name).mkdir(parents=True)
        os.utime(samples / name, (time.time() - age,) * 2)
    folder = ensure_sample("covid_radiography", tmp_path)
    assert {path.name for path in samples.iterdir()} == {folder.name, names[1]}


def test_two_at_the_same_time_both_get_the_whole_folder(tmp_path: Path, sample_cache: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: ensure_sample("covid_radiography", tmp_path), range(2)))
    assert folders[0] == folders[1] and digest(folders[0]) == digest(ensure_sample("covid_radiography", sample_cache))
    assert [path.name for path in (tmp_path / "samples").iterdir()] == [folders[0].name]


def test_the_cache_folder_defaults_to_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(cells, "CELLS_ON_SLIDE", (1,))
    assert ensure_sample("sipakmed").is_relative_to(tmp_path / "elsewhere")


@pytest.mark.parametrize("kind", KINDS)
def test_each_folder_says_that_it_is_synthetic(kind: str, sample_cache: Path) -> None:
    assert "synthetic" in (ensure_sample(kind, sample_cache) / "SYNTHETIC.txt").read_text(encoding="utf-8")


def test_an_unknown_kind_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mnist.*ham10000.*sipakmed"):
        ensure_sample("mnist", tmp_path)
    with pytest.raises(UsageError, match="seed"):
        ensure_sample("sipakmed", tmp_path, seed=-1)
    assert os.listdir(tmp_path) == []
