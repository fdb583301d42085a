"""Train, validation and test: splits that do not depend on row order, and how much they leak."""

import math
from collections.abc import Callable, Sequence
from zlib import crc32

import numpy as np
import pandas as pd

from common.errors import UsageError

SPLITS = ("train", "validation", "test")
MIN_PER_CLASS = 4  # the fewest images of a class that the rounding of every study's split still spreads over three parts


def _check_fractions(fractions: Sequence[float]) -> tuple[float, float, float]:
    values = tuple(float(value) for value in fractions)
    if len(values) != 3 or min(values) < 0 or not math.isclose(sum(values), 1.0, abs_tol=1e-6) or values[0] == 0:
        raise UsageError(f"split fractions {values}: expected three numbers (train, validation, test), train above 0, that sum to 1")
    return values[0], values[1], values[2]


def split_by_counts(manifest: pd.DataFrame, counts: Callable[[int], tuple[int, int, int]], seed: int) -> pd.DataFrame:
    """Each class drawn apart: `counts(n)` says how many of a class's n images go to train, validation and test.

    The draw depends on (seed, class name, the class's sorted image names) only: row order, index and the other classes
    do not matter. Returns the rows in the order given with the column `split`.
    """
    split = np.full(len(manifest), "", dtype=object)
    images, labels = manifest["image"].to_numpy(), manifest["label"].to_numpy()
    for label in sorted(set(labels)):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(images[rows].astype(str), kind="stable")]
        wanted = counts(len(rows))
        if sum(wanted) != len(rows):
            raise ValueError(f"counts({len(rows)}) = {wanted} does not sum to {len(rows)}")
        if wanted[0] < 1:
            raise UsageError(f"the class {label or '(unlabelled)'} has only {len(rows)} image(s), too few to split")
        rows = np.random.default_rng([seed, crc32(str(label).encode("utf-8", "surrogateescape"))]).permutation(rows)
        split[rows] = np.repeat(SPLITS, wanted)
    return manifest.assign(split=split.astype(str))


def stratified_split(manifest: pd.DataFrame, fractions: Sequence[float], seed: int) -> pd.DataFrame:
    """Random split with each class divided by `fractions` (train, validation, test; largest remainders get the odd
    images), groups ignored.

    UsageError when a class has fewer images than there are parts.
    """
    parts = _check_fractions(fractions)

    def counts(number: int) -> tuple[int, int, int]:
        needed = [int(part > 0) for part in parts]
        if number < sum(needed):
            raise UsageError(f"a class has only {number} image(s); the split needs at least {sum(needed)} of every class")
        exact = np.array(parts) * number
        sizes = np.maximum(np.floor(exact + 1e-9).astype(int), needed)
        while sizes.sum() < number:
            sizes[np.argmax(exact - sizes)] += 1
        while sizes.sum() > number:
            sizes[np.argmax(np.where(sizes > needed, sizes - exact, -np.inf))] -= 1
        return int(sizes[0]), int(sizes[1]), int(sizes[2])

    return split_by_counts(manifest, counts, seed)


def grouped_split(manifest: pd.DataFrame, fractions: Sequence[float], seed: int) -> pd.DataFrame:
    """Split whole groups (slides, lesions, patients), every class close to `fractions` (train, validation, test; sum 1).

    Returns the rows in the order given with the column `split`. UsageError when a class has fewer groups than there are parts.
    """
    return manifest.assign(split=np.array(SPLITS)[_spread(manifest, _check_fractions(fractions), seed)])


def grouped_folds(manifest: pd.DataFrame, folds: int, seed: int) -> np.ndarray:
    """`(n,)` the number of each row's fold, 0 to folds - 1: whole groups, every class about evenly. Errors as in `grouped_split`."""
    return _spread(manifest, (1 / folds,) * folds, seed)


def _spread(manifest: pd.DataFrame, parts: Sequence[float], seed: int) -> np.ndarray:
    """`(n,)` the part of each row, of the shares `parts`.

    Groups are taken large to small, in random order among equals, and each goes where its classes are relatively
    emptiest (Webster's rule of apportionment), so parts fill side by side and none is left with only the small groups.
    A class whose last groups are needed to reach every part gets them there.
    """
    used = [index for index, part in enumerate(parts) if part > 0]
    labels = sorted(set(manifest["label"]))
    codes = manifest["label"].map({label: index for index, label in enumerate(labels)}).to_numpy()
    names, group_of = np.unique(manifest["group"].to_numpy().astype(str), return_inverse=True)
    table = np.zeros((len(names), len(labels)), dtype=np.int64)
    np.add.at(table, (group_of, codes), 1)

    left = (table > 0).sum(axis=0)  # groups of each class not yet placed
    for label, number in zip(labels, left, strict=True):
        if label and number < len(used):
            raise UsageError(f"the class {label} has only {number} group(s); a grouped split needs at least {len(used)} of every class")
    target = np.outer(parts, table.sum(axis=0))[used]
    placed = np.zeros_like(target)
    named = np.array([bool(label) for label in labels])

    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-table[order].sum(axis=1), kind="stable")]
    choice = np.empty(len(names), dtype=np.int64)
    for group in order:
        present = np.flatnonzero(table[group])
        sizes = table[group, present]
        # The growth of sum((placed - target)^2 / target) when the group is added to each part.
        cost = ((2 * sizes * (placed[:, present] - target[:, present]) + sizes**2) / target[:, present]).sum(axis=1)
        empty = placed[:, present] == 0
        pressed = empty & (left[present] <= empty.sum(axis=0)) & named[present]
        if pressed.any():
            cost = np.where(pressed.any(axis=1), cost, np.inf)
        best = int(np.argmin(cost))
        choice[group] = used[best]
        placed[best, present] += sizes
        left[present] -= 1
    return choice[group_of]


