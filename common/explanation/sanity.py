"""Does a map depend on what the network has learned? Sanity checks, stability and complexity of explanation maps.

Parameter randomisation (Adebayo et al. 2018, section 3.1): the layers lose their trained weights one after the other, the last first, and
the map of the same class is drawn again. A map that stays as it was (similarity near 1 when every weight is random) shows edges of the
image and not what the network learned. Similarity: SSIM (Wang et al. 2004, by scikit-image) and Spearman's rank correlation.
Max-sensitivity (Yeh et al. 2019, definition 2.1, estimated by random draws): how much a map moves when the image moves by a grey level or
two. Sparseness (Chalasani et al. 2020, section 2.2): the Gini index of a map, 0 for the same value everywhere, near 1 for a single pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from common.explanation.faithfulness import summary, summary_markdown
from common.report.plots import LINES, MARKERS, panels, styled

# Places where the network is looked at while its layers lose their weights, the last of them all random; more only cost time.
STAGES = 6
# Max-sensitivity: draws around each image, uniform within this many of 255 grey levels.
DRAWS, RADIUS = 5, 2.0
Explain = Callable[[keras.Model, np.ndarray, np.ndarray], np.ndarray]


def gini(map: np.ndarray) -> float:
    """Gini index 0..1 of a map's values (any shape, not negative): sum_k (2k − n − 1) v_k / (n sum v), v sorted; 0 for an empty map."""
    values = np.sort(np.asarray(map, np.float64).ravel())
    total = values.sum()
    if values[0] < 0:
        raise ValueError("expected a map of values that are not negative")
    number = len(values)
    return float(((2 * np.arange(1, number + 1) - number - 1) * values).sum() / (number * total)) if total > 0 else 0.0


def similarity(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """SSIM and Spearman's rank correlation of two maps (H, W) in 0..1; a constant map has no ranks and correlates with nothing: 0."""
    from scipy.stats import rankdata
    from skimage.metrics import structural_similarity

    side = min(*first.shape, 7)
    window = side if side % 2 else side - 1
    alike = structural_similarity(np.float64(first), np.float64(second), data_range=1.0, win_size=window)
    ranks = [rankdata(map) - (map.size + 1) / 2 for map in (first, second)]
    norm = np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum())
    return {"ssim": float(alike), "rank_correlation": float((ranks[0] * ranks[1]).sum() / norm) if norm > 0 else 0.0}


