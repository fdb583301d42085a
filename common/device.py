"""The machine under Keras: seeds, precision, GPU memory, compilation and what to call all that in a report.

With `common/explanation/gradcam.py` this is the only room that imports TensorFlow or JAX.
"""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import keras

from common.startup import without_startup_lines


def configure(seed: int, precision: str = "float32") -> None:
    """Set all global seeds and the precision policy, and let GPU memory grow. Call once, before a model is built.

    Args:
        seed: seeds Python's, NumPy's and the backend's generators (`keras.utils.set_random_seed`); 0 .. 2**31 - 1.
        precision: "float32", "mixed_float16" or "mixed_bfloat16"; weights stay float32.
    """
    keras.utils.clear_session(free_memory=False)
    with without_startup_lines():  # set_random_seed imports TensorFlow where it is installed, whatever the backend
        keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(precision)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)


@cache
def accelerator() -> str | None:
    """Name of the first GPU or TPU the backend sees ("NVIDIA H200"), or None on a CPU."""
    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        return None if device.platform == "cpu" else device.device_kind
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else None


def jit_compile() -> bool | str:
    """Value for `model.compile(jit_compile=...)`: XLA made a TensorFlow step on a CPU four times slower (measured), so not there."""
    return False if keras.backend.backend() == "tensorflow" and accelerator() is None else "auto"


def describe() -> dict[str, Any]:
    """What a report says of the machine and the software: backend, versions, machine kind and git commit. Names no host and no path."""
    backend = keras.backend.backend()
    versions = {"python": platform.python_version(), "keras": keras.__version__, backend: __import__(backend).__version__}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "backend": backend,
        "versions": versions,
        "machine": accelerator() or f"{cores}-core {platform.machine()} CPU",
        "threads": _threads(cores),
        "precision": keras.config.dtype_policy().name,
        "git_commit": _git_commit(),
    }


def _threads(cores: int) -> int:
    """Threads that one operation may use; the order in which they add decides the last digits of a result."""
    asked = os.environ.get("TF_NUM_INTRAOP_THREADS" if keras.backend.backend() == "tensorflow" else "OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else cores


def _git_commit() -> str:
    """Short hash of the checkout, with "+" where files differ from it.

    Outside a checkout (a container, a cluster's scratch folder) it is what REPLICATION_COMMIT says, else "unknown".
    """
    folder = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("REPLICATION_COMMIT", "unknown")
