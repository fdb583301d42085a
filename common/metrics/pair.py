"""Two methods on the same test images: difference with its interval, McNemar, and the one sentence that follows from them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from common.errors import UsageError
from common.metrics.classification import averages, class_indices, confusions_by_group, macro_f1, resampled_confusions
from common.metrics.statistics import RESAMPLES, Difference, McNemar, group_numbers, mcnemar, paired_bootstrap, percentile_interval
from common.runs.outcome import common_groups, read_predictions


@dataclass(frozen=True)
class Comparison:
    """`second` against `first` on the same `n` images; differences are second − first with 95 % paired bootstrap intervals.

    groups: number of slides, lesions or patients that the intervals resample, None where they resample images. `test` always counts
    images as independent.
    """

    first: str
    second: str
    n: int
    accuracies: tuple[float, float]
    macro_f1s: tuple[float, float]
    accuracy: Difference
    macro_f1: Difference
    test: McNemar
    groups: int | None = None

    def verdict(self) -> str:
        """One sentence. "Better" is said only when the interval excludes zero."""
        return verdict(self.accuracy, self.second, self.first, "accuracy")


def verdict(difference: Difference, second: str, first: str, what: str) -> str:
    """`second` is better or worse than `first` in `what`, or no difference is shown; higher values are better."""
    interval = f"difference {difference.value:+.4f}, 95 % interval {difference.low:+.4f} to {difference.high:+.4f}"
    if not difference.excludes_zero:
        return f"No difference in {what} is shown between {second} and {first} ({interval}, which includes zero)."
    word = "better" if difference.value > 0 else "worse"
    return f"{second} is {word} than {first} in {what} ({interval})."


def compare_predictions(
    first: pd.DataFrame,
    second: pd.DataFrame,
    classes: tuple[str, ...],
    names: tuple[str, str] = ("first", "second"),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare two predictions tables (`image`, `label`, `predicted`, perhaps `group`), joined on `image`.

    Intervals resample whole groups where images share them, the same groups for both (`statistics.bootstrap_interval`).
    Raises UsageError unless both hold the same images with the same labels and, where both name any, the same groups: scores on
    different test images cannot be paired.
    """
    joined = first[["image", "label", "predicted"]].merge(
        second[["image", "label", "predicted"]], on="image", how="outer", suffixes=("_1", "_2"), indicator=True, validate="one_to_one"
    )
    alone = int((joined["_merge"] != "both").sum())
    if alone:
        raise UsageError(f"{names[0]} and {names[1]} cannot be compared: {alone} test images occur in only one of them")
    if (joined["label_1"] != joined["label_2"]).any():
        raise UsageError(f"{names[0]} and {names[1]} cannot be compared: their labels differ")
    try:
        groups = common_groups((first, second))
    except UsageError as error:
        raise UsageError(f"{names[0]} and {names[1]} cannot be compared: {error}") from None
    truth = class_indices(joined["label_1"], classes)
    called = [class_indices(joined[f"predicted_{index}"], classes) for index in (1, 2)]
    rows = [np.stack([truth, each], axis=1) for each in called]

    def score(pairs: np.ndarray) -> float:
        return macro_f1(pairs[:, 0], pairs[:, 1], len(classes))

    right = [each == truth for each in called]
    numbers = group_numbers(None if groups is None else joined["image"].map(groups))
    if numbers is None:
        accuracy = paired_bootstrap(right[0], right[1], seed=seed, resamples=resamples)
        f1 = paired_bootstrap(rows[0], rows[1], score, seed=seed, resamples=resamples)
    else:
        by_group = [confusions_by_group(truth, each, numbers, len(classes)) for each in called]
        accuracy, f1 = _differences(by_group[0], by_group[1], seed, resamples)
    return Comparison(
        first=names[0],
        second=names[1],
        n=len(truth),
        accuracies=(float(right[0].mean()), float(right[1].mean())),
        macro_f1s=(score(rows[0]), score(rows[1])),
        accuracy=accuracy,
        macro_f1=f1,
        test=mcnemar(truth, called[0], called[1]),
        groups=None if numbers is None else int(numbers.max()) + 1,
    )


def _differences(first: np.ndarray, second: np.ndarray, seed: int, resamples: int) -> tuple[Difference, Difference]:
    """Differences of accuracy and macro F1 from confusion matrices by group `(G, K, K)`, the same groups drawn for both."""
    values = [averages(each.sum(axis=0)) for each in (first, second)]
    draws = [averages(resampled_confusions(each, resamples, seed)) for each in (first, second)]
    accuracy, f1 = (
        Difference(values[1][name] - values[0][name], *percentile_interval(draws[1][name] - draws[0][name]))
        for name in ("accuracy", "macro_f1")
    )
    return accuracy, f1


def compare_costs(first: Any, second: Any, cost_matrix: np.ndarray, seed: int = 0) -> tuple[float, Difference]:
    """Expected cost of the run folder `first`, and that of `second` minus it, both under `cost_matrix` `(K, K)`, rows the truth.

    The interval is a paired bootstrap over the shared test images, or over whole groups where images share them. UsageError when the
    classes or the test images differ.
    """
    (one, classes), (two, others) = read_predictions(first), read_predictions(second)
    joined = one[["image", "label", "predicted"]].merge(two[["image", "label", "predicted"]], on=["image", "label"], suffixes=("_1", "_2"))
    if classes != others or not len(joined) == len(one) == len(two):
        raise UsageError(f"{first} and {second} cannot be compared: their classes or test images differ")
    costs, truth = np.asarray(cost_matrix, np.float64), class_indices(joined["label"], classes)
    paid = [costs[truth, class_indices(joined[f"predicted_{index}"], classes)] for index in (1, 2)]
    groups = common_groups([one, two])
    groups = None if groups is None else groups.reindex(joined["image"]).to_numpy()
    return float(paid[0].mean()), paired_bootstrap(paid[0], paid[1], groups=groups, seed=seed)


def compare_runs(first: Any, second: Any, names: tuple[str, str], seed: int = 0) -> Comparison:
    """`compare_predictions` of two run folders. UsageError when their classes or test images differ."""
    (one, classes), (two, others) = read_predictions(first), read_predictions(second)
    if classes != others:
        raise UsageError(f"{names[0]} and {names[1]} cannot be compared: their classes differ")
    return compare_predictions(one, two, classes, names, seed)
