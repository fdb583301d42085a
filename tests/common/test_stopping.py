"""Signals: asked once, obeyed once, whoever swallows the exception; in a training between two batches."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common import stopping

ROOT = Path(__file__).parents[2]


def send(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "kind", "code"), [(signal.SIGINT, KeyboardInterrupt, 130), (signal.SIGTERM, stopping.Terminated, 143)])
def test_a_signal_is_raised_at_once_and_handlers_come_back(number: int, kind: type[BaseException], code: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(kind) as stop, stopping.handled():
        send(number)
        time.sleep(5)
    assert stopping.exit_code(stop.value) == code
    assert signal.getsignal(number) is before and stopping.requested() is None


def test_a_signal_that_a_library_swallows_is_raised_again() -> None:
    swallowed = 0
    with pytest.raises(KeyboardInterrupt), stopping.handled():
        try:
            send()
            time.sleep(5)
        except KeyboardInterrupt:
            swallowed += 1
        began = time.monotonic()
        time.sleep(5)
    assert swallowed == 1
    assert time.monotonic() - began < 2


def test_inside_a_training_it_waits_for_the_batch() -> None:
    done = []
    with pytest.raises(stopping.Terminated), stopping.handled(), stopping.at_batch_ends():
        send(signal.SIGTERM)
        time.sleep(0.01)
        done.append("batch")
        assert stopping.requested() == signal.SIGTERM
        stopping.check()
        done.append("next batch")
    assert done == ["batch"]
    with pytest.raises(KeyboardInterrupt), stopping.handled(), stopping.at_batch_ends():
        send()
        send()  # a user who does not want to wait
        time.sleep(5)


def test_what_nobody_checked_is_raised_at_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), stopping.handled(), stopping.at_batch_ends():
        send()
        time.sleep(0.01)


def test_what_a_destructor_swallows_comes_again_and_shows_no_traceback(monkeypatch) -> None:
    shown: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", shown.append)

    class Interrupted:
        def __del__(self) -> None:
            send()
            time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt), stopping.handled():
        Interrupted()
        time.sleep(5)
    assert shown == []


def listening() -> None:
    """Where the tests themselves run in a shell's background, Ctrl-C is ignored, and so it would be in what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_has_just_started_shows_no_traceback(number: signal.Signals) -> None:
    for delay in (0.05, 0.3):
        words = [sys.executable, "-m", "cervical", "finetune"]
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listening)
        time.sleep(delay)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
        if process.returncode == -number or (number == signal.SIGINT and "runpy" in said):
            continue  # Python itself was still starting
        assert process.returncode == 128 + number, said
        assert "Traceback" not in said
