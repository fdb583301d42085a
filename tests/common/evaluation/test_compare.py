import pandas as pd
import pytest

from common.errors import UsageError
from common.evaluation.compare import compare_predictions, compare_runs, verdict
from common.evaluation.statistics import Difference


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
