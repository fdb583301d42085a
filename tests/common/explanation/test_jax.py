"""The gradients and the CAM family on JAX: the tests that matter there, run in a process of its own, without TensorFlow."""

import importlib.util
import os
import subprocess
import sys

import pytest

CHOSEN = "fit or compiled or second_order and conv3 or by_hand or no_gradient or images_size and layercam or algorithm_1"


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed (requirements-jax.txt)")
def test_gradients_and_maps_on_jax():
    files = [f"tests/common/explanation/test_{name}.py" for name in ("gradcam", "cams", "scorecam")]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *files, "-k", CHOSEN]
    result = subprocess.run(command, env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:]
    assert "passed" in result.stdout and "tensorflow" not in result.stdout.lower()
