"""LIME on images (Ribeiro et al. 2016, "Why Should I Trust You?"), on the `lime` package, with its slow loop replaced.

The image is cut into superpixels; random ones are blacked out; a ridge regression of the class probability on which superpixels
were left gives each superpixel a weight. The package fits; here the perturbed images are made by one table look-up each and
predicted in chunks by a compiled forward pass. Every call has its own seed: the same seed gives the same bytes.

Settings: the papers give none, so those of the package's image tutorial, which the thesis cites: hidden colour black, quickshift
superpixels, 5 superpixels in the positive-only view, 10 in the view with pros (green) and cons (red).
"""

from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from common.errors import UsageError
from common.explanation.prepared import check_images, class_numbers, prepared, probabilities

POSITIVE_FEATURES, PROS_AND_CONS_FEATURES = 5, 10
GREEN, RED, YELLOW = (0, 158, 60), (213, 40, 30), (255, 230, 0)


@dataclass(frozen=True)
class LimeExplanation:
    """One explained image.

    image: (h, w, 3) uint8. segments: (h, w) int, 0..n-1. weights: (n,) float64, probability gained by showing the superpixel.
    fit: R² of the linear model on the perturbed images, 0 means that the weights say nothing.
    """

    image: np.ndarray
    segments: np.ndarray
    weights: np.ndarray
    fit: float


def superpixels(image: np.ndarray, count: int = 0) -> np.ndarray:
    """Superpixels (h, w), numbered 0..n-1, of a uint8 image: about `count` of them by SLIC, or the package's quickshift for 0."""
    from skimage.segmentation import quickshift, slic

    image = np.asarray(image, np.uint8)
    if count:
        found = slic(image, n_segments=count, compactness=10, sigma=1, start_label=0)
    else:
        found = quickshift(image, kernel_size=4, max_dist=200, ratio=0.2, rng=0)
    # Numbers without gaps: the package takes them as column numbers.
    numbers = np.unique(found, return_inverse=True)[1].reshape(found.shape)
    if numbers.max() == 0:
        # An image of one colour is one superpixel, and a regression on nothing: quarter it.
        rows, columns = np.indices(found.shape)
        numbers = (rows * 2 >= found.shape[0]) * 2 + (columns * 2 >= found.shape[1])
    return numbers


def explain(model, image, label: int, *, samples: int = 1000, count: int = 0, seed: int = 0, segments=None) -> LimeExplanation:
    """Explain the probability of class `label` for one image (H, W, 3), 0..255, at the model's size.

    samples: perturbed images; count: superpixels (0: quickshift decides); segments: superpixels made beforehand.
    Raises `UsageError` for an image of another size, a class that the model has not, or fewer than 10 samples.
    """
    from lime.lime_image import LimeImageExplainer

    if samples < 10:
        raise UsageError(f"--lime-samples {samples}: a regression needs at least 10")
    (image,) = check_images(model, np.asarray(image)[None])
    label = int(class_numbers(model, label, 1)[0])
    shown = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    segments = superpixels(shown, count) if segments is None else np.asarray(segments)
    total = int(segments.max()) + 1
    network, visible, hidden = _scaled(model, image)

    class Explainer(LimeImageExplainer):
        def data_labels(self, image, fudged_image, segments, classifier_fn, num_samples, batch_size=10):
            # The draws of the package, in its order.
            data = self.random_state.randint(0, 2, num_samples * total).reshape((num_samples, total))
            data[0, :] = 1
            perturbed = (np.where(row[segments][..., None] == 1, visible, hidden) for row in data)
            return data, probabilities(network, perturbed).astype("float64")

    explainer = Explainer(random_state=seed)
    found = explainer.explain_instance(
        image,
        None,
        labels=(label,),
        hide_color=0,
        top_labels=None,
        num_samples=samples,
        segmentation_fn=lambda _: segments,
        random_seed=seed,
    )
    weights = np.zeros(total)
    for number, weight in found.local_exp[label]:
        weights[number] = weight
    return LimeExplanation(shown, segments, weights, float(found.score))


def _scaled(model, image: np.ndarray) -> tuple:
    """(network, image, black) such that hiding a part of the image leaves the rest of what the network sees as it is.

    A layer that scales each image by its own statistics (its attribute `per_image` is True; `layer(images, sources)` takes those of
    `sources`) would change with every part that is hidden: then the network is what follows it, and both images are scaled by the
    statistics of the whole one. Without such a layer: the model, the image, zeros.
    """
    black = np.zeros_like(image)
    layer = next((layer for layer in model.layers if getattr(layer, "per_image", False)), None)
    if layer is None:
        return model, image, black
    network = prepared(model, "after the scaling", lambda: keras.Model(layer.output, model.output))
    scaled = (layer(image[None]), layer(black[None], image[None]))
    return network, *(ops.convert_to_numpy(ops.cast(each, "float32"))[0] for each in scaled)


def weight_map(explanation: LimeExplanation) -> np.ndarray:
    """(h, w) float32 in 0..1: each pixel its superpixel's weight where that is positive, divided by the largest."""
    positive = np.maximum(explanation.weights, 0)
    highest = positive.max()
    return (positive / highest if highest > 0 else positive).astype("float32")[explanation.segments]


def _strongest(explanation: LimeExplanation, features: int, positive_only: bool) -> np.ndarray:
    strength = np.maximum(explanation.weights, 0) if positive_only else np.abs(explanation.weights)
    order = np.argsort(-strength, kind="stable")[:features]
    return order[strength[order] > 0]


def _outlined(image: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    from skimage.segmentation import find_boundaries

    image = image.copy()
    image[find_boundaries(chosen, mode="inner")] = YELLOW
    return image


def positive_view(explanation: LimeExplanation, features: int = POSITIVE_FEATURES) -> np.ndarray:
    """(h, w, 3) uint8: the `features` superpixels that speak most for the class, outlined; the rest of the image faded to grey."""
    chosen = np.isin(explanation.segments, _strongest(explanation, features, positive_only=True))
    faded = (0.35 * explanation.image.mean(axis=2, keepdims=True) + 0.35 * 128).astype(np.uint8)
    return _outlined(np.where(chosen[..., None], explanation.image, faded), chosen)


def pros_and_cons_view(explanation: LimeExplanation, features: int = PROS_AND_CONS_FEATURES) -> np.ndarray:
    """(h, w, 3) uint8: of the `features` strongest superpixels, those for the class tinted green and those against it red."""
    picked = _strongest(explanation, features, positive_only=False)
    image = explanation.image.astype("float32")
    signs = np.zeros(explanation.segments.shape, int)
    for number in picked:
        signs[explanation.segments == number] = 1 if explanation.weights[number] > 0 else -1
    for sign, colour in ((1, GREEN), (-1, RED)):
        image[signs == sign] = 0.55 * image[signs == sign] + 0.45 * np.array(colour, "float32")
    return _outlined(image.astype(np.uint8), signs)
