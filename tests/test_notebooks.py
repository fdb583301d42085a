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
    # A notebook draws the committed results, whose models are not here, where it finds any; in an empty folder it makes small runs.
    (tmp_path / "runs").mkdir()
    execute(script, target, {f"{script.stem.upper()}_RUNS": str(tmp_path / "runs")})
    assert jupytext.read(target).cells


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("study", ["cervical", "feedback", "lmf", "melanoma"])
def test_notebook_draws_the_committed_results(study: str, tmp_path: Path) -> None:
    target, before = tmp_path / f"{study}.ipynb", files_below(ROOT / "results" / study)
    execute(ROOT / "notebooks" / f"{study}.py", target, {f"{study.upper()}_RUNS": str(ROOT / "results" / study)})
    outputs = [output for cell in jupytext.read(target).cells for output in cell.get("outputs", [])]
    pictures = sum(bool({"image/png", "image/jpeg"} & set(output.get("data", {}))) for output in outputs)
    if study == "melanoma":  # of its sheets, which show photographs, one is published
        shown = "".join(str(output.get("data", {}).get("text/markdown", "")) for output in outputs)
        for name in ("Table 2: localisation", "Table 3: ablation", "figure 1"):
            assert name in shown, name
    assert pictures >= (1 if study == "melanoma" else 4)
    assert files_below(ROOT / "results" / study) == before, "a notebook leaves the committed results as they are"


def files_below(folder: Path) -> dict[Path, int]:
    """Every file and when it was changed."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def execute(script: Path, target: Path, variables: dict[str, str]) -> None:
    """Run a notebook, with the environment `variables` set, into `target`."""
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
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
