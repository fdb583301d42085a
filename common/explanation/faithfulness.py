"""How good is a map? Deletion and insertion curves, and agreement with a mask. None of the papers measured this; it is ours.

Deletion and insertion (Petsiuk et al. 2018, "RISE", section 4.2): pixels are removed from the image, or brought into a blurred one,
in the order of the map, and the probability of the explained class is followed. A map that found the evidence makes the first
curve fall early (small area) and the second rise early (large area). A map of random numbers, as coarse as the methods' own maps,
is measured beside them on the same images, and each method's difference to it has an interval of its own.
With a mask: the pointing game (Zhang et al. 2016: is the map's maximum inside?), the share of the map's energy inside (Wang et al.
2020), the Jaccard index of the map at half its maximum, and continuous Dice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from common.explanation.prepared import check_images, class_numbers, probabilities
from common.metrics.overlap import continuous_dice, jaccard_index
from common.metrics.statistics import bootstrap_interval, paired_bootstrap
from common.report.markup import markdown, value_text

STEPS = 20
# RISE's blur: a Gaussian of 5 pixels cut to an 11 x 11 kernel, for images of 224 pixels.
BLUR_LENGTH, BLUR_SIGMA, BLUR_SIDE = 11, 5.0, 224
# Rows and columns of the random map where the methods name no feature map.
RANDOM_GRID = (7, 7)
# Column -> its title, with what a smaller or larger value says; the order is that of the table.
MEASURES = {
    "deletion": "deletion (lower is better)",
    "insertion": "insertion (higher is better)",
    "pointing": "pointing (higher is better)",
    "energy": "energy (higher is better)",
    "jaccard": "jaccard (higher is better)",
    "continuous_dice": "continuous dice (higher is better)",
}


@dataclass(frozen=True)
class Curves:
    """Probability of the explained class at `fraction` of the pixels removed (deletion) or shown (insertion); each (steps + 1,)."""

    fraction: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray

    @property
    def areas(self) -> dict[str, float]:
        """Areas under both curves, 0..1, by the trapezium rule."""
        return {
            "deletion": float(np.trapezoid(self.deletion, self.fraction)),
            "insertion": float(np.trapezoid(self.insertion, self.fraction)),
        }


def pixel_order(map: np.ndarray) -> np.ndarray:
    """Flat pixel numbers from the map's highest value to its lowest; equal values keep the order of the image, so it never varies."""
    return np.argsort(-np.asarray(map, "float32").ravel(), kind="stable")


def _steps(start: np.ndarray, end: np.ndarray, order: np.ndarray, counts: np.ndarray):
    """Images on the way from `start` to `end`, pixel by pixel in `order`, at each of `counts`; made one at a time."""
    present = start.reshape(-1, start.shape[-1]).copy()
    goal = end.reshape(-1, end.shape[-1])
    done = 0
    for count in counts:
        present[order[done:count]] = goal[order[done:count]]
        done = count
        yield present.reshape(start.shape)


def blur_kernel(side: int) -> np.ndarray:
    """One row (length,) of RISE's separable kernel, scaled from 224 pixels to `side`; it sums to 1 and has at least 3 entries.

    RISE filters a unit impulse of 11 x 11 pixels with `gaussian_filter(sigma=5)`, whose borders reflect, so the kernel is nearly flat:
    its standard deviation is 3.1 pixels at 224, not 5.
    """
    from scipy.ndimage import gaussian_filter1d

    scale = max(side / BLUR_SIDE, 3 / BLUR_LENGTH)
    half = max(1, round((BLUR_LENGTH * scale - 1) / 2))
    return gaussian_filter1d(np.eye(2 * half + 1)[half], BLUR_SIGMA * scale).astype("float32")


