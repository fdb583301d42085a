import numpy as np
import pytest
from sklearn import metrics as peer

from common.metrics.classification import (
    auc,
    classification_metrics,
    expected_cost,
    macro_f1,
    one_vs_rest,
)
from common.metrics.statistics import bootstrap_interval

CLASSES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def drawn():
    """200 images of four unequal classes, probabilities that are right more often than not, with ties."""
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 200, p=[0.5, 0.3, 0.15, 0.05])
    logits = rng.normal(size=(200, 4))
    logits[np.arange(200), labels] += 1.2
    probabilities = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 2)
    probabilities[:, 3] += 1 - probabilities.sum(axis=1)
    return labels, probabilities.argmax(axis=1), probabilities


def test_scores_equal_scikit_learn(drawn):
    labels, predicted, probabilities = drawn
    ours = classification_metrics(labels, predicted, probabilities, CLASSES)
    assert ours["n"] == 200
    assert ours["accuracy"] == pytest.approx(peer.accuracy_score(labels, predicted))
    assert ours["confusion"] == peer.confusion_matrix(labels, predicted).tolist()
    for average in ("macro", "weighted"):
        expected = peer.precision_recall_fscore_support(labels, predicted, average=average, zero_division=0)
        assert [ours[f"{average}_{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(expected[:3])
    expected = peer.precision_recall_fscore_support(labels, predicted, zero_division=0)
    for index, name in enumerate(CLASSES):
        got = ours["per_class"][name]
        assert [got[key] for key in ("precision", "recall", "f1", "support")] == pytest.approx([row[index] for row in expected])
        area = peer.roc_auc_score(labels == index, probabilities[:, index])
        assert ours["auc"]["per_class"][name] == pytest.approx(area)
    assert ours["auc"]["macro"] == pytest.approx(np.mean(list(ours["auc"]["per_class"].values())))
    assert macro_f1(labels, predicted, 4) == pytest.approx(ours["macro_f1"])


def test_names_and_numbers_give_the_same(drawn):
    labels, predicted, probabilities = drawn
    names = np.array(CLASSES)
    by_name = classification_metrics(names[labels], list(names[predicted]), probabilities, CLASSES)
    assert by_name == classification_metrics(labels, None, probabilities, CLASSES)


def test_intervals_hold_the_value_and_agree_with_resampling_images(drawn):
    labels, predicted, probabilities = drawn
    ours = classification_metrics(labels, predicted, probabilities, CLASSES, seed=5)
    low, high = ours["accuracy_interval"]
    assert low < ours["accuracy"] < high
    expected = bootstrap_interval(labels == predicted, resamples=4000)
    assert (low, high) == pytest.approx(expected, abs=0.011)
    pairs = np.stack([labels, predicted], axis=1)
    expected = bootstrap_interval(pairs, lambda rows: macro_f1(rows[:, 0], rows[:, 1], 4), resamples=1000)
    assert ours["macro_f1_interval"] == pytest.approx(expected, abs=0.02)
    assert ours["intervals"]["accuracy"] == ours["accuracy_interval"]
    again = classification_metrics(labels, predicted, probabilities, CLASSES, seed=5)
    other = classification_metrics(labels, predicted, probabilities, CLASSES, seed=6)
    assert again == ours and other["macro_f1_interval"] != ours["macro_f1_interval"]


def test_a_class_of_few_images_that_are_all_right_is_not_certain():
    ours = classification_metrics([0, 0, 0, 1, 1], [0, 0, 0, 1, 0], None, "ab")
    # Wilson, 3 of 3: 1 / (1 + 1.96² / 3) = 0.438.
    assert ours["per_class"]["a"]["intervals"]["recall"] == pytest.approx((0.4385, 1.0), abs=1e-4)
    assert classification_metrics([0], [0], None, "ab")["per_class"]["b"]["intervals"]["recall"] is None


def test_a_class_that_is_never_predicted_or_never_there():
    ours = classification_metrics([0, 0, 1, 1], [0, 0, 0, 2], None, ("a", "b", "c"))
    expected = peer.precision_recall_fscore_support([0, 0, 1, 1], [0, 0, 0, 2], zero_division=0)
    for key, row in zip(("precision", "recall", "f1"), expected[:3], strict=True):
        assert [ours["per_class"][name][key] for name in "abc"] == pytest.approx(row)
    # "c" has no test image but is predicted, so it counts: F1 of a 0.8, of b and c 0.
    assert ours["macro_f1"] == pytest.approx(0.8 / 3)
    assert macro_f1(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 2]), 3) == pytest.approx(0.8 / 3)
    for key, row in zip(("macro_precision", "macro_recall", "macro_f1"), expected[:3], strict=True):
        assert ours[key] == pytest.approx(row.mean())
    # One that is neither there nor predicted leaves the averages.
    assert classification_metrics([0, 0, 1, 1], [0, 0, 0, 1], None, ("a", "b", "c"))["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert "auc" not in ours and "ece" not in ours


def test_one_class_of_two_in_the_test_set_has_no_auc():
    ours = classification_metrics(["a", "a"], None, np.array([[0.9, 0.1], [0.2, 0.8]]), ("a", "b"))
    assert ours["auc"] == {"macro": None, "per_class": {"a": None, "b": None}}
    assert ours["accuracy"] == 0.5


def test_ece_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    # 0.9-bin: half right, gap 0.4; 0.6-bin: all right, gap 0.4.
    assert classification_metrics([0, 1, 1, 1], None, probabilities, "ab")["ece"] == pytest.approx(0.4)


@pytest.mark.parametrize("seed", range(3))
def test_auc_counts_ordered_pairs(seed):
    rng = np.random.default_rng(seed)
    positive, scores = rng.random(40) < 0.3, rng.integers(0, 6, 40)
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[positive] for n in scores[~positive]]
    assert auc(positive, scores) == pytest.approx(np.mean(pairs))
    assert auc(np.ones(3, dtype=bool), np.arange(3)) is None


