"""Timing in interleaved pairs: ours, peer, peer, ours, … so that a machine whose speed drifts treats both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Pairs:
    """Medians over pairs.

    Attributes:
        ours: median seconds of our call.
        peer: median seconds of the peer's call.
        ratio: median of peer/ours over the pairs (above 1: ours is faster).
        pairs: how many pairs were counted.
    """

    ours: float
    peer: float
    ratio: float
    pairs: int


def interleaved(ours: Callable[[], Any], peer: Callable[[], Any], pairs: int = 7, warmup: int = 1) -> Pairs:
    """Time both in turn; `warmup` calls of each are not counted. The calls must wait for their own results."""
    for _ in range(warmup):
        ours()
        peer()
    times: list[tuple[float, float]] = []
    for number in range(pairs):
        if number % 2:  # what comes second in a pair finds other caches
            second = _seconds(peer)
            times.append((_seconds(ours), second))
        else:
            times.append((_seconds(ours), _seconds(peer)))
    return Pairs(
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(b / a for a, b in times),
        pairs,
    )


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def row(name: str, value: float, target: float, unit: str = "x", at_most: bool = False, detail: str = "") -> dict[str, Any]:
    """One line of `make bench`: prints it and returns it. `at_most`: smaller is better."""
    met = value <= target if at_most else value >= target
    sign = "<=" if at_most else ">="
    print(f"  {name:<62} {value:>9.3g} {unit:<4} target {sign} {target:g}  {'met' if met else 'MISSED'}  {detail}", flush=True)
    return {"name": name, "value": value, "unit": unit, "target": f"{sign} {target:g}", "met": met, "detail": detail}


def skipped(name: str, package: str) -> dict[str, Any]:
    """A measure whose peer is not installed."""
    print(f"  {name:<62} skipped: {package} is not installed (make setup installs no peers; requirements-bench.txt lists them)", flush=True)
    return {"name": name, "value": None, "met": None, "detail": f"{package} is not installed"}


def same(what: str, ours, theirs, tolerance: float) -> None:
    """AssertionError when the two arrays differ by `tolerance` or more."""
    import numpy as np

    difference = float(np.abs(np.asarray(ours, "float64") - np.asarray(theirs, "float64")).max())
    if not difference < tolerance:
        raise AssertionError(f"{what}: ours and the peer's differ by {difference:.3g}, more than {tolerance:g}")
