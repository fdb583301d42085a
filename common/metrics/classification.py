"""What a classifier's predictions are worth, in NumPy."""

from collections.abc import Sequence

import numpy as np

from common.metrics.calibration import calibration_bins, expected_calibration_error
from common.metrics.statistics import RESAMPLES, group_counts, group_numbers, percentile_interval, ranks_with_ties, wilson_interval

SCORES = ("precision", "recall", "f1")


def class_indices(values: Sequence | np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """`(n,)` class numbers from class names or from numbers 0..K−1. Raises ValueError naming a value that is neither."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"expected (n,) labels, got shape {array.shape}")
    if array.dtype.kind in "iu":
        if array.size and (array.min() < 0 or array.max() >= len(classes)):
            raise ValueError(f"class numbers must lie in 0..{len(classes) - 1}, got {array.min()}..{array.max()}")
        return array.astype(np.int64)
    numbers = {name: index for index, name in enumerate(classes)}
    unknown = sorted({str(value) for value in array} - set(numbers))
    if unknown:
        raise ValueError(f"labels that are no class: {', '.join(unknown[:5])} (classes: {', '.join(classes)})")
    return np.array([numbers[str(value)] for value in array], dtype=np.int64)


def confusion(labels: np.ndarray, predicted: np.ndarray, count: int) -> np.ndarray:
    """`(count, count)` int64 from class numbers `(n,)`: rows the truth, columns the prediction."""
    return np.bincount(labels * count + predicted, minlength=count * count).reshape(count, count)


def confusions_by_group(labels: np.ndarray, predicted: np.ndarray, numbers: np.ndarray, count: int) -> np.ndarray:
    """`(G, count, count)` int64: the confusion matrix of each group's images; numbers `(n,)` from `statistics.group_numbers`."""
    groups = int(numbers.max()) + 1
    cells = (numbers * count + labels) * count + predicted
    return np.bincount(cells, minlength=groups * count * count).reshape(groups, count, count)


def class_scores(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of each class, each `(…, K)`, from confusion matrices `(…, K, K)`. An empty denominator gives 0."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1).astype(np.float64)
    support, called = matrix.sum(axis=-1), matrix.sum(axis=-2)

    def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
        return np.where(below > 0, above / np.where(below > 0, below, 1), 0.0)

    return {"precision": ratio(hits, called), "recall": ratio(hits, support), "f1": ratio(2 * hits, support + called)}


def macro_f1(labels: np.ndarray, predicted: np.ndarray, count: int) -> float:
    """Mean F1 over the classes that occur in `labels` or `predicted`, as scikit-learn's; both arguments are class numbers `(n,)`."""
    matrix = confusion(labels, predicted, count)
    return float(class_scores(matrix)["f1"][matrix.sum(axis=0) + matrix.sum(axis=1) > 0].mean())


def auc(positive: np.ndarray, scores: np.ndarray) -> float | None:
    """Area under the ROC curve, the share of (positive, negative) pairs in the right order, ties half. None without one of the two."""
    positive = np.asarray(positive, dtype=bool)
    first, second = int(positive.sum()), int((~positive).sum())
    if not first or not second:
        return None
    ranks = ranks_with_ties(np.asarray(scores, dtype=np.float64))
    return float((ranks[positive].sum() - first * (first + 1) / 2) / (first * second))


def average_precision(positive: np.ndarray, scores: np.ndarray) -> float | None:
    """Σ (R_n − R_(n−1)) · P_n over the thresholds, without interpolation, as scikit-learn's. None without a positive."""
    positive, scores = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    if not positive.any():
        return None
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    # Images of one score pass a threshold together.
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    recall, precision = hits[last] / hits[-1], hits[last] / (last + 1)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def one_vs_rest(labels: Sequence, predicted: Sequence, probabilities: np.ndarray | None, classes: Sequence[str]) -> dict[str, dict]:
    """Per class, that class against all others: accuracy, specificity, sensitivity, F1 and AUC (feedback thesis, tables 3.1 and 4.1).

    labels, predicted: `(n,)` names or numbers; probabilities: `(n, K)` or None (then no AUC). A class without test image has sensitivity
    and AUC None, one that is every image's has specificity and AUC None.
    """
    truth, called = class_indices(labels, classes), class_indices(predicted, classes)
    result = {}
    for index, name in enumerate(classes):
        is_class, said = truth == index, called == index
        hits, negatives = int((is_class & said).sum()), int((~is_class).sum())
        positives = len(truth) - negatives
        result[name] = {
            "accuracy": float((is_class == said).mean()),
            "specificity": float((~is_class & ~said).sum() / negatives) if negatives else None,
            "sensitivity": hits / positives if positives else None,
            "f1": 2 * hits / (positives + int(said.sum())) if positives + said.sum() else 0.0,
            "auc": None if probabilities is None else auc(is_class, probabilities[:, index]),
        }
    return result


def expected_cost(labels: Sequence[int], predictions: Sequence[int], cost_matrix: np.ndarray) -> float:
    """Mean of cost_matrix[label, prediction] over the images; rows are the truth, columns the decision.

    labels, predictions: `(n,)` class numbers; cost_matrix: `(K, K)` finite. Raises ValueError for anything else.
    """
    costs = cost_values(cost_matrix)
    names = [str(index) for index in range(len(costs))]
    truth, called = class_indices(labels, names), class_indices(predictions, names)
    if truth.shape != called.shape or not truth.size:
        raise ValueError(f"expected as many predictions as labels, at least one, got {truth.shape} and {called.shape}")
    return float(costs[truth, called].mean())


def minimum_cost_decision(probabilities: np.ndarray, cost_matrix: np.ndarray) -> np.ndarray:
    """`(n,)` int64: the class whose expected cost Σ_k p(k) · cost_matrix[k, decision] is smallest, the first of equals (Elkan 2001, eq. 1).

    probabilities: `(n, K)`; cost_matrix: `(K, K)` finite, rows the truth, columns the decision. Raises ValueError for other shapes.
    """
    costs, rows = cost_values(cost_matrix), np.asarray(probabilities, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(costs) or not np.isfinite(rows).all():
        raise ValueError(f"expected finite probabilities (n, {len(costs)}), got shape {rows.shape}")
    return np.argmin(rows @ costs, axis=1)


def cost_values(cost_matrix: np.ndarray) -> np.ndarray:
    """`(K, K)` float64; ValueError unless it is square and finite."""
    costs = np.asarray(cost_matrix, dtype=np.float64)
    if costs.ndim != 2 or costs.shape[0] != costs.shape[1] or not np.isfinite(costs).all():
        raise ValueError(f"expected a finite square cost matrix, got shape {costs.shape}")
    return costs


def classification_metrics(
    labels: Sequence,
    predicted: Sequence | None,
    probabilities: np.ndarray | None,
    classes: Sequence[str],
    seed: int = 0,
    resamples: int = RESAMPLES,
    groups: Sequence | None = None,
) -> dict:
    """Every score of a K-class classifier on n images, as a dict that JSON can hold.

    labels, predicted: `(n,)` class names or numbers (predicted None: the largest probability); probabilities: `(n, K)` or None.
    Averages run over the classes that occur in `labels` or are predicted, as scikit-learn's; an empty denominator counts 0. `intervals`
    holds 95 % percentile bootstrap intervals over the images: resampling images and counting is the same as drawing the confusion
    matrix from a multinomial, which is what is done. A class's precision and recall are shares of few images and have Wilson intervals
    (None without any image), its F1 a bootstrap. groups: `(n,)` names of slides, lesions or patients; where test images share them the
    bootstraps draw whole groups, as `statistics.bootstrap_interval`, and `resampled_groups` tells how many there are (the key is absent
    otherwise). Wilson's intervals take images as independent all the same. Without probabilities there is no `ece`, `auc` or
    `calibration`.
    """
    if predicted is None:
        if probabilities is None:
            raise ValueError("classification_metrics needs predictions or probabilities")
        predicted = np.argmax(probabilities, axis=1)
    truth, called, count = class_indices(labels, classes), class_indices(predicted, classes), len(classes)
    if truth.shape != called.shape or not truth.size:
        raise ValueError(f"expected as many predictions as labels, at least one, got {truth.shape} and {called.shape}")
    if groups is not None and len(groups) != truth.size:
        raise ValueError(f"expected a group for each of {truth.size} labels, got {len(groups)}")
    matrix, numbers = confusion(truth, called, count), group_numbers(groups)
    by_group = None if numbers is None else confusions_by_group(truth, called, numbers, count)
    scores, support = class_scores(matrix), matrix.sum(axis=1)
    intervals = _intervals(matrix, by_group, seed, resamples)
    result = {
        "n": int(truth.size),
        **averages(matrix),
        "accuracy_interval": intervals["accuracy"],
        "macro_f1_interval": intervals["macro_f1"],
        "intervals": {name: value for name, value in intervals.items() if name != "per_class"},
        "per_class": {
            name: {
                **{score: float(values[index]) for score, values in scores.items()},
                "support": int(support[index]),
                "intervals": {
                    "precision": wilson_interval(int(matrix[index, index]), int(matrix[:, index].sum())),
                    "recall": wilson_interval(int(matrix[index, index]), int(support[index])),
                    "f1": intervals["per_class"][index],
                },
            }
            for index, name in enumerate(classes)
        },
        "confusion": matrix.tolist(),
        "classes": list(classes),
        **({} if by_group is None else {"resampled_groups": len(by_group)}),
    }
    if probabilities is not None:
        probabilities = np.asarray(probabilities, dtype=np.float64)
        if probabilities.shape != (truth.size, count):
            raise ValueError(f"expected probabilities of shape {(truth.size, count)}, got {probabilities.shape}")
        areas = [
            {name: area(truth == index, probabilities[:, index]) for index, name in enumerate(classes)} for area in (auc, average_precision)
        ]
        bins = calibration_bins(truth == called, probabilities[np.arange(truth.size), called])
        result |= {
            **{
                name: {"macro": _mean_known(each), "per_class": each}
                for name, each in zip(("auc", "average_precision"), areas, strict=True)
            },
            "ece": expected_calibration_error(bins),
            "calibration": bins,
        }
    return result


def averages(matrix: np.ndarray) -> dict:
    """Accuracy, balanced accuracy (mean recall of the classes in the truth), the geometric mean of these recalls, Matthews' correlation,
    macro and weighted scores from `(…, K, K)`: floats for one matrix, arrays for many.
    """
    scores, support = class_scores(matrix), matrix.sum(axis=-1)
    total = support.sum(axis=-1)
    # A class that is predicted without being there costs its whole score, as in scikit-learn and in the LMF study's selection.
    present = support + matrix.sum(axis=-2) > 0
    there, hits = support > 0, np.trace(matrix, axis1=-2, axis2=-1)
    result = {
        "accuracy": hits / total,
        "balanced_accuracy": (scores["recall"] * there).sum(axis=-1) / there.sum(axis=-1),
        "geometric_mean": np.where(there, scores["recall"], 1.0).prod(axis=-1) ** (1 / there.sum(axis=-1)),
        "mcc": _correlation(hits, support.astype(np.float64), matrix.sum(axis=-2).astype(np.float64), total),
    }
    for name, values in scores.items():
        result[f"macro_{name}"] = (values * present).sum(axis=-1) / present.sum(axis=-1)
        result[f"weighted_{name}"] = (values * support).sum(axis=-1) / total
    return {name: float(value) if matrix.ndim == 2 else value for name, value in result.items()}


def _correlation(hits: np.ndarray, support: np.ndarray, called: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Matthews' correlation of K classes (Gorodkin 2004, eq. 8 as in scikit-learn); 0 where truth or predictions are all of one class."""
    squares = (total**2 - (called**2).sum(axis=-1)) * (total**2 - (support**2).sum(axis=-1))
    return np.where(squares > 0, (hits * total - (support * called).sum(axis=-1)) / np.sqrt(np.where(squares > 0, squares, 1.0)), 0.0)


def _mean_known(values: dict[str, float | None]) -> float | None:
    known = [value for value in values.values() if value is not None]
    return float(np.mean(known)) if known else None


def _intervals(matrix: np.ndarray, by_group: np.ndarray | None, seed: int, resamples: int) -> dict:
    """95 % intervals of every average, and a list with every class's F1 under `per_class`; by_group `(G, K, K)` or None (images)."""
    if by_group is None:
        total = int(matrix.sum())
        draws = np.random.default_rng(seed).multinomial(total, matrix.ravel() / total, size=resamples)
        draws = draws.reshape(resamples, *matrix.shape)
    else:
        # Whole groups: the same number of groups and seed draw the same ones, which makes a comparison of two methods a paired one.
        draws = group_counts(len(by_group), resamples, seed) @ by_group.reshape(len(by_group), -1)
        draws = draws.reshape(resamples, *matrix.shape)
    intervals: dict = {name: list(percentile_interval(values)) for name, values in averages(draws).items()}
    intervals["per_class"] = [list(percentile_interval(column)) for column in class_scores(draws)["f1"].T]
    return intervals
