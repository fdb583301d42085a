"""The machine under Keras: seeds, precision, GPU memory, compilation and what to call all that in a report.

With `common/explanation/gradcam.py` this is the only room that imports TensorFlow or JAX.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np

from common.errors import UsageError
from common.startup import without_startup_lines

HOSTS = "KERAS_DISTRIBUTION_JOB_ADDRESSES"
_PATH_OPTIONS = (
    "data-dir", "labels-csv", "mask-dir", "cache-dir", "run-dir", "weights", "costs", "base", "output", "unlabelled-dir", "pretrained",
    "network", "boxes", "decision-costs", "kinds", "metadata", "classes", "run-data-dir", "run", "runs", "log", "indicator-labels",
    "output-dir", "images",
)  # fmt: skip


def configure(seed: int, precision: str = "float32", devices: int = 1) -> None:
    """Set all global seeds and the precision policy, and let GPU memory grow. Call once, before a model is built.

    Args:
        seed: seeds Python's, NumPy's and the backend's generators (`keras.utils.set_random_seed`); 0 .. 2**31 - 1.
        precision: "float32", "mixed_float16" or "mixed_bfloat16"; weights stay float32.
        devices: so many devices of all hosts together share each batch (JAX).

    Raises:
        UsageError: there are fewer devices.
    """
    keras.utils.clear_session(free_memory=False)
    with without_startup_lines():  # set_random_seed imports TensorFlow where it is installed, whatever the backend
        keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(precision)
    stop_autotuning()
    if devices > 1:  # after clear_session, which drops a distribution
        _share_batches(devices)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)


@cache
def stop_autotuning() -> None:
    """Let Keras iterate over batches without tf.data's tuner, whose thread sleeps for 10, 20, 40 ms and so on, doubling.

    An iterator that ends often waits until that thread wakes up, above all where a run has one inter-op thread: an epoch of 45 s took 82
    (TensorFlow 2.21). Which batches come, and in which order, stays the same.
    """
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf
    from keras.src.backend.tensorflow.trainer import TFEpochIterator

    untuned, iterated = tf.data.Options(), TFEpochIterator._get_iterator
    untuned.autotune.enabled = False

    def batches(self: Any) -> Any:
        found = iterated(self)
        return found.with_options(untuned) if isinstance(found, tf.data.Dataset) else found

    TFEpochIterator._get_iterator = batches


def meet() -> None:
    """Join the other hosts' processes, as KERAS_DISTRIBUTION_JOB_ADDRESSES, _NUM_PROCESSES and _PROCESS_ID say. Comes before all of JAX.

    Raises:
        UsageError: they do not meet.
    """
    if HOSTS in os.environ:
        try:
            keras.distribution.initialize()
        except (RuntimeError, ValueError) as error:
            raise UsageError(f"{HOSTS}={os.environ[HOSTS]}: the processes do not meet ({str(error).splitlines()[0][:200]})") from None


def _share_batches(devices: int) -> None:
    """Keras's data parallelism over the first `devices` devices. The step is compiled for the whole batch, so losses of pairs, batch
    statistics and random numbers are those of one device; only sums are added in another order."""
    import jax
    from keras.src.backend.jax import distribution_lib  # Keras has no public way to a batch's layout

    known = len(jax.devices())
    if devices > known:
        raise UsageError(f"--devices {devices}: JAX has {known} here ({jax.devices()[0].platform}); expected at most {known}")
    chosen = keras.distribution.list_devices()[:devices]
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=chosen, auto_shard_dataset=False))
    distribution_lib.distribute_data_input = _on_devices


def _on_devices(batch: Any, layout: Any, batch_dim_name: str | None = None) -> Any:
    """The whole batch, which every process has, in parts on the devices. One that they do not divide (the last of an epoch, for which Keras
    would take the first one's layout) goes whole to each: padding would change batch statistics and losses of pairs. So does each batch
    outside `sharing_batches` where there are several hosts, since a host cannot read another one's predictions."""
    import jax

    if batch is None:
        return None
    layout = getattr(layout, "backend_layout", layout)
    if len(batch) % layout.mesh.size or (jax.process_count() > 1 and not _Sharing.on):
        layout = jax.sharding.NamedSharding(layout.mesh, jax.sharding.PartitionSpec())
    return jax.make_array_from_callback(np.shape(batch), layout, lambda part: np.asarray(batch)[part])


class _Sharing:
    on = False


@contextmanager
def sharing_batches() -> Iterator[None]:
    """Inside (a `fit`, whose results are sums), several hosts share the batches too."""
    _Sharing.on = True
    try:
        yield
    finally:
        _Sharing.on = False


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


def recorded_command() -> str:
    """The command as typed, with folders shortened to their last part."""
    words = [_shortened(before, word) for before, word in zip(sys.argv, sys.argv[1:], strict=False)]
    program = Path(sys.argv[0]).parent.name if Path(sys.argv[0]).name == "__main__.py" else Path(sys.argv[0]).name
    return shlex.join(["python", "-m", program, *words])


def _shortened(before: str, word: str) -> str:
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    given = option if equals else before
    named = given.removeprefix("--").replace("_", "-").rpartition(".")[2] if given.startswith("--") else ""
    away = Path(value).is_absolute() or value.startswith("..")
    return option + equals + (Path(value).name if away or named in _PATH_OPTIONS else value)


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
