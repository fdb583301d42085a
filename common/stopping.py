"""Ctrl-C and SIGTERM: a command ends in order, with one line and exit code 130 or 143, and a training ends between two batches.

Python raises KeyboardInterrupt wherever it happens to be, and libraries swallow it there (a callback from native code, a destructor). So
what was asked for is remembered: inside `at_batch_ends` it waits for `check`, elsewhere it is raised at once, and again every second until
the command has come to its end. Nothing heavy is imported here: a study's `__main__` imports this module first.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAID = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Terminated(BaseException):
    """SIGTERM was sent. No Exception, as KeyboardInterrupt is none: no handler of errors takes it for one."""


class _State:
    wanted: int | None = None
    waiting = 0  # depth of `at_batch_ends`
    at_once = 0  # depth of `nothing_to_lose`
    stderr = 2


def exit_code(stop: BaseException) -> int:
    """130 for KeyboardInterrupt, 143 for Terminated, as a shell says it."""
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


def requested() -> int | None:
    """The signal that waits to be obeyed, or None."""
    return _State.wanted


def check() -> None:
    """Raise KeyboardInterrupt or Terminated when it was asked for."""
    if _State.wanted is not None:
        raise Terminated if _State.wanted == signal.SIGTERM else KeyboardInterrupt


def obeyed() -> None:
    """The exception has arrived where it is dealt with, which may take its time (waiting for other processes): it comes no more."""
    signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def handled() -> Iterator[None]:
    """Both signals are handled as this module says; afterwards as before. Does nothing inside another, or outside the main thread."""
    if signal.getsignal(signal.SIGINT) is _handle:
        yield
        return
    try:
        before = {number: signal.signal(number, _handle) for number in _SIGNALS}
    except ValueError:
        yield
        return
    _State.wanted, shown = None, sys.unraisablehook
    # Swallowed in a destructor it comes again, so nobody needs the traceback.
    sys.unraisablehook = lambda what: None if issubclass(what.exc_type, KeyboardInterrupt | Terminated) else shown(what)
    try:
        yield
    finally:
        sys.unraisablehook = shown
        if _State.wanted is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
        for number, handler in before.items():
            signal.signal(number, handler)
        _State.wanted = None


@contextmanager
def at_batch_ends() -> Iterator[None]:
    """Inside, a first signal waits for `check`; a second Ctrl-C does not. What nobody checked is raised at the end."""
    _State.waiting += 1
    try:
        yield
    finally:
        _State.waiting -= 1
    check()


@contextmanager
def nothing_to_lose() -> Iterator[None]:
    """Inside, a signal ends the process on the spot: imports of native libraries turn exceptions into errors of their own."""
    _State.stderr = os.dup(2)  # while a library starts, file descriptor 2 may be held back
    _State.at_once += 1
    try:
        yield
    finally:
        _State.at_once -= 1
        os.close(_State.stderr)
        _State.stderr = 2


def _handle(number: int, frame: FrameType | None) -> None:
    if number != signal.SIGALRM:
        if _State.at_once:
            _leave(number, frame)
        first = _State.wanted is None
        _State.wanted = _State.wanted or number
        if _State.waiting and (first or number == signal.SIGTERM):  # a scheduler may send it to the whole group, and again
            return
        signal.signal(signal.SIGALRM, _handle)
        signal.setitimer(signal.ITIMER_REAL, 1, 1)
    check()


def _leave(number: int, frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(_State.stderr, f"{_SAID[signal.Signals(number)]}\n".encode())
    os._exit(128 + number)


# A study's command has just been started: until `handled` there is nothing to clean up, and no traceback of an import to show.
if sys.argv and os.path.basename(sys.argv[0]) == "__main__.py":
    for _number in _SIGNALS:
        if signal.getsignal(_number) != signal.SIG_IGN:  # nohup and shells' background jobs ignore Ctrl-C
            signal.signal(_number, _leave)