def blurred(image: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) that insertion starts from: `blur_kernel` of its longer side; beyond the border lies the mean colour.

    RISE pads with zero after preprocessing, which is the mean there.
    """
    from scipy.ndimage import correlate1d

    kernel = blur_kernel(max(image.shape[:2]))
    mean = image.mean(axis=(0, 1))
    centred = image - mean
    for axis in (0, 1):
        centred = correlate1d(centred, kernel, axis=axis, mode="constant")
    return centred + mean


def deletion_and_insertion(model, image, maps: Mapping[str, np.ndarray], label: int, *, steps: int = STEPS) -> dict[str, Curves]:
    """Curves of several maps (H, W) of one image (H, W, 3) for the class number `label`.

    Removed pixels take the image's mean colour (RISE: zero after preprocessing, which is the mean there); insertion starts from
    the blurred image (see `blurred`), in which large shapes can still be told.
    """
    (image,) = check_images(model, np.asarray(image)[None])
    label = int(class_numbers(model, label, 1)[0])
    for name, map in maps.items():
        if np.shape(map) != image.shape[:2]:
            raise ValueError(f"the map {name!r} is {np.shape(map)}, the image {image.shape[:2]}")
    pixels = image.shape[0] * image.shape[1]
    counts = np.rint(np.linspace(0, pixels, steps + 1)).astype(int)
    empty = np.broadcast_to(image.mean(axis=(0, 1)), image.shape)
    start = blurred(image)

    def stream():
        for map in maps.values():
            order = pixel_order(map)
            yield from _steps(image, empty, order, counts)
            yield from _steps(start, image, order, counts)

    scores = probabilities(model, stream())[:, label].reshape(len(maps), 2, steps + 1)
    return {name: Curves(counts / pixels, *scores[i]) for i, name in enumerate(maps)}


def mask_agreement(mask: np.ndarray, map: np.ndarray) -> dict[str, float]:
    """Pointing game (0 or 1), energy inside, Jaccard at 0.5 and continuous Dice of a map (H, W) in 0..1 and a mask (H, W).

    A map that is zero everywhere points nowhere and has no energy: 0 for both. Several equal maxima: the share of them inside.
    """
    mask = np.asarray(mask) > 0
    map = np.asarray(map, "float64")
    total = map.sum()
    return {
        "pointing": float(mask[map == map.max()].mean()) if total > 0 else 0.0,
        "energy": float(map[mask].sum() / total) if total > 0 else 0.0,
        "jaccard": float(jaccard_index(mask, map)),
        "continuous_dice": float(continuous_dice(mask, map)),
    }


def random_map(shape: tuple[int, int], seed: int, grid: tuple[int, int] = RANDOM_GRID) -> np.ndarray:
    """The map to beat, `shape` (H, W): uniform noise in 0..1 on a feature map of `grid` (rows, columns), enlarged like one."""
    from common.explanation.cams import upsample

    return upsample(np.random.default_rng(seed).random((1, *grid), dtype="float32"), *shape)[0]


def measure(
    model,
    images,
    maps: Mapping[str, np.ndarray],
    labels: Sequence[int],
    *,
    masks=None,
    names=None,
    steps: int = STEPS,
    seed: int = 0,
    grid: tuple[int, int] = RANDOM_GRID,
    trivial: Mapping[str, np.ndarray] | None = None,
) -> tuple[pd.DataFrame, dict[str, Curves]]:
    """Measure every method on every image, and the random map beside them.

    images (n, H, W, 3); maps: method -> (n, H, W) in 0..1; labels: the class each map explains; masks: None or a list with a
    boolean (H, W) or None for each image (an empty mask counts as none); names: for the column `image`; grid: size of the feature map
    that the methods' maps were enlarged from, which the random map takes over, since a smoother map is not a better one; trivial: name ->
    a map (H, W) that looks at no image (`common.metrics.overlap.trivial_maps`), held against the masks alone.
    Returns a table (image, method, deletion, insertion [, pointing, energy, jaccard, continuous_dice]) and each method's mean curves.
    """
    rows, curves = [], {}
    for index, image in enumerate(np.asarray(images)):
        each = {name: array[index] for name, array in maps.items()}
        each["random"] = random_map(image.shape[:2], seed + index, grid)
        mask = masks[index] if masks is not None else None
        found = deletion_and_insertion(model, image, each, int(labels[index]), steps=steps)
        for name, map in (each | dict(trivial or {})).items():
            row = {"image": names[index] if names is not None else index, "method": name, **(found[name].areas if name in found else {})}
            if mask is not None and np.any(mask):
                row |= mask_agreement(mask, map)
            rows.append(row)
        for name, one in found.items():
            curves.setdefault(name, []).append(one)
    mean = {
        name: Curves(all_[0].fraction, np.mean([c.deletion for c in all_], axis=0), np.mean([c.insertion for c in all_], axis=0))
        for name, all_ in curves.items()
    }
    return pd.DataFrame(rows), mean


def summary(table: pd.DataFrame, seed: int = 0, measures: Mapping[str, str] = MEASURES) -> pd.DataFrame:
    """Mean of each measure by method, with a 95 % bootstrap interval over images (`<measure>_low`, `<measure>_high`) and counts.

    Where the table has the random map: `<measure>_minus_random`, method - random on the same images, with the interval of a paired
    bootstrap (`…_low`, `…_high`). Images differ far more than methods do, so only the paired interval tells methods apart.
    """
    rows = []
    random = table[table["method"] == "random"]
    for method, part in table.groupby("method", sort=False):
        row = {"method": method, "images": len(part)}
        for measure_name in measures:
            if measure_name not in part:
                continue
            values = part[measure_name].dropna().to_numpy()
            if len(values):
                low, high = bootstrap_interval(values, seed=seed)
                row |= {measure_name: values.mean(), f"{measure_name}_low": low, f"{measure_name}_high": high}
                if measure_name == "pointing":
                    row["images_with_mask"] = len(values)
                if method != "random" and len(random) == len(part):
                    # Both list the same images in the same order; a name may occur twice, so they are paired by their place.
                    known = part[measure_name].notna().to_numpy()
                    pairs = (each[measure_name].to_numpy()[known] for each in (random, part))
                    gap, low, high = paired_bootstrap(*pairs, seed=seed)
                    name = f"{measure_name}_minus_random"
                    row |= {name: gap, f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def summary_markdown(table: pd.DataFrame, titles: Mapping[str, str] = MEASURES) -> str:
    """The summary as a Markdown table: mean [95 % interval], and beside it method - random [paired 95 % interval]."""
    measures = [name for name in titles if name in table]
    header = ["method", "images"]
    for name in measures:
        header += [titles[name], *([f"{name.replace('_', ' ')}, method - random"] if f"{name}_minus_random" in table else [])]

    def cell(row, name: str, sign: str = "") -> str:
        return value_text(row[name], row[f"{name}_low"], row[f"{name}_high"], sign=sign)

    rows = []
    for _, row in table.iterrows():
        cells = []
        for name in measures:
            cells += [cell(row, name), *([cell(row, f"{name}_minus_random", "+")] if f"{name}_minus_random" in table else [])]
        rows.append([row["method"], int(row["images"]), *cells])
    return markdown(header, rows)
