"""The study on the other backend: `KERAS_BACKEND=jax python -m cervical contrastive --dataset sample`."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMMAND = ["contrastive", "--dataset", "sample", "--limit", "25", "--image-size", "32", "--copies", "0", "--epochs", "1"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed (requirements-jax.txt)")
def test_the_main_job_runs_on_jax(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax"}
    words = [sys.executable, "-m", "cervical", *COMMAND, "--run-dir", str(tmp_path / "run"), "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["backend"] == "jax"
    assert (tmp_path / "run" / "finished.json").is_file() and (tmp_path / "run" / "model.keras").is_file()
