"""The class-activation maps of the papers, one signature: `(model, images, classes, layer=None) -> maps (batch, height, width)` in 0..1.

`gradcam`           Selvaraju et al. 2017/2020, eqs. 1 and 2
`gradcam++`         Chattopadhay et al. 2018, eqs. 10 and 19
`layercam`          Jiang et al. 2021, eqs. 6 and 7
`scorecam`          Wang et al. 2020 (see `scorecam.py`)
`faster-scorecam`   Score-CAM on the ten channels that vary most (see `scorecam.py`)

Maps come back at the images' size (bilinear, pixel centres aligned) and divided by their maximum; with `upsample=False` at the
layer's own size. `layer` is a layer's name, or a list of names: then a list of maps, from one forward and one backward pass.
Where the papers, their authors' code and the papers' toolkit differ, the default is the toolkit's and an option gives the other:
`alphas` (Grad-CAM++), `weights` and `align` (Score-CAM).
`engine="tf-keras-vis"` sends the same question to that package, which is the reference in the tests.
"""

from collections.abc import Callable, Sequence
from functools import partial

import keras
import numpy as np
from keras import ops

from common.errors import UsageError
from common.explanation import gradcam as g
from common.explanation.options import CAMS
from common.explanation.prepared import check_images, class_weights, prepared
from common.explanation.resize import resize_matrix

Layer = str | None