def limit_per_class(manifest: pd.DataFrame, total: int) -> pd.DataFrame:
    """At most `total` labelled images in all, as evenly over the classes as they allow, rows in the order given; always
    the same ones.

    Images of one group stay together where that leaves at least four groups a class (a grouped split needs some).
    UsageError when `total` is below four images a class, which is what a split needs.
    """
    labelled = manifest[manifest["label"] != ""]
    labels = sorted(set(labelled["label"]))
    if total < MIN_PER_CLASS * len(labels):
        raise UsageError(f"--limit {total}: a split of {len(labels)} classes needs at least {MIN_PER_CLASS * len(labels)} images")
    sizes = labelled["label"].value_counts()
    room, quotas = total, {}
    for position, label in enumerate(sorted(labels, key=lambda label: (sizes[label], label))):
        quotas[label] = min(int(sizes[label]), math.ceil(room / (len(labels) - position)) if position else room // len(labels))
        room -= quotas[label]
    kept: list[str] = []
    for label in labels:
        kept += _take(labelled[labelled["label"] == label], quotas[label])
    return manifest[manifest["image"].isin(set(kept))]


def limit_proportional(manifest: pd.DataFrame, total: int) -> pd.DataFrame:
    """At most `total` labelled images in all with the classes' shares kept, rows in the order given; always the same ones.

    Each class keeps at least as many images as a split of it needs (or all it has), so very rare classes are a little less rare.
    UsageError when `total` is below four images a class.
    """
    labelled = manifest[manifest["label"] != ""]
    sizes = labelled["label"].value_counts()
    if total < MIN_PER_CLASS * len(sizes):
        raise UsageError(f"--limit {total}: a split of {len(sizes)} classes needs at least {MIN_PER_CLASS * len(sizes)} images")
    share = min(1.0, total / len(labelled))
    quotas = {label: min(int(size), max(MIN_PER_CLASS, math.floor(share * size))) for label, size in sizes.items()}
    beyond = max(0, sum(quotas.values()) - total)  # what the rarest classes got beyond their share, from the largest on
    for label in sizes.index:
        taken = min(beyond, max(0, quotas[label] - MIN_PER_CLASS))
        quotas[label] -= taken
        beyond -= taken
    kept: list[str] = []
    for label, quota in quotas.items():
        kept += _take(labelled[labelled["label"] == label], quota)
    return manifest[manifest["image"].isin(set(kept))]


def _take(rows: pd.DataFrame, quota: int) -> list[str]:
    """`quota` image names of one class: groups in an order that depends on their names only, at most a quarter of the
    quota from one at first.
    """
    cap = max(1, quota // 4)
    by_group = {group: sorted(images) for group, images in rows.groupby("group")["image"]}
    groups = sorted(by_group, key=lambda group: (crc32(str(group).encode("utf-8", "surrogateescape")), str(group)))
    first = [image for group in groups for image in by_group[group][:cap]]
    rest = [image for group in groups for image in by_group[group][cap:]]
    return (first + rest)[:quota]


def by_field(manifest: pd.DataFrame) -> pd.DataFrame:
    """The manifest with the field in place of the group, where it has fields: what a split or a bootstrap must keep whole."""
    return manifest.assign(group=manifest["field"]) if "field" in manifest else manifest


def leakage(manifest: pd.DataFrame) -> dict[str, dict]:
    """How many test and validation images share their group with a training image.

    `{"test": {"images": 812, "shared": 710, "fraction": 0.874, "per_class": {name: {"images": 163, "shared": 136}}},
    "validation": {…}}`
    """
    train = set(manifest.loc[manifest["split"] == "train", "group"])
    result: dict[str, dict] = {}
    for name in ("test", "validation"):
        part = manifest[manifest["split"] == name]
        shared = part["group"].isin(train)
        per_class = {
            str(label): {
                "images": int((part["label"] == label).sum()),
                "shared": int(shared[part["label"] == label].sum()),
            }
            for label in sorted(set(part["label"]))
        }
        fraction = float(shared.mean()) if len(part) else 0.0
        result[name] = {"images": len(part), "shared": int(shared.sum()), "fraction": fraction, "per_class": per_class}
    return result