def test_one_vs_rest_by_hand():
    result = one_vs_rest(["a", "a", "b", "c"], ["a", "b", "b", "b"], None, ("a", "b", "c"))
    assert result["a"] == {"accuracy": 0.75, "specificity": 1.0, "sensitivity": 0.5, "f1": pytest.approx(2 / 3), "auc": None}
    assert result["b"]["specificity"] == pytest.approx(1 / 3)
    assert result["b"]["sensitivity"] == 1.0
    assert result["c"] == {"accuracy": 0.75, "specificity": 1.0, "sensitivity": 0.0, "f1": 0.0, "auc": None}


def test_one_vs_rest_equals_scikit_learn(drawn):
    labels, predicted, probabilities = drawn
    for index, (_, ours) in enumerate(one_vs_rest(labels, predicted, probabilities, CLASSES).items()):
        truth, said = labels == index, predicted == index
        assert ours["accuracy"] == pytest.approx(peer.accuracy_score(truth, said))
        assert ours["sensitivity"] == pytest.approx(peer.recall_score(truth, said))
        assert ours["specificity"] == pytest.approx(peer.recall_score(~truth, ~said))
        assert ours["f1"] == pytest.approx(peer.f1_score(truth, said))
        assert ours["auc"] == pytest.approx(peer.roc_auc_score(truth, probabilities[:, index]))


def test_expected_cost_by_hand():
    costs = [[0, 1, 2], [10, 0, 1], [5, 5, 0]]
    # 0→1 costs 1, 1→0 costs 10, 2→2 nothing, 2→0 costs 5.
    assert expected_cost([0, 1, 2, 2], [1, 0, 2, 0], costs) == pytest.approx(16 / 4)


def test_expected_cost_of_zero_one_costs_is_the_error_rate(drawn):
    labels, predicted, _ = drawn
    assert expected_cost(labels, predicted, 1 - np.eye(4)) == pytest.approx(1 - np.mean(labels == predicted))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([0, 1], [0, 1], np.ones((2, 3))), "square"),
        (([0, 1], [0, 1], [[0, np.nan], [1, 0]]), "finite"),
        (([0, 2], [0, 1], np.eye(2)), r"0\.\.1"),
        (([0, 1], [0], np.eye(2)), "as many predictions"),
    ],
)
def test_expected_cost_refuses(arguments, said):
    with pytest.raises(ValueError, match=said):
        expected_cost(*arguments)


