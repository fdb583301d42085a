"""Skin Care VGG16 (Listing 3.1), the same plan on any backbone, and the model that explains itself while it learns (section 4.1)."""

import warnings

import keras
from keras import ops

from common.backbones import build_backbone, keep_batchnorm_frozen, preprocess_layer
from common.errors import UsageError
from common.explanation.gradcam import (
    class_gradients,
    layer_gradients,
    map_from_gradients,
    normalise_map,
    split_model,
    tapped_model,
    term_gradients,
)
from common.explanation.graph import flatten
from common.explanation.resize import resize_matrix
from feedback.losses import EPSILON, explanation_loss_for
from feedback.paper import CASES, REGION_RIGHT

IMAGE_SIZE = 227
_NO_FEATURES = (keras.layers.InputLayer, keras.layers.ZeroPadding2D, keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)


def build_classifier(
    backbone: str = "vgg16",
    image_size: int = IMAGE_SIZE,
    classes: int = 8,
    *,
    weights: str | None = None,
    head: str = "flatten",
    units: int = 2048,
    dropout: float = 0.5,
) -> keras.Model:
    """A backbone, two dense layers with dropout, softmax (section 3.2). One flat graph, so that a class map can be taken at any layer.

    Args:
        weights: of the backbone: None, "imagenet" or a path.
        head: "flatten" (the thesis) or "average" (global average pooling, for small networks).
        units: width of the two dense layers; 0 leaves them out.
        dropout: rate; the thesis does not state it.

    Returns:
        Model from raw RGB 0..255 `(batch, image_size, image_size, 3)` to probabilities `(batch, classes)`.
    """
    inputs = keras.Input((image_size, image_size, 3), name="images")
    features = build_backbone(backbone, image_size, weights)(preprocess_layer(backbone)(inputs))
    pool = keras.layers.Flatten(name="flatten") if head == "flatten" else keras.layers.GlobalAveragePooling2D(name="average")
    outputs = pool(features)
    for number in (1, 2) if units else ():
        outputs = keras.layers.Dense(units, activation="relu", name=f"fc{number}")(outputs)
        outputs = keras.layers.Dropout(dropout, name=f"dropout_{number}")(outputs)
    outputs = keras.layers.Dense(classes, activation="softmax", dtype="float32", name="predictions")(outputs)
    flat, _ = flatten(keras.Model(inputs, outputs))
    return keras.Model(flat.inputs, flat.outputs, name=f"skincare_{backbone}")


def skincare_vgg16(weights: str | None = None) -> keras.Model:
    """Listing 3.1 to the unit: VGG16 at 227 x 227, Flatten 25,088, 2048, 2048, 8; 70,309,704 parameters, all trainable."""
    return build_classifier(weights=weights)


def map_layers(classifier: keras.Model, layer: str = "stride16", stages: int = 1) -> tuple[str | None, ...]:
    """Names of the layers whose maps are shown, late to early.

    Args:
        layer: "stride16": the last feature map at a sixteenth of the image, which is block5_conv3 (14 x 14 of 227) of the thesis's VGG16;
            other networks halve once more, and 4 x 4 pixels show no region. "last": the last feature map. Else a layer's name.
        stages: above 1, the last map of each of the network's last `stages` stages (a stage ends where the map is halved), to be fused.

    Raises:
        UsageError: no such layer, or fewer stages than asked for.
    """
    if stages == 1 and layer == "last":
        return (None,)
    last: dict[int, str] = {}
    for one in classifier.layers:
        shape = getattr(one.output, "shape", ())
        if len(shape) == 4 and not isinstance(one, _NO_FEATURES):
            last[int(shape[1])] = one.name
    sides = sorted(side for side in last if 1 < side < classifier.input_shape[1])
    if stages > 1:
        if len(sides) < stages:
            raise UsageError(f"--fuse-stages {stages}: the network has only {len(sides)} stages with a map of more than one pixel")
        return tuple(last[side] for side in sides[:stages])
    if layer == "stride16":
        return (last[min(sides, key=lambda side: abs(side - classifier.input_shape[1] / 16))],)
    return (layer,)


