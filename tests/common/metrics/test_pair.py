import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from common.errors import UsageError
from common.metrics.pair import compare_costs, compare_predictions, compare_runs, verdict
from common.metrics.statistics import Difference


def table(predicted, labels="aabb", images="1234"):
    return pd.DataFrame({"image": list(images), "label": list(labels), "predicted": list(predicted)})


def test_rows_are_joined_by_image_not_by_place():
    first = table("abbb")
    result = compare_predictions(first, first.iloc[::-1], ("a", "b"))
    assert result.accuracy == pytest.approx((0, 0, 0))
    assert result.test.p_value == 1.0


def test_the_difference_is_second_minus_first():
    result = compare_predictions(table("abba"), table("aabb"), ("a", "b"), ("plain", "ours"))
    assert result.n == 4
    assert result.accuracies == (0.5, 1.0)
    assert result.accuracy.value == 0.5
    assert result.macro_f1.value == pytest.approx(result.macro_f1s[1] - result.macro_f1s[0])
    assert (result.test.only_first, result.test.only_second) == (0, 2)


def test_a_clear_difference_is_called_better_and_a_chance_one_is_not(tmp_path, make_run):
    good, bad, other = (make_run(tmp_path / name, skill, 300, seed) for name, skill, seed in (("g", 5, 1), ("b", 0.5, 2), ("o", 5, 3)))
    clear = compare_runs(bad, good, ("plain", "contrastive"))
    assert clear.accuracy.excludes_zero and "contrastive is better than plain" in clear.verdict()
    assert "contrastive is worse than plain" in compare_runs(good, bad, ("plain", "contrastive")).verdict()
    assert "better" not in compare_runs(good, other, ("one", "two")).verdict()


@pytest.mark.parametrize(("low", "said"), [(-0.01, "No difference"), (0.0, "No difference"), (0.001, "better")])
def test_better_is_said_only_when_zero_is_outside(low, said):
    assert said in verdict(Difference(0.02, low, 0.05), "second", "first", "accuracy")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (table("aabb", images="1235"), "2 test images"),
        (table("aab", "aab", "123"), "1 test images"),
        (table("aabb", "abbb"), "labels differ"),
    ],
)
def test_other_test_images_are_refused(other, said):
    with pytest.raises(UsageError, match=said):
        compare_predictions(table("aabb"), other, ("a", "b"))


def drawn_pair():
    """Two predictions tables of 60 images of 20 unequal groups, in which the second is right more often."""
    rng = np.random.default_rng(4)
    labels, groups = rng.choice(["a", "b"], 60), rng.integers(0, 20, 60).astype(str)
    images = [f"{index}.png" for index in range(60)]
    called = [np.where(rng.random(60) < share, labels, "b") for share in (0.5, 0.8)]
    return [pd.DataFrame({"image": images, "label": labels, "predicted": each, "group": groups}) for each in called]


def test_paired_intervals_equal_a_loop_over_drawn_groups():
    first, second = drawn_pair()
    found = compare_predictions(first, second.iloc[::-1], ("a", "b"), seed=2, resamples=100)
    names = sorted(set(first["group"]))
    gaps = []
    for draw in np.random.default_rng(2).integers(0, len(names), size=(100, len(names)), dtype=np.int32):
        parts = [pd.concat([table[table["group"] == names[number]] for number in draw]) for table in (first, second)]
        scores = [
            (np.mean(part["label"] == part["predicted"]), f1_score(part["label"], part["predicted"], average="macro")) for part in parts
        ]
        gaps.append(np.subtract(scores[1], scores[0]))
    low, high = np.quantile(gaps, [0.025, 0.975], axis=0)
    assert (found.accuracy.low, found.macro_f1.low) == pytest.approx(tuple(low))
    assert (found.accuracy.high, found.macro_f1.high) == pytest.approx(tuple(high))
    assert found.groups == len(names)
    plain = compare_predictions(first.drop(columns="group"), second.drop(columns="group"), ("a", "b"), seed=2, resamples=100)
    assert plain.groups is None and plain.accuracy != found.accuracy
    assert (plain.accuracy.value, plain.macro_f1.value) == pytest.approx((found.accuracy.value, found.macro_f1.value))
    assert plain.test == found.test


def test_groups_of_one_image_resample_images():
    first, second = drawn_pair()
    alone = compare_predictions(first.assign(group=first["image"]), second.assign(group=second["image"]), ("a", "b"), seed=2)
    assert alone == compare_predictions(first.drop(columns="group"), second.drop(columns="group"), ("a", "b"), seed=2)


def test_groups_that_only_one_table_names_count_and_others_are_refused():
    first, second = drawn_pair()
    both = compare_predictions(first, second, ("a", "b"))
    assert compare_predictions(first.drop(columns="group"), second, ("a", "b")) == both
    assert compare_predictions(first, second.drop(columns="group"), ("a", "b")) == both
    with pytest.raises(UsageError, match="first and second cannot be compared: their test images are grouped differently"):
        compare_predictions(first, second.assign(group=second["group"].iloc[::-1].to_numpy()), ("a", "b"))


def test_expected_costs_are_compared_under_one_matrix(tmp_path, make_run):
    """Hand count: the mean of the matrix's entries at (truth, decision), for each run, and their difference."""
    matrix = np.array([[0.0, 5.0, 10.0], [1.0, 0.0, 2.0], [1.0, 1.0, 0.0]])
    good, bad = make_run(tmp_path / "g", 4, 90, 1, per_group=3), make_run(tmp_path / "b", 0.5, 90, 2, per_group=3)

    def by_hand(run):
        rows = pd.read_csv(run / "predictions.csv")
        names = ["Dyskeratotic", "Koilocytotic", "Parabasal"]
        return sum(matrix[names.index(row.label), names.index(row.predicted)] for row in rows.itertuples()) / len(rows)

    plain, change = compare_costs(bad, good, matrix)
    assert plain == pytest.approx(by_hand(bad)) and change.value == pytest.approx(by_hand(good) - by_hand(bad))
    assert change.high < 0 and change.low < change.value < change.high
    with pytest.raises(UsageError, match="test images differ"):
        compare_costs(bad, make_run(tmp_path / "other", 4, 60, 1), matrix)
