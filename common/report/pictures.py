"""A run's images and masks as its model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.data.images import read_image, resize
from common.data.masks import read_mask
from common.errors import UsageError
from common.runs.reading import RunFolder, run_files


def input_of(folder: RunFolder) -> tuple[int, str, tuple[str, ...]]:
    """Side and resize filter of the images that the run's model takes, and its classes. UsageError for a run of no classifier."""
    config = folder.read_json("config.json")
    if not config.get("image_size") or not config.get("classes"):
        raise UsageError(f"{folder.path / 'config.json'} names no image_size or no classes: not a classifier's run")
    return int(config["image_size"]), config.get("resize_filter") or "bilinear", tuple(config["classes"])


def pictures(folder: RunFolder, files: Sequence[Path]) -> np.ndarray:
    """`(n, side, side, 3)` uint8. UsageError for a file that cannot be read."""
    side, method, _ = input_of(folder)
    return np.stack([resize(read_image(path), side, method) for path in files])


def masks(folder: RunFolder, data_dir: Path | None, names: Sequence[str], side: int) -> list[np.ndarray | None]:
    """For each image of the run the union of its masks `(side, side)` bool, as the feedback thesis joins the five attributes.

    None where manifest.csv names none, or they are not there. UsageError where one is not what it was when the run began.
    """
    manifest = folder.read_table("manifest.csv", dtype=str, keep_default_na=False) if folder.has("manifest.csv") else None
    columns = [] if manifest is None else [name for name in manifest if name.startswith("mask")]
    if manifest is None or not columns:
        return [None] * len(names)
    rows = manifest.drop_duplicates("image").set_index("image")[columns].reindex(names, fill_value="").to_numpy().tolist()
    wanted = [name for files in rows for name in files if name]
    paths = dict(zip(wanted, run_files(folder, data_dir, wanted), strict=True))
    found: list[np.ndarray | None] = []
    for files in rows:
        there = [paths[name] for name in files if name and paths[name].is_file()]
        read = [read_mask(path) for path in there]
        found.append(np.any([resize(mask.astype(np.uint8), side, "nearest") > 0 for mask in read], axis=0) if read else None)
    return found
