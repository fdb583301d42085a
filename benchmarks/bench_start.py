"""How fast a study answers `--help`, and what the main job on the sample costs in time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.pairs import interleaved, row


def main() -> list[dict[str, Any]]:
    """`--help` of the main job: at most 0.5 s and at least 8 times faster than `import keras`."""
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}

    def run(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, capture_output=True, env=quiet)

    times = interleaved(lambda: run("-m", "cervical", "contrastive", "--help"), lambda: run("-c", "import keras"))
    return [
        row("python -m cervical contrastive --help", times.ours, 0.5, "s", at_most=True),
        row("import keras against --help", times.ratio, 8, detail=f"import keras {times.peer:.2f} s"),
        *main_job(quiet),
    ]


def _peak_gigabytes(process: subprocess.Popen) -> float:
    """Wait for a process; its largest resident memory in GB.

    Asked of the running process, since the kernel's account of an ended one (`wait4`) begins with the memory of the process that started
    it: after the other measures that is several GB.
    """
    peak = 0
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:  # it has just ended, or this is no Linux
            lines = []
        peak = max([peak, *(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))])
        time.sleep(0.1)
    return peak / 2**20 if peak else float("nan")


def main_job(environment: dict[str, str]) -> list[dict[str, Any]]:
    """`make cervical-contrastive` after set-up, once, nothing drawn or cached before: under 3 minutes and 3 GB on two cores."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "cervical", "contrastive", "--cache-dir", f"{folder}/cache", "--run-dir", f"{folder}/run"]
        began = time.perf_counter()
        with (Path(folder) / "log").open("w+") as log:
            process = subprocess.Popen(words, env=environment, stdout=log, stderr=subprocess.STDOUT)
            peak = _peak_gigabytes(process)
            seconds = time.perf_counter() - began
            if process.returncode:
                log.seek(0)
                raise AssertionError(f"the main job ended with {process.returncode}: {log.read()[-2000:]}")
    cores = f"{len(os.sched_getaffinity(0))} cores"
    return [
        row("make cervical-contrastive on the sample", seconds, 180, "s", at_most=True, detail=cores),
        row("its peak memory", peak, 3, "GB", at_most=True, detail="of the whole process, Keras included"),
    ]
