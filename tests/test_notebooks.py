"""The notebooks are jupytext scripts: they turn into notebooks, name only what exists, and (slow) run on the drawn samples."""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))


def test_there_is_one_a_study() -> None:
    assert [script.stem for script in SCRIPTS] == ["cervical", "feedback", "lmf", "melanoma"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_is_a_notebook_whose_imports_exist(script: Path) -> None:
    notebook = jupytext.read(script)
    kinds = {cell.cell_type for cell in notebook.cells}
    assert kinds == {"markdown", "code"} and notebook.cells[0].cell_type == "markdown"
    ours = ("common", "cervical", "lmf", "melanoma", "feedback")
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ours:
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name) or importlib.import_module(f"{node.module}.{name.name}"), f"{node.module}.{name.name}"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_notebook_runs_on_the_samples(script: Path, tmp_path: Path) -> None:
    target = tmp_path / f"{script.stem}.ipynb"
    # These notebooks would draw the committed results, whose models are not here; in an empty folder they make small runs of their own.
    (tmp_path / "runs").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **dict.fromkeys(("LMF_RUNS", "FEEDBACK_RUNS"), str(tmp_path / "runs"))}
    words = [
        sys.executable,
        "-m",
        "jupytext",
        "--quiet",
        "--to",
        "ipynb",
        "--execute",
        "--run-path",
        str(ROOT),
        "--output",
        str(target),
        str(script),
    ]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert jupytext.read(target).cells