def upsample(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Maps (batch, h, w) -> (batch, height, width), bilinear, each divided by its own maximum again."""
    rows, columns = resize_matrix(maps.shape[1], height), resize_matrix(maps.shape[2], width)
    large = rows @ maps @ columns.T
    highest = large.max(axis=(1, 2), keepdims=True)
    return np.divide(large, highest, out=np.zeros_like(large), where=highest > 0)


def _gradcam_plus_plus(activations, gradients, alphas: str = "all"):
    """Eq. 19: alpha = g^2 / (2 g^2 + sum_ab A g^3); eq. 10: w_k = sum_ij alpha relu(g).

    The alphas of a channel are divided by their sum, which the equations do not say (with alpha = 1/Z the method is then Grad-CAM on
    positive gradients, as the paper states). The sum runs over `alphas="all"` positions, as in tf-keras-vis, the papers' toolkit; or,
    as in the authors' code, over those with a "positive" gradient. The two differ in the weights of channels whose gradient changes
    sign. The class score is exp(y), whose derivatives are exp(y) times powers of g = dy/dA; the factor exp(y) > 0 cancels when the
    map is divided by its maximum. Where g is zero its alpha is zero. g is scaled by its largest value first: alpha (with the sum
    scaled back) does not change, and g^3 stays inside float32.
    """
    largest = ops.max(ops.abs(gradients), axis=(1, 2, 3), keepdims=True)
    scaled = gradients / ops.where(largest > 0, largest, ops.ones_like(largest))
    sums = ops.sum(activations, axis=(1, 2), keepdims=True)
    denominator = 2 * ops.square(scaled) + sums * ops.power(scaled, 3) * largest
    safe = ops.where(denominator == 0, ops.ones_like(denominator), denominator)
    alpha = ops.where(denominator == 0, ops.zeros_like(denominator), ops.square(scaled) / safe)
    counted = alpha if alphas == "all" else ops.where(scaled > 0, alpha, ops.zeros_like(alpha))
    total = ops.sum(counted, axis=(1, 2), keepdims=True)
    alpha = alpha / ops.where(total == 0, ops.ones_like(total), total)
    weights = ops.sum(alpha * ops.relu(scaled), axis=(1, 2), keepdims=True)
    return g.normalise_map(ops.relu(ops.sum(weights * activations, axis=-1)))


def _layercam(activations, gradients):
    """Eqs. 6 and 7: ReLU(sum_k relu(g_ij) A_ij): each position has its own weight."""
    return g.normalise_map(ops.relu(ops.sum(ops.relu(gradients) * activations, axis=-1)))


_FROM_GRADIENTS = {"gradcam": g.map_from_gradients, "gradcam++": _gradcam_plus_plus, "layercam": _layercam}
# Options of single methods: name -> the values it takes, the default first.
_SCORE_OPTIONS = {"weights": ("probability", "softmax"), "align": ("corners", "centres")}
_OPTIONS = {"gradcam++": {"alphas": ("all", "positive")}, "scorecam": _SCORE_OPTIONS, "faster-scorecam": _SCORE_OPTIONS}


def _check_options(method: str, engine: str, options: dict[str, str]) -> None:
    known: dict[str, tuple[str, ...]] = _OPTIONS.get(method, {})
    for name, value in options.items():
        if name not in known:
            raise UsageError(f"{method} has no option {name!r}" + (f": it takes {', '.join(known)}" if known else ""))
        if value not in known[name]:
            raise UsageError(f"{method}: {name}={value!r}; expected one of {', '.join(known[name])}")
        if engine != "own" and value != known[name][0]:
            raise UsageError(f"{method}: {name}={value!r} is an option of --engine own; {engine} does it in its own way")


def gradient_maps(
    model, images, weights, layers: Sequence[Layer], methods: Sequence[str], *, alphas: str = "all"
) -> list[list[np.ndarray]]:
    """Maps [method][layer] at the layers' own size for the gradient methods, all from one forward and one backward pass.

    `alphas`: of Grad-CAM++, see `_gradcam_plus_plus`.
    """

    def make():
        taps = g.tapped_model(model, layers)
        formulas: list[Callable] = [
            partial(_gradcam_plus_plus, alphas=alphas) if name == "gradcam++" else _FROM_GRADIENTS[name] for name in methods
        ]

        def run(x, w):
            activations, gradients, _ = g.layer_gradients(taps, x, w)
            return [[formula(a, d) for a, d in zip(activations, gradients, strict=True)] for formula in formulas]

        return g.compiled(run, taps)

    run = prepared(model, ("gradients", tuple(layers), tuple(methods), alphas), make)
    return keras.tree.map_structure(ops.convert_to_numpy, run(images, weights))


def cam(
    method: str,
    model: keras.Model,
    images,
    classes,
    layer: Layer | Sequence[Layer] = None,
    *,
    engine: str = "own",
    upsample: bool = True,
    **options: str,
):
    """Maps of one method (a name of `METHODS`): see the module's docstring for the signature.

    images: (batch, H, W, 3), 0..255 as the project's models take them; classes: one class number, or (batch,). options: of Grad-CAM++
    `alphas="all"` or `"positive"`; of both Score-CAMs `weights="probability"` or `"softmax"`, `align="corners"` or `"centres"`.
    Raises `UsageError` for an unknown method, engine, layer or option, images of another size, a model without convolutions, and
    Score-CAM on a model with one output that is no probability.
    """
    if method not in METHODS:
        raise UsageError(f"unknown explanation method {method!r}: choose from {', '.join(METHODS)}")
    _check_options(method, engine, options)
    images = check_images(model, images)
    weights = class_weights(model, classes, len(images))
    layers = list(layer) if isinstance(layer, (list, tuple)) else [layer]
    if engine == "tf-keras-vis":
        from common.explanation.reference import reference_maps

        maps = [reference_maps(method, model, images, weights, name) for name in layers]
    elif engine != "own":
        raise UsageError(f"--engine {engine!r}: choose own or tf-keras-vis")
    elif method in _FROM_GRADIENTS:
        (maps,) = gradient_maps(model, images, weights, layers, (method,), **options)
    else:
        from common.explanation.scorecam import score_maps

        maps = score_maps(model, images, weights, layers, max_channels=10 if method == "faster-scorecam" else None, **options)
    if upsample:
        maps = [_upsample(m, *images.shape[1:3]) for m in maps]
    return maps if isinstance(layer, (list, tuple)) else maps[0]


_upsample = upsample
METHODS: dict[str, Callable] = {name: partial(cam, name) for name in CAMS}
gradcam, gradcam_plus_plus, scorecam, faster_scorecam, layercam = METHODS.values()