def upsample(maps, size: tuple[int, int]):
    """Maps `(batch, h, w)` to `(batch, *size)`, bilinear. Two matrix products: the same values and gradients on every backend."""
    rows, columns = (ops.convert_to_tensor(resize_matrix(small, large)) for small, large in zip(maps.shape[1:], size, strict=True))
    return ops.matmul(ops.matmul(rows, maps), ops.transpose(columns))


def norm(gradients):
    """Norm over all arrays of a list, a scalar."""
    return ops.sqrt(sum(ops.sum(ops.square(one)) for one in gradients))


class SelfExplaining(keras.Model):
    """A classifier that also gives its Grad-CAM map, and can be trained on both (thesis, figure 4.2 and Algorithm 2).

    The classifier is cut in two, not copied: `body` (convolutions) and `head` (the rest) share its layers. A step runs both once for the
    prediction, differentiates the head for the class weights a_k of eq. 4.6, and one ordinary backward pass does the rest. The map is taken
    of the ground-truth class in training and of the predicted class in `evaluate` and at test (facts, section 4.2, row 4).

    `fit` on images and targets `{"label": (batch,) int, "mask": (batch, H, W) 0..255, 0 everywhere where nothing was marked}`. An image
    without a mask counts for the classification only. Further targets, each of them optional: `"anchor"` `(batch, classes)`, the
    probabilities of the model to stay near; `"class_weight"`, `"region_weight"` and `"anchor_weight"` `(batch,)`, how much of each term an
    image has (1).
    `compile` needs an optimiser and no loss.

    Args:
        classifier: from `build_classifier`, or any Keras classifier with a convolution layer that ends in softmax.
        explanation_weight: lambda of eq. 4.1, 0..1.
        classification_weight: of the classification loss; None: 1 - lambda, as in eq. 4.1. A term of weight 0 is left out.
        normalise_terms: gradients of known size instead of a sum of losses (ours): the classification's (with its anchor) is clipped at
            norm 1, the explanation's is brought to norm 1, each then has its weight. On a trained base the classification's gradient is
            tens of times the explanation's, so that a sum is nearly the classification alone, and later nearly the other.
        anchor_weight: of KL(anchor || prediction), the mean over the batch, added to the classification loss. It keeps the logits, whose
            scale a map divided by its own maximum leaves free, where they were.
        differentiate_weights: False takes the a_k as constants, as the thesis's copy of the model does; True differentiates them too.
        layers: names of the layers whose maps are fused by their mean; (None,) is the last feature map alone.
        feedback: "binary", "graded" or "distance" (see `feedback.losses.explanation_loss_for`).
        threshold: of the region, in the reported Jaccard index (hard) and in the loss of binary feedback (made soft).
        only_wrong: learn only from images whose class or region is wrong (figure 4.1); otherwise from all.
        nominal_batch: images of a full batch, for which the optimiser's rate is meant. A smaller batch (the last of an epoch) pulls in
            proportion, so that every image has the same weight; the reported loss is the mean all the same. None: the mean of any batch.
    """

    def __init__(
        self,
        classifier: keras.Model,
        *,
        explanation_weight: float = 0.3,
        classification_weight: float | None = None,
        normalise_terms: bool = False,
        anchor_weight: float = 0.0,
        differentiate_weights: bool = False,
        layers: tuple[str | None, ...] = (None,),
        feedback: str = "binary",
        threshold: float = 0.5,
        only_wrong: bool = False,
        nominal_batch: int | None = None,
    ) -> None:
        super().__init__(name=f"self_explaining_{classifier.name}")
        if not 0 <= explanation_weight <= 1:
            raise ValueError(f"explanation_weight {explanation_weight}: expected 0 to 1")
        if anchor_weight < 0:
            raise ValueError(f"anchor_weight {anchor_weight}: expected 0 or more")
        # Online tuning sees one image at a time: its statistics are none, so every batch normalisation keeps what training gave it.
        keep_batchnorm_frozen(classifier)
        self.classifier = classifier
        self.body, self.head = split_model(classifier, layers[0] if len(layers) == 1 else None)
        self.taps = None if len(layers) == 1 else tapped_model(classifier, layers)
        self.explanation_weight = explanation_weight
        self.classification_weight = 1.0 - explanation_weight if classification_weight is None else classification_weight
        self.normalise_terms = normalise_terms
        self.anchor_weight = anchor_weight
        self.differentiate_weights = differentiate_weights
        self.only_wrong = only_wrong
        self.nominal_batch = nominal_batch
        self.cut = threshold
        self.explanation_loss = explanation_loss_for(feedback, threshold)
        self.trackers = {
            name: keras.metrics.Mean(name=name)
            for name in ("classification", "explanation", "accuracy", "jaccard", "jaccard_truth", *(("anchor",) if anchor_weight else ()))
        } | {name: keras.metrics.Sum(name=name) for name in CASES}
        self.built = True

    def call(self, images, training=None):
        """Raw RGB 0..255 to `{"probabilities", "logits": (batch, classes), "activations": what the head takes}`."""
        activations = self.body(images, training=training)
        logits = ops.cast(self.head(activations, training=training), "float32")
        return {"probabilities": ops.softmax(logits), "logits": logits, "activations": activations}

    def saliency(self, images, activations, class_weights):
        """Maps `(batch, h, w)` in 0..1 of the classes chosen by `class_weights` `(batch, classes)`, and the logits without dropout."""
        if self.taps is None:
            gradients, logits = class_gradients(self.head, activations, class_weights, return_logits=True)
            first = activations[0] if isinstance(activations, (list, tuple)) else activations
            return map_from_gradients(first, gradients, differentiate_weights=self.differentiate_weights), logits
        activations, gradients, logits = layer_gradients(self.taps, images, class_weights)
        pairs = zip(activations, gradients, strict=True)
        maps = [map_from_gradients(a, g, differentiate_weights=self.differentiate_weights) for a, g in pairs]
        size = max(one.shape[1] for one in maps), max(one.shape[2] for one in maps)
        # Shinde et al. fuse the maps of every convolution; the mean of maps that are each 0..1 lets no layer drown the others.
        return normalise_map(sum(upsample(one, size) for one in maps) / len(maps)), logits

    def explain(self, images, class_weights=None):
        """Probabilities `(batch, classes)` and maps `(batch, h, w)` of the predicted class, or of the classes given one-hot."""
        outputs = self(images, training=False)
        if class_weights is None:
            class_weights = ops.one_hot(ops.argmax(outputs["logits"], axis=-1), outputs["logits"].shape[-1])
        return outputs["probabilities"], self.saliency(images, outputs["activations"], class_weights)[0]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Eq. 4.1, the mean over the batch; the metrics of the step are noted on the way."""
        classification, explanation, seen = self._terms(x, y, y_pred)
        label, mask, maps, marked = (seen[name] for name in ("label", "mask", "maps", "marked"))
        predicted = ops.argmax(seen["steady"], axis=-1)
        class_right = ops.cast(ops.equal(ops.cast(predicted, "int32"), label), "float32")
        jaccard_truth = self._jaccard(mask, maps)
        jaccard = jaccard_truth
        if not training:
            shown = self.saliency(x, y_pred["activations"], ops.one_hot(predicted, seen["steady"].shape[-1]))[0]
            jaccard = self._jaccard(mask, upsample(shown, mask.shape[1:3]))
        region_right = ops.where(marked > 0, ops.cast(jaccard >= REGION_RIGHT, "float32"), 1.0)
        share = ops.stop_gradient(1.0 - class_right * region_right) if self.only_wrong and training else 1.0

        self.trackers["classification"].update_state(seen["classification"])
        self.trackers["explanation"].update_state(seen["explanation"], sample_weight=marked)
        self.trackers["accuracy"].update_state(class_right)
        self.trackers["jaccard"].update_state(jaccard, sample_weight=marked)
        self.trackers["jaccard_truth"].update_state(jaccard_truth, sample_weight=marked)
        if self.anchor_weight:
            self.trackers["anchor"].update_state(seen["anchor"])
        for name, right in zip(CASES, ((1, 1), (1, 0), (0, 1), (0, 0)), strict=True):
            in_class = class_right if right[0] else 1.0 - class_right
            self.trackers[name].update_state(in_class * (region_right if right[1] else 1.0 - region_right))

        terms = [ops.mean(classification * share), ops.mean(explanation * share)]
        if self.normalise_terms and training:
            mean = self._normalised(terms, lambda: [ops.mean(term * share) for term in self._terms(x, y, self(x, training=True))[:2]])
        else:
            # A term of weight 0 is left out, not multiplied by zero: its gradient costs nothing then, and its NaN harms nothing.
            mean = sum(weight * term for weight, term in zip(self._weights, terms, strict=True) if weight)
        if training and self.nominal_batch is not None:
            # The value of the mean with the gradient of sum / nominal_batch.
            pull = mean * (ops.cast(ops.shape(label)[0], "float32") / self.nominal_batch)
            mean = pull + ops.stop_gradient(mean - pull)
        return mean

    @property
    def _weights(self) -> tuple[float, float]:
        return self.classification_weight or float(self.anchor_weight > 0), self.explanation_weight

    def _terms(self, images, y, outputs):
        """Classification with its anchor, and explanation, of each image `(batch,)`, as they are weighted in the loss; what they are of."""
        logits = outputs["logits"]
        label, mask = ops.cast(y["label"], "int32"), ops.cast(y["mask"], "float32") / 255.0
        maps, steady = self.saliency(images, outputs["activations"], ops.one_hot(label, logits.shape[-1]))
        maps = upsample(maps, mask.shape[1:3])
        marked = ops.cast(ops.any(mask > 0, axis=(1, 2)), "float32")
        classification = keras.losses.sparse_categorical_crossentropy(label, logits, from_logits=True)
        # Keras gives a loss in its default precision, which is another's to choose; all here is float32.
        explanation = ops.cast(self.explanation_loss(mask, maps), "float32") * marked
        seen = {"label": label, "mask": mask, "maps": maps, "steady": steady, "marked": marked}
        seen |= {"classification": classification, "explanation": explanation}
        term = classification * y.get("class_weight", 1.0)
        if self.anchor_weight:
            anchor = ops.cast(y["anchor"], "float32")
            seen["anchor"] = ops.sum(anchor * (ops.log(ops.maximum(anchor, EPSILON)) - ops.log_softmax(logits)), axis=-1)
            pull = self.anchor_weight * seen["anchor"] * y.get("anchor_weight", 1.0)
            # The anchor belongs to the classification; where that has no weight of its own, it stands alone.
            term = (term if self.classification_weight else 0.0 * term) + pull
        return term, explanation * y.get("region_weight", 1.0), seen

    def _normalised(self, terms, again):
        """The value of the terms' sum with the gradient g_1 w_1 / max(|g_1|, 1) + g_2 w_2 / |g_2|.

        Both gradients are known then, so the outer one is not computed once more: it is that of sum_v <g_v, v>. `again()` gives the terms
        anew, for a backend that cannot differentiate the values it has.
        """
        variables = self.trainable_variables
        first, second = term_gradients(terms, again, variables, self.classifier.variables)
        weights = self._weights[0] / ops.maximum(norm(first), 1.0), self._weights[1] / ops.maximum(norm(second), EPSILON)
        pulls = [ops.stop_gradient(weights[0] * one + weights[1] * two) for one, two in zip(first, second, strict=True)]
        carrier = sum(ops.sum(pull * variable) for pull, variable in zip(pulls, variables, strict=True))
        value = self._weights[0] * terms[0] + self._weights[1] * terms[1]
        return carrier + ops.stop_gradient(value - carrier)

    def train_step(self, *arguments):
        """Keras's own. With constant a_k the explanation loss gives the layers behind the map no gradient: meant so, and no warning."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Gradients do not exist")
            return super().train_step(*arguments)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """All trackers are updated in `compute_loss`; this reads them."""
        return {metric.name: metric.result() for metric in self.metrics}

    def _jaccard(self, mask, maps):
        """Hard Jaccard index `(batch,)` at the threshold, for reporting: no gradient."""
        inside, shown = mask >= 0.5, maps >= self.cut
        both = ops.sum(ops.cast(ops.logical_and(inside, shown), "float32"), axis=(1, 2))
        either = ops.sum(ops.cast(ops.logical_or(inside, shown), "float32"), axis=(1, 2))
        return ops.stop_gradient(ops.where(either > 0, both / ops.maximum(either, 1.0), 1.0))