def weighted_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Layers with learned weights of their own, also inside sub-models, in the order of the model; not the scaling of pixels."""
    found: list[keras.layers.Layer] = []
    for layer in model.layers:
        learned = layer.weights and not isinstance(layer, keras.layers.Normalization)
        found += weighted_layers(layer) if isinstance(layer, keras.Model) else [layer] if learned else []
    return list(dict.fromkeys(found))


def randomise(layer: keras.layers.Layer, rng: np.random.Generator) -> None:
    """Give a layer weights that know nothing.

    Kernels are drawn from a normal distribution of He et al.'s deviation sqrt(2 / fan-in), so that signals keep their size on the way;
    of normalisation, scales are 1 and offsets 0, and so are moving variances and means; biases are 0.
    """
    fresh = []
    for weight in layer.weights:
        shape, name = tuple(weight.shape), weight.name
        if any(part in name for part in ("gamma", "variance")):
            fresh.append(np.ones(shape))
        elif len(shape) < 2 or any(part in name for part in ("beta", "mean", "bias")):
            fresh.append(np.zeros(shape))
        else:
            # Of a depthwise kernel (h, w, channels, 1) each channel sees only its own h x w values.
            fan_in = np.prod(shape[:2]) if "depthwise" in layer.name.lower() or "depthwise" in name else np.prod(shape[:-1])
            fresh.append(rng.normal(0, np.sqrt(2 / max(fan_in, 1)), shape))
    layer.set_weights(fresh)


def parameter_randomisation(
    model: keras.Model,
    images: np.ndarray,
    classes: np.ndarray,
    methods: Mapping[str, Explain],
    seed: int = 0,
    stages: int = STAGES,
    trained: Mapping[str, np.ndarray] | None = None,
) -> pd.DataFrame:
    """Similarity of every method's maps to those of the trained network while the network forgets, the last layers first.

    images (n, H, W, 3); classes (n,) class numbers that stay the same; methods: name -> (model, images, classes) -> maps (n, H, W) in
    0..1; trained: each method's maps of the model as it is, where they are known. The model itself is not changed. Returns rows (method,
    image, randomised: share of the layers with weights, layer: the last one randomised, ssim, rank_correlation), the first ones of each
    method with `randomised` 0 (the map beside itself).
    """
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    layers = weighted_layers(copy)[::-1]
    before = trained or {name: explain(copy, images, classes) for name, explain in methods.items()}
    ends = sorted({round(share * len(layers)) for share in np.linspace(0, 1, stages + 1)})
    rng, rows, done = np.random.default_rng(seed), [], 0
    for end in ends:
        for layer in layers[done:end]:
            randomise(layer, rng)
        done = end
        for name, explain in methods.items():
            maps = explain(copy, images, classes) if end else before[name]
            for index in range(len(images)):
                place = {"method": name, "image": index, "randomised": end / len(layers), "layer": layers[end - 1].name if end else ""}
                rows.append({**place, **similarity(before[name][index], maps[index])})
    return pd.DataFrame(rows)


def max_sensitivity(
    model: keras.Model,
    images: np.ndarray,
    classes: np.ndarray,
    explain: Explain,
    seed: int = 0,
    draws: int = DRAWS,
    radius: float = RADIUS,
    trained: np.ndarray | None = None,
) -> np.ndarray:
    """`(n,)`: the largest ||map(x + noise) − map(x)|| / ||map(x)|| over `draws` of noise, uniform in ±`radius` grey levels of 255.

    trained: map(x) `(n, H, W)` where it is known.
    """
    images = np.asarray(images, "float32")
    before = explain(model, images, classes) if trained is None else trained
    size = np.linalg.norm(before.reshape(len(before), -1), axis=1)
    rng, worst = np.random.default_rng(seed), np.zeros(len(images))
    for _ in range(draws):
        moved = np.clip(images + rng.uniform(-radius, radius, images.shape), 0, 255).astype("float32")
        gap = np.linalg.norm((explain(model, moved, classes) - before).reshape(len(images), -1), axis=1)
        worst = np.maximum(worst, np.divide(gap, size, out=np.zeros_like(gap), where=size > 0))
    return worst


def check(model: keras.Model, images: np.ndarray, classes: np.ndarray, methods: Mapping[str, Explain], seed: int = 0) -> pd.DataFrame:
    """One row per method and image: ssim and rank_correlation with every weight random, max_sensitivity and sparseness.

    The rows of `parameter_randomisation` are in `frame.attrs["cascade"]`.
    """
    trained = {name: explain(model, images, classes) for name, explain in methods.items()}
    cascade = parameter_randomisation(model, images, classes, methods, seed, trained=trained)
    last = cascade[cascade["randomised"] == 1].set_index(["method", "image"])
    rows = []
    for name, explain in methods.items():
        maps = trained[name]
        moved = max_sensitivity(model, images, classes, explain, seed, trained=maps)
        for index in range(len(images)):
            own = {"method": name, "image": index, **last.loc[(name, index), ["ssim", "rank_correlation"]].to_dict()}
            rows.append({**own, "max_sensitivity": moved[index], "sparseness": gini(maps[index])})
    table = pd.DataFrame(rows)
    table.attrs["cascade"] = cascade
    return table


MEASURES = {
    "ssim": "SSIM with random weights (lower is better)",
    "rank_correlation": "rank correlation with random weights (near 0 is better)",
    "max_sensitivity": "max-sensitivity (lower is steadier)",
    "sparseness": "sparseness, Gini (higher is simpler)",
}


def text(table: pd.DataFrame, note: str, synthetic: bool) -> str:
    """sanity.md: what was checked, on what (`note`), and the summary."""
    parts = ["# Do the maps depend on the network?", *(["Synthetic data."] if synthetic else []), note]
    parts.append(
        f"Means over {table['image'].nunique()} images with 95 % bootstrap intervals over images; the class explained is the trained "
        "network's throughout. Random weights: every layer, the last first (Adebayo et al. 2018); a method whose map stays like the "
        "trained network's does not show what the network learned."
    )
    parts.append(summary_markdown(summary(table, 0, MEASURES), MEASURES) + "\n![Similarity while layers lose their weights](sanity.png)")
    return "\n\n".join(parts) + "\n"


@styled
def cascade_figure(cascade: pd.DataFrame, title: str = "") -> Figure:
    """Mean similarity to the trained network's map against the share of random layers, one line per method; SSIM left, ranks right."""
    figure, axes = panels(1, 2, height=3.6)
    for axis, (name, label) in zip(axes.ravel(), (("ssim", "SSIM"), ("rank_correlation", "rank correlation")), strict=True):
        for number, (method, part) in enumerate(cascade.groupby("method", sort=False)):
            mean = part.groupby("randomised")[name].mean()
            # Dashes of their own: two methods may coincide.
            dash, mark = LINES[number % len(LINES)], MARKERS[number % len(MARKERS)]
            axis.plot(mean.index, mean.to_numpy(), dash, marker=mark, markersize=3, label=str(method))
        axis.axhline(0, color="0.7", linewidth=0.8)
        axis.set(xlabel="share of layers with random weights, last first", ylabel=f"{label} with the trained map")
    figure.legend(*axes.ravel()[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8)
    figure.suptitle(title)
    return figure
