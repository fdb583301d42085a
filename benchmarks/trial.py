"""What `benchmarks.stress` forks its trials from: a process that has imported everything, so that a trial costs its work and no start-up.

Every backbone is a network of a few thousand weights here: a trial is about files, signals and order, not about what is learned.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import cli, stopping

STUDIES = ("cervical", "lmf", "melanoma", "feedback")
READY = "STRESS_TRIALS"  # set in the process that trials are forked from
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, what it said on stderr, seconds from the signal to its end, its processor seconds."""

    code: int
    said: str
    waited: float
    spent: float

    @property
    def in_one_line(self) -> bool:
        """Done in silence, or refused in one line."""
        lines = self.said.strip().splitlines()
        return (self.code == 0 and not lines) or (self.code == 2 and len(lines) == 1)


def context() -> Any:
    """The `multiprocessing` context whose processes are forked after all imports; one thread each, whatever the machine has."""
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", READY):
        os.environ[name] = "1"
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([__name__])
    return found


def forked(context: Any, words: list[str], home: Path, said: Path, after: float | None = None, number: int = signal.SIGKILL) -> Ended:
    """Run `python -m WORDS…` in a fork; after so many processor seconds it gets the signal. A kill takes its own processes along."""
    process = context.Process(target=_run, args=(words, home, said))
    process.start()

    def send() -> None:
        os.killpg(process.pid, number) if number == signal.SIGKILL else os.kill(process.pid, number)

    waited, spent = _until_end(process.pid, lambda: not process.is_alive(), send, after)
    process.join()
    return Ended(process.exitcode, said.read_text(errors="replace") if said.is_file() else "", waited, spent)


def started(words: list[str], home: Path, after: float, number: int, packages: str) -> Ended:
    """The same with a real `python -m WORDS…`, which imports first; its packages come from the folder `packages`."""
    environment = {**os.environ, "PYTHONPATH": packages}
    environment.pop(READY, None)
    with subprocess.Popen(
        [sys.executable, "-m", *words], cwd=home, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        waited, spent = _until_end(process.pid, lambda: process.poll() is not None, lambda: process.send_signal(number), after)
        said = process.communicate()[1].decode(errors="replace")
    return Ended(process.returncode, said, waited, spent)


def _until_end(pid: int, ended: Callable[[], bool], send: Callable[[], None], after: float | None) -> tuple[float, float]:
    """Wait for a process, with the signal once it has used `after` processor seconds: (seconds from signal to end, processor seconds)."""
    sent, last = 0.0, 0.0
    while not ended():
        last = max(last, processor_seconds(pid))
        if after is not None and not sent and last >= after and _own_session(pid):
            with suppress(ProcessLookupError):
                send()
            sent = time.monotonic()
        time.sleep(0.02)
    return time.monotonic() - sent if sent else 0.0, last


def processor_seconds(pid: int) -> float:
    """Used by a process and those it has started: on a busy machine a moment in the clock's time would be another place each time."""
    with suppress(OSError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]
        return sum(map(int, fields[11:15])) / TICK + sum(map(processor_seconds, children))
    return 0.0


def _own_session(pid: int) -> bool:
    with suppress(OSError):
        return os.getsid(pid) == pid
    return False


def tiny(name: str, image_size: int, weights: Any = None, pooling: str | None = None) -> Any:
    """Stands in for `build_backbone`: four stages of three convolutions, strides 4 to 32, as Bio-U-Net wants them; its first one alone for
    the other studies, which name a MobileNetV2."""
    import keras

    x = inputs = keras.Input((image_size, image_size, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="stem")(x)
    for stage in range(1 if name.startswith("mobilenet") else 4):
        for block in range(3 if stage or name.startswith("resnet") else 1):
            x = keras.layers.Conv2D(4, 3, strides=1 if block else 2, padding="same", name=f"s{stage}b{block}_conv")(x)
            if not block:
                x = keras.layers.BatchNormalization(name=f"s{stage}b{block}_bn")(x)
            x = keras.layers.ReLU(name=f"s{stage}b{block}")(x)
    if pooling == "avg":
        x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, x, name="tiny")


def save_network(path: Path) -> None:
    """The small network as a file, for commands whose process imports for itself."""
    tiny("mobilenet", 64).save(path)


def _run(words: list[str], home: Path, said: Path) -> None:
    """End this process as `python -m WORDS…` in `home` ends, its standard error in the file `said`."""
    os.setsid()
    os.chdir(home)
    for number, path in ((1, Path(os.devnull)), (2, said)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, stopping._leave)  # as a study's __main__ begins
    sys.argv = [f"{words[0]}/__main__.py", *words[1:]]
    sys.exit(cli.main(words[0], importlib.import_module(f"{words[0]}.__main__").COMMANDS, words[1:]))


def _import_everything() -> None:
    """Imports only: nothing is computed before the fork, so no thread of a backend runs yet."""
    cli.prepare_environment()
    from common.runs.cells import GridCell

    _make_small()
    GridCell.command = lambda cell: [sys.executable, "-m", __spec__.name]
    for study in STUDIES:
        for entry in importlib.import_module(f"{study}.__main__").COMMANDS.values():
            module = cli._command(entry).target.split(":")[0]
            if module.startswith((f"{study}.training", "common.commands")):
                importlib.import_module(module)


def _make_small() -> None:
    from common import backbones

    backbones.build_backbone = tiny


if __name__ == "__main__":  # the cell of a grid, in a process of its own
    from common.runs import cell

    cli.prepare_environment()
    _make_small()
    sys.exit(cell.main())
if READY in os.environ:
    _import_everything()