@pytest.mark.parametrize(
    ("labels", "predicted", "probabilities", "said"),
    [
        (["a", "x"], ["a", "b"], None, "no class: x"),
        ([0, 4], [0, 1], None, r"0\.\.3"),
        ([0, 1], [0], None, "as many predictions"),
        ([], [], None, "at least one"),
        ([0, 1], None, None, "predictions or probabilities"),
        ([0, 1], [0, 1], np.ones((2, 3)), r"\(2, 4\), got \(2, 3\)"),
    ],
)
def test_classification_metrics_refuse(labels, predicted, probabilities, said):
    with pytest.raises(ValueError, match=said):
        classification_metrics(labels, predicted, probabilities, CLASSES)


def test_groups_of_one_image_change_nothing(drawn):
    labels, predicted, probabilities = drawn
    names = [f"lesion {number}" for number in np.random.default_rng(1).permutation(200)]
    ours = classification_metrics(labels, predicted, probabilities, CLASSES, groups=names)
    assert ours == classification_metrics(labels, predicted, probabilities, CLASSES)
    assert "resampled_groups" not in ours


def test_group_intervals_equal_scikit_learn_in_a_loop_over_drawn_groups(drawn):
    labels, predicted, probabilities = drawn
    groups = np.random.default_rng(1).integers(0, 30, 200)
    ours = classification_metrics(labels, predicted, probabilities, CLASSES, seed=5, resamples=80, groups=groups)
    plain = classification_metrics(labels, predicted, probabilities, CLASSES, seed=5, resamples=80)
    names = sorted({str(group) for group in groups})
    found: dict[str, list[float]] = {}
    for draw in np.random.default_rng(5).integers(0, len(names), size=(80, len(names)), dtype=np.int32):
        chosen = np.concatenate([np.flatnonzero(groups.astype(str) == names[number]) for number in draw])
        truth, called = labels[chosen], predicted[chosen]
        found.setdefault("accuracy", []).append(peer.accuracy_score(truth, called))
        for average in ("macro", "weighted"):
            scores = peer.precision_recall_fscore_support(truth, called, average=average, zero_division=0)
            for name, value in zip(("precision", "recall", "f1"), scores[:3], strict=True):
                found.setdefault(f"{average}_{name}", []).append(value)
        for name, value in zip(CLASSES, peer.f1_score(truth, called, labels=range(4), average=None, zero_division=0), strict=True):
            found.setdefault(name, []).append(value)
    assert ours["resampled_groups"] == len(names)
    for name, values in found.items():
        expected = list(np.quantile(values, [0.025, 0.975]))
        interval = ours["per_class"][name]["intervals"]["f1"] if name in CLASSES else ours["intervals"][name]
        assert interval == pytest.approx(expected), name
    # Everything but the bootstraps, Wilson's intervals too, stays as it is.
    assert ours["per_class"]["a"]["intervals"]["recall"] == plain["per_class"]["a"]["intervals"]["recall"]
    kept = set(plain) - {"accuracy_interval", "macro_f1_interval", "intervals", "per_class"}
    assert {name: ours[name] for name in kept} == {name: plain[name] for name in kept}


def test_copies_of_the_images_leave_the_intervals_as_wide(drawn):
    labels, predicted, _ = drawn
    once = classification_metrics(labels, predicted, None, CLASSES)["intervals"]
    labels, predicted, groups = (np.repeat(values, 9) for values in (labels, predicted, np.arange(200)))
    grouped = classification_metrics(labels, predicted, None, CLASSES, groups=groups)["intervals"]
    images = classification_metrics(labels, predicted, None, CLASSES)["intervals"]
    for name in ("accuracy", "macro_f1", "weighted_f1"):
        assert np.ptp(grouped[name]) == pytest.approx(np.ptp(once[name]), rel=0.12)
        assert np.ptp(grouped[name]) > 2.4 * np.ptp(images[name])


def test_a_group_is_needed_for_every_label():
    with pytest.raises(ValueError, match="each of 2 labels, got 3"):
        classification_metrics([0, 1], [0, 1], None, CLASSES, groups=["a", "a", "b"])
