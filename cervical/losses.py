"""Losses of the cervical study: four of supervised contrastive learning, two broken competitors as coded, two cost-sensitive ones.

Contrastive losses take integer labels `(batch,)` and embeddings `(batch, d)` and return a scalar. Unless said otherwise the embeddings
are divided by their L2 norm first; z_i is row i after that, s_ij = z_i . z_j, and P(i) are the other rows of i's class.
One view an image: positives are images of the same class within the batch (facts: the authors' code makes no pairs of views).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

# Stands for minus infinity in masked sums: exp(-1e9) is 0 in float32, and 0 * -1e9 stays finite where 0 * inf would not.
MASKED = -1e9


def npairs(labels: Any, embeddings: Any, temperature: float) -> Any:
    """N-pairs loss as the authors' code has it: mean_i CE(t_i, softmax_j(s_ij / tau)), t_ij = [y_j = y_i] / |class of i in the batch|.

    The diagonal stays in, as a positive and in the denominator, so the least possible value is mean_i ln |class of i|
    (about 1.92 for 32 random cells of five classes) and a constant embedding gives ln(batch).
    """
    similarity = cosine_similarities(embeddings) / temperature
    same = same_class(labels, similarity)
    targets = same / ops.sum(same, axis=1, keepdims=True)
    return ops.mean(ops.logsumexp(similarity, axis=1) - ops.sum(targets * similarity, axis=1))


def multiclass_npair(labels: Any, embeddings: Any) -> Any:
    """Thesis eq. 3.4: l(i, j) = log(1 + sum_k exp(s_ik - s_ij)), k over the rows of other classes; mean over the positive pairs i != j.

    The printed sum runs over all 2N samples, positives and i itself included; that has no guard for k = j (facts 1.8), so k runs over
    the negatives as in the original loss (Sohn 2016). 0 for a batch without a positive pair.
    """
    similarity = cosine_similarities(embeddings)
    same = same_class(labels, similarity)
    negatives = ops.logsumexp(ops.where(same > 0, MASKED, similarity), axis=1, keepdims=True)
    # log(1 + sum_k exp(s_ik - s_ij)) = softplus(logsumexp_k s_ik - s_ij); softplus(-1e9) is 0 for a row without negatives.
    return mean_where(ops.softplus(negatives - similarity), without_diagonal(same))


def ntxent(labels: Any, embeddings: Any, temperature: float) -> Any:
    """Thesis eq. 3.5 with k != i: l(i, j) = -log(exp(s_ij / tau) / sum_{k != i} exp(s_ik / tau)), mean over the positive pairs i != j.

    As printed the denominator contains k = i, whose similarity is 1 whatever the network does. 0 without a positive pair.
    """
    similarity = cosine_similarities(embeddings) / temperature
    positives = without_diagonal(same_class(labels, similarity))
    return mean_where(log_denominator(similarity) - similarity, positives)


def supcon(labels: Any, embeddings: Any, temperature: float) -> Any:
    """Khosla et al. 2020, L_out (eq. 2): mean_i -1/|P(i)| sum_{p in P(i)} log(exp(s_ip / tau) / sum_{k != i} exp(s_ik / tau)).

    Anchors without a positive are dropped from the mean. Differs from `ntxent` in weighting anchors, not pairs, equally.
    """
    similarity = cosine_similarities(embeddings) / temperature
    positives = without_diagonal(same_class(labels, similarity))
    count = ops.sum(positives, axis=1, keepdims=True)
    mean_positive = ops.sum(positives * similarity, axis=1, keepdims=True) / ops.maximum(count, 1.0)
    return mean_where(log_denominator(similarity) - mean_positive, ops.cast(count > 0, similarity.dtype))


def triplet_semihard(labels: Any, embeddings: Any, margin: float) -> Any:
    """Thesis eq. 3.3, max(0, |z_i - z_j|^2 - |z_i - z_k|^2 + m), k semi-hard; mean over the positive pairs (i, j).

    k is the nearest negative of i that is farther away than j; where there is none, the farthest negative (Schroff et al. 2015, and the
    convention of TensorFlow Addons). 0 for a batch without a positive pair or without two classes.
    """
    similarity = cosine_similarities(embeddings)
    distance = ops.maximum(2.0 - 2.0 * similarity, 0.0)  # |z_i - z_j|^2 of unit vectors
    same = same_class(labels, similarity)
    different = 1.0 - same
    # [i, j, k]: k is a negative of i and farther from i than j is. (batch, batch, batch) booleans: 32 kB at the study's batch of 32.
    farther = ops.logical_and(distance[:, None, :] > distance[:, :, None], different[:, None, :] > 0)
    # Only the choice of k is made with these; the distance itself is taken from `distance`, so that the gradient is that of eq. 3.3.
    nearest_farther = ops.min(ops.where(farther, distance[:, None, :], -MASKED), axis=2)
    farthest = ops.max(ops.where(different > 0, distance, MASKED), axis=1, keepdims=True)
    negative = ops.where(ops.any(farther, axis=2), nearest_farther, farthest)
    pairs = without_diagonal(same) * ops.cast(ops.any(different > 0, axis=1, keepdims=True), same.dtype)
    return mean_where(ops.relu(ops.where(pairs > 0, distance - negative + margin, 0.0)), pairs)


def ntxent_as_coded(embeddings: Any, temperature: float) -> Any:
    """The authors' "supervised NT-Xent": mean_i CE(column 0, softmax_{k != i}(e_i . e_k / tau)); labels unused, nothing normalised.

    Their targets are row numbers, mis-masked so that effectively the first remaining column is everybody's target. A constant
    embedding gives ln(batch - 1), where their runs settle: 3.4333 over 566 batches of 32 and one of 11 (facts 1.8). For demonstration.
    """
    similarity = ops.matmul(embeddings, ops.transpose(embeddings)) / temperature
    columns = ops.pad(similarity, [[0, 0], [0, 1]])  # so that a batch of one has a second column
    first = ops.where(ops.arange(ops.shape(columns)[0]) == 0, columns[:, 1], columns[:, 0])
    return ops.mean(log_denominator(similarity)[:, 0] - first)


def triplet_as_coded(embeddings: Any, margin: float) -> Any:
    """The authors' "triplet margin" loss: eq. 3.3 on the first three rows of the batch, whatever their classes; settles at the margin.

    Rows that a short last batch lacks count as zeros. For demonstration.
    """
    anchor, positive, negative = ops.split(ops.pad(embeddings, [[0, 2], [0, 0]])[:3], 3)
    return ops.relu(ops.sum(ops.square(anchor - positive)) - ops.sum(ops.square(anchor - negative)) + margin)


def weighted_log_loss(labels: Any, probabilities: Any, costs: Any) -> Any:
    """Thesis eq. 3.2 for K classes: 1/N sum_i -w_{y_i} log p_{i, y_i}. Labels `(batch,)`, probabilities `(batch, K)`, costs `(K,)`.

    The mean divides by N and not by the sum of the weights, as Keras does with `class_weight`. (Paper eq. 2 has a sign error.)
    """
    target = ops.one_hot(ops.cast(labels, "int32"), probabilities.shape[-1], dtype=probabilities.dtype)
    logs = ops.log(ops.clip(probabilities, keras.config.epsilon(), 1.0))
    return -ops.mean(ops.sum(target * ops.convert_to_tensor(costs, dtype=probabilities.dtype) * logs, axis=-1))


def expected_cost_loss(labels: Any, probabilities: Any, cost_matrix: Any) -> Any:
    """1/N sum_i [-log p_{i, y_i} + sum_k C[y_i, k] p_{i, k}]: log loss plus the cost to expect when predicting as probably as p says.

    Ours: the thesis (3.2) describes a cost matrix, serious taken for benign dearer than the reverse, and prints no formula for it.
    cost_matrix `(K, K)`, rows true, columns predicted, zero diagonal.
    """
    target = ops.one_hot(ops.cast(labels, "int32"), probabilities.shape[-1], dtype=probabilities.dtype)
    rows = ops.matmul(target, ops.convert_to_tensor(cost_matrix, dtype=probabilities.dtype))
    logs = ops.log(ops.clip(probabilities, keras.config.epsilon(), 1.0))
    return ops.mean(ops.sum(rows * probabilities - target * logs, axis=-1))


def cosine_similarities(embeddings: Any) -> Any:
    """s_ij, `(batch, batch)`. A row of zeros (a dead ReLU projection) counts as orthogonal to all and gets a finite gradient."""
    squares = ops.sum(ops.square(embeddings), axis=1, keepdims=True)
    unit = embeddings * ops.rsqrt(ops.maximum(squares, 1e-12))
    return ops.matmul(unit, ops.transpose(unit))


def same_class(labels: Any, like: Any) -> Any:
    """`(batch, batch)` of 1 where y_i = y_j, the diagonal included, in the dtype of `like`."""
    return ops.cast(ops.equal(labels[:, None], labels[None, :]), like.dtype)


def without_diagonal(square: Any) -> Any:
    """`square` with its diagonal set to 0."""
    return square * (1.0 - ops.eye(ops.shape(square)[0], dtype=square.dtype))


def log_denominator(similarity: Any) -> Any:
    """log sum_{k != i} exp(s_ik), `(batch, 1)`; 0-like minus infinity (-1e9) for a batch of one."""
    diagonal = ops.eye(ops.shape(similarity)[0], dtype=similarity.dtype)
    return ops.logsumexp(similarity + MASKED * diagonal, axis=1, keepdims=True)


def mean_where(values: Any, mask: Any) -> Any:
    """Mean of `values` where `mask` is 1; 0 where it nowhere is. Masked values must be finite."""
    return ops.sum(values * mask) / ops.maximum(ops.sum(mask), 1.0)


class _ContrastiveLoss(keras.losses.Loss):
    """Checks shapes; the equations are the functions above, which return the batch's value as a scalar."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        labels, embeddings = tuple(y_true.shape), tuple(y_pred.shape)
        if len(embeddings) != 2:
            raise ValueError(f"{type(self).__name__}: embeddings have shape {embeddings}; expected (batch, dimensions)")
        if len(labels) != 1 or (None not in (labels[0], embeddings[0]) and labels[0] != embeddings[0]):
            raise ValueError(f"{type(self).__name__}: labels have shape {labels}; expected ({embeddings[0]},), one an embedding")
        return self.value(y_true, y_pred)


