"""Resident memory of a process, and its peak while something runs (Linux)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading


def resident() -> float:
    """Resident memory of this process, MB (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Peak:
    """Highest resident memory while the block runs, looked at every 5 ms by a thread."""

    def __enter__(self) -> Peak:
        self.highest, self._stop = resident(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.highest = max(self.highest, resident())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def in_process(module: str, what: str) -> list[float]:
    """The numbers that `module.in_child(what)` prints as JSON, in a process of its own. RuntimeError when it fails."""
    command = [sys.executable, "-c", f"from {module} import in_child; in_child({what!r})"]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if result.returncode:
        raise RuntimeError(f"the {what} process failed: {result.stderr[-800:]}")
    return json.loads(result.stdout.splitlines()[-1])
