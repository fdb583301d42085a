"""Fixtures for every test: quiet backends, caches in a temporary folder, and the real data where somebody has put it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).resolve().parent.parent
# Real data and weights are optional. By default they are looked for beside the checkout, in ../shared/data and ../shared/weights.
SHARED = Path(os.environ.get("REPLICATION_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """`shared_data("sipakmed")` gives the folder of a real data set, or skips the test and says which folder is missing."""

    def find(name: str) -> Path:
        folder = SHARED / "data" / name
        if not folder.is_dir():
            pytest.skip(f"real data not present: {name} (set REPLICATION_SHARED to the folder that holds data/{name})")
        return folder

    return find


@pytest.fixture(scope="session")
def shared_weights() -> Callable[[str], Path]:
    """`shared_weights("mobilenet_v2_0.35_224_no_top")` gives a real weights file, or skips the test with the reason."""

    def find(stem: str) -> Path:
        path = SHARED / "weights" / f"{stem}.weights.h5"
        if not path.is_file():
            pytest.skip(f"real weights not present: {path.name} (set REPLICATION_SHARED to the folder that holds weights/)")
        return path

    return find


@pytest.fixture(scope="session")
def sample_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache folder for the drawn samples, shared by all tests of a test process."""
    return tmp_path_factory.mktemp("cache")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Captured output as it can be sent from a test process to the one that reports: file names that are no UTF-8 are spelled out."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    if report.failed and report.longrepr is not None:
        report.longrepr = str(report.longrepr).encode("utf-8", "backslashreplace").decode()
    return report
