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
    # These would draw the committed results, whose models are not here; in an empty folder they make small runs of their own.
    (tmp_path / "runs").mkdir()
    places = dict.fromkeys(("LMF_RUNS", "MELANOMA_RUNS", "FEEDBACK_RUNS"), str(tmp_path / "runs"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **places}
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


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_melanoma_notebook_draws_the_committed_results_and_leaves_them_alone(tmp_path: Path) -> None:
    results, target = ROOT / "results" / "melanoma", tmp_path / "melanoma.ipynb"
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    environment = {name: value for name, value in os.environ.items() if name != "MELANOMA_RUNS"} | {"PYTHONPATH": str(ROOT)}
    words = ["--quiet", "--to", "ipynb", "--execute", "--run-path", str(ROOT), "--output", str(target), str(ROOT / "notebooks/melanoma.py")]
    done = subprocess.run([sys.executable, "-m", "jupytext", *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*")} == before
    outputs = [output for cell in jupytext.read(target).cells for output in cell.get("outputs", [])]
    shown = "".join(str(output.get("data", {}).get("text/markdown", "")) for output in outputs)
    for name in ("Table 3: ablation", "figure 1", "figure 3", "figure 4", "figure 6"):
        assert name in shown, name
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 8
