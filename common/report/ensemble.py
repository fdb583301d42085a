"""Several finished runs, or several views of an image, as one prediction: mean probabilities and how far the members disagree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from common.errors import UsageError
from common.runs.outcome import PREFIX
from common.runs.reading import RunFolder

# The eight ways to lay a picture on its frame: unchanged, mirrored, upside down, both; then the same of the transposed picture.
VIEWS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda x: x,
    lambda x: x[:, ::-1],
    lambda x: x[::-1],
    lambda x: x[::-1, ::-1],
    lambda x: x.swapaxes(0, 1),
    lambda x: x.swapaxes(0, 1)[:, ::-1],
    lambda x: x.swapaxes(0, 1)[::-1],
    lambda x: x.swapaxes(0, 1)[::-1, ::-1],
)


def check_members(runs: Sequence[Path]) -> tuple[str, ...]:
    """The classes of the runs. UsageError unless all have the same ones, in the same order."""
    classes: list[tuple[str, ...]] = [tuple(RunFolder.existing(run).read_json("config.json").get("classes") or ()) for run in runs]
    for run, own in zip(runs[1:], classes[1:], strict=True):
        if own != classes[0]:
            raise UsageError(f"--with {run}: its classes are {', '.join(own) or 'none'}; expected {', '.join(classes[0])}")
    return classes[0]


def combined(members: Sequence[pd.DataFrame], classes: Sequence[str]) -> pd.DataFrame:
    """One table from the members' tables of the same images: mean `prob_<class>`, the class it favours, and `disagreement`.

    disagreement: share of the members, 0..1, whose own class is not the one predicted.
    """
    probabilities = np.stack([table[[PREFIX + name for name in classes]].to_numpy(np.float64) for table in members])
    mean = probabilities.mean(axis=0)
    called = mean.argmax(axis=1)
    apart = (probabilities.argmax(axis=2) != called[None]).mean(axis=0)
    found = pd.DataFrame({"image": members[0]["image"], "predicted": np.asarray(classes, object)[called]})
    for index, name in enumerate(classes):
        found[PREFIX + name] = mean[:, index]
    return found.assign(disagreement=apart)
