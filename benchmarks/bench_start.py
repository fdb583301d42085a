"""How fast a study answers `--help`, beside the time that importing Keras takes."""

from __future__ import annotations

import os
import subprocess
import sys
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
    ]
