"""`pip install -e .`: the packages are found, their dependencies are those of requirements.txt, and the losses import from anywhere."""

import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import numpy
import pytest

from benchmarks import house

ROOT = Path(__file__).parents[1]


def test_dependencies_are_read_from_the_requirements_files() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "dependencies" in project["project"]["dynamic"] and "dependencies" not in project["project"], "versions stand in one place"
    dynamic = project["tool"]["setuptools"]["dynamic"]
    assert dynamic["dependencies"]["file"] == ["requirements.txt"]
    for extra in dynamic["optional-dependencies"].values():
        assert (ROOT / extra["file"][0]).is_file()


def test_losses_import_from_another_directory(tmp_path: Path) -> None:
    """What an editable install amounts to: the root on the path, and the current directory somewhere else."""
    done = subprocess.run(
        [sys.executable, "-c", "import lmf.losses; print(len(lmf.losses.LMFLoss([3, 1]).get_config()) > 1)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "True", done.stderr


@pytest.mark.slow
def test_editable_install_finds_all_packages_and_dependencies(tmp_path: Path) -> None:
    source, environment = tmp_path / "source", tmp_path / "environment"
    for name in (*house.PACKAGES, "docs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [ROOT / "pyproject.toml", ROOT / "README.md", *ROOT.glob("requirements*.txt")]:
        shutil.copy(path, source)
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "-e", source], check=True, cwd=tmp_path)
    # What requirements.txt names is already installed for the interpreter that runs this test.
    installed = Path(numpy.__file__).parents[1]
    code = (
        "import importlib.metadata, lmf.losses, common.data.sample, feedback.page, cervical.paper\n"
        "print(lmf.losses.__file__)\n"
        "print(len([r for r in importlib.metadata.requires('explainable-medical-imaging') if 'extra' not in r]))\n"
    )
    done = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    place, count = done.stdout.split()[-2:]
    assert Path(place) == source / "lmf" / "losses.py"
    wanted = [line for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert int(count) == len(wanted)