class _Tempered(_ContrastiveLoss):
    def __init__(self, temperature: float = 0.05, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.temperature = _positive("temperature", temperature)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


class _Margin(_ContrastiveLoss):
    def __init__(self, margin: float = 0.2, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.margin = _positive("margin", margin)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin}


@keras.saving.register_keras_serializable(package="cervical")
class NPairsLoss(_Tempered):
    """See `npairs`. The study's loss; temperature 0.05 in the code."""

    def value(self, labels: Any, embeddings: Any) -> Any:
        return npairs(labels, embeddings, self.temperature)


@keras.saving.register_keras_serializable(package="cervical")
class MultiClassNPairLoss(_ContrastiveLoss):
    """See `multiclass_npair`."""

    def value(self, labels: Any, embeddings: Any) -> Any:
        return multiclass_npair(labels, embeddings)


@keras.saving.register_keras_serializable(package="cervical")
class NTXentLoss(_Tempered):
    """See `ntxent`."""

    def value(self, labels: Any, embeddings: Any) -> Any:
        return ntxent(labels, embeddings, self.temperature)


@keras.saving.register_keras_serializable(package="cervical")
class SupConLoss(_Tempered):
    """See `supcon`."""

    def value(self, labels: Any, embeddings: Any) -> Any:
        return supcon(labels, embeddings, self.temperature)


@keras.saving.register_keras_serializable(package="cervical")
class TripletLoss(_Margin):
    """See `triplet_semihard`; margin 0.2 in the code."""

    def value(self, labels: Any, embeddings: Any) -> Any:
        return triplet_semihard(labels, embeddings, self.margin)


@keras.saving.register_keras_serializable(package="cervical")
class CodedNTXentLoss(_Tempered):
    """See `ntxent_as_coded`: broken, kept to show what the study compared against."""

    def value(self, labels: Any, embeddings: Any) -> Any:
        return ntxent_as_coded(embeddings, self.temperature)


@keras.saving.register_keras_serializable(package="cervical")
class CodedTripletLoss(_Margin):
    """See `triplet_as_coded`: broken, kept to show what the study compared against."""

    def value(self, labels: Any, embeddings: Any) -> Any:
        return triplet_as_coded(embeddings, self.margin)


class _CostLoss(keras.losses.Loss):
    """Shared checks of the losses on labels `(batch,)` and probabilities `(batch, K)`."""

    def __init__(self, costs: Sequence[Any], name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.costs = ops.convert_to_numpy(costs).astype("float32").tolist()

    def call(self, y_true: Any, y_pred: Any) -> Any:
        labels, probabilities = tuple(y_true.shape), tuple(y_pred.shape)
        if len(probabilities) != 2 or probabilities[1] != len(self.costs):
            raise ValueError(
                f"{type(self).__name__}: probabilities have shape {probabilities}; expected (batch, {len(self.costs)}), one column a cost"
            )
        if len(labels) != 1 or (None not in (labels[0], probabilities[0]) and labels[0] != probabilities[0]):
            raise ValueError(f"{type(self).__name__}: labels have shape {labels}; expected ({probabilities[0]},), class numbers")
        return self.value(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "costs": self.costs}


@keras.saving.register_keras_serializable(package="cervical")
class WeightedLogLoss(_CostLoss):
    """See `weighted_log_loss`; costs `(K,)`, one a class, not negative."""

    def __init__(self, costs: Sequence[float], name: str | None = None, **kwargs: Any) -> None:
        super().__init__(costs, name=name, **kwargs)
        if not self.costs or any(isinstance(cost, list) or cost < 0 for cost in self.costs):
            raise ValueError(f"costs {costs}: expected one number, 0 or more, a class")

    def value(self, labels: Any, probabilities: Any) -> Any:
        return weighted_log_loss(labels, probabilities, self.costs)


@keras.saving.register_keras_serializable(package="cervical")
class ExpectedCostLoss(_CostLoss):
    """See `expected_cost_loss`; costs `(K, K)`, rows true, columns predicted."""

    def __init__(self, costs: Sequence[Sequence[float]], name: str | None = None, **kwargs: Any) -> None:
        super().__init__(costs, name=name, **kwargs)
        if any(not isinstance(row, list) or len(row) != len(self.costs) or min(row) < 0 for row in self.costs):
            raise ValueError(f"costs {costs}: expected a square matrix of numbers, 0 or more")

    def value(self, labels: Any, probabilities: Any) -> Any:
        return expected_cost_loss(labels, probabilities, self.costs)


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name} {value}: expected more than 0")
    return float(value)


# The names of `--loss`, with the settings of the authors' code (temperature 0.05, margin 0.2).
CONTRASTIVE = {
    "npairs": NPairsLoss,
    "multiclass-npair": MultiClassNPairLoss,
    "ntxent": NTXentLoss,
    "triplet": TripletLoss,
    "supcon": SupConLoss,
    "ntxent-coded": CodedNTXentLoss,
    "triplet-coded": CodedTripletLoss,
}


def contrastive_loss(name: str, temperature: float = 0.05, margin: float = 0.2) -> keras.losses.Loss:
    """The loss that `--loss name` means."""
    kind = CONTRASTIVE[name]
    if issubclass(kind, _Tempered):
        return kind(temperature)
    return kind(margin) if issubclass(kind, _Margin) else kind()
