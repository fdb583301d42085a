"""Some pictures of each class on one sheet, and which images show next to nothing: what no score tells of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from common.data.images import read_image, resize
from common.errors import UsageError
from common.report.plots import panels, save, styled

COLUMNS, MOST_ROWS, SIDE = 10, 24, 96


def some_of_each(manifest: pd.DataFrame, count: int = COLUMNS, seed: int = 0) -> dict[str, list[str]]:
    """Label -> `count` of its images (all, if there are fewer), at random but each of another group as far as there are groups.

    Neither the manifest's order nor the machine matters. Classes in alphabetical order, images without a label last.
    """
    rng = np.random.default_rng(seed)
    found = {}
    for label, part in sorted(manifest.groupby("label"), key=lambda each: (each[0] == "", each[0])):
        drawn = part.sort_values("image").iloc[rng.permutation(len(part))]
        again = drawn.groupby("group", sort=False).cumcount()
        found[str(label)] = list(drawn.iloc[np.argsort(again, kind="stable")]["image"][:count])
    return found


def write_pictures(path: Path, rows: Mapping[str, Sequence[Path]], title: str, *, synthetic: bool = False) -> Path:
    """A sheet with one line of pictures a row, the first `MOST_ROWS`; a file that cannot be read leaves a gap. Returns `path`."""
    if len(rows) > MOST_ROWS:
        title = f"{title}: the first {MOST_ROWS} of {len(rows)} rows"
    lines = {name: _line(files) for name, files in list(rows.items())[:MOST_ROWS]}
    return save(picture_lines(lines, title, synthetic=synthetic), path)


def _line(files: Sequence[Path]) -> np.ndarray:
    """The pictures beside each other, each fitted into a square with its aspect kept: `(SIDE, COLUMNS * (SIDE + 4), 3)` uint8."""
    line = np.full((SIDE, COLUMNS * (SIDE + 4), 3), 255, np.uint8)
    for place, path in enumerate(files[:COLUMNS]):
        try:
            image = read_image(path)
        except (UsageError, OSError):  # the audit names it
            continue
        height, width = image.shape[:2]
        scale = SIDE / max(height, width)
        small = resize(image, (max(1, round(height * scale)), max(1, round(width * scale))))
        top, left = (SIDE - small.shape[0]) // 2, place * (SIDE + 4) + (SIDE - small.shape[1]) // 2
        line[top : top + small.shape[0], left : left + small.shape[1]] = small
    return line


@styled
def picture_lines(lines: Mapping[str, np.ndarray], title: str) -> Figure:
    """Name -> strip of pictures (h, w, 3) uint8."""
    figure, axes = panels(len(lines), 1, width=COLUMNS, height=1.05)
    for axis, (name, line) in zip(axes[:, 0], lines.items(), strict=True):
        axis.imshow(line)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
        axis.set_ylabel(name or "(no label)", rotation=0, ha="right", va="center", fontsize=8)
    figure.suptitle(title)
    return figure
