"""Splits: groups stay whole, fractions are met, row order does not matter, leakage is counted."""

import numpy as np
import pandas as pd
import pytest

from common.data.splits import grouped_split, leakage, limit_per_class, limit_proportional, split_by_counts, stratified_split
from common.errors import UsageError

FRACTIONS = (0.64, 0.16, 0.2)


def _manifest(seed: int = 0, classes: int = 5, groups: int = 60) -> pd.DataFrame:
    """`groups` groups of 1 to 9 images a class; names unrelated to order."""
    rng = np.random.default_rng(seed)
    rows = [
        {"image": f"{rng.integers(10**9):09d}-{c}-{g}-{i}.png", "label": f"class{c}", "group": f"{c}/{g}"}
        for c in range(classes)
        for g in range(groups)
        for i in range(rng.integers(1, 10))
    ]
    return pd.DataFrame(rows)


def _by_image(manifest: pd.DataFrame) -> dict[str, str]:
    return dict(zip(manifest["image"], manifest["split"], strict=True))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_group_lies_in_two_splits_and_fractions_are_met_in_every_class(seed: int) -> None:
    result = grouped_split(_manifest(seed), FRACTIONS, seed)
    assert (result.groupby("group")["split"].nunique() == 1).all()
    for _, rows in result.groupby("label"):
        shares = rows["split"].value_counts(normalize=True)
        np.testing.assert_allclose(shares[["train", "validation", "test"]], FRACTIONS, atol=0.01)


def test_grouped_split_does_not_starve_the_small_parts_of_large_groups() -> None:
    result = grouped_split(_manifest(), FRACTIONS, 0)
    sizes = result.groupby("group")["image"].transform("size").groupby(result["split"]).mean()
    assert sizes.max() / sizes.min() < 1.1


@pytest.mark.parametrize("split", [grouped_split, stratified_split])
def test_split_depends_on_the_seed_but_not_on_row_order_or_index(split) -> None:
    manifest = _manifest()
    shuffled = manifest.sample(frac=1, random_state=3)
    shuffled.index = np.arange(len(manifest)) + 1000
    first, second = split(manifest, FRACTIONS, 7), split(shuffled, FRACTIONS, 7)
    assert _by_image(first) == _by_image(second)
    assert list(second["image"]) == list(shuffled["image"])
    assert list(second.index) == list(shuffled.index)
    assert _by_image(split(manifest, FRACTIONS, 8)) != _by_image(first)
    assert "split" not in manifest


def test_groups_that_span_classes_stay_whole() -> None:
    rng = np.random.default_rng(0)
    manifest = pd.DataFrame(
        {"image": [f"{i:04d}" for i in range(900)], "label": rng.choice(list("abc"), 900), "group": rng.integers(0, 450, 900)}
    )
    result = grouped_split(manifest, (0.7, 0.15, 0.15), 0)
    assert (result.groupby("group")["split"].nunique() == 1).all()
    shares = result.groupby("label")["split"].value_counts(normalize=True).unstack()
    np.testing.assert_allclose(shares[["train", "validation", "test"]], [[0.7, 0.15, 0.15]] * 3, atol=0.02)


def test_a_class_with_as_few_groups_as_parts_reaches_every_part() -> None:
    manifest = pd.concat([_manifest(classes=2), pd.DataFrame({"image": list("xyz"), "label": "rare", "group": list("xyz")})])
    result = grouped_split(manifest, FRACTIONS, 0)
    assert set(result.loc[result["label"] == "rare", "split"]) == {"train", "validation", "test"}
    with pytest.raises(UsageError, match=r"class rare has only 2 group\(s\)"):
        grouped_split(manifest[manifest["image"] != "z"], FRACTIONS, 0)


def test_a_part_of_zero_stays_empty() -> None:
    for split in (grouped_split, stratified_split):
        assert set(split(_manifest(), (0.8, 0.0, 0.2), 0)["split"]) == {"train", "test"}


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.2, 0.2), (1.2, -0.1, -0.1), (0.0, 0.5, 0.5)])
def test_bad_fractions_are_refused(fractions: tuple[float, ...]) -> None:
    for split in (grouped_split, stratified_split):
        with pytest.raises(UsageError, match="sum to 1"):
            split(_manifest(), fractions, 0)


def test_stratified_counts_are_the_largest_remainders() -> None:
    manifest = pd.DataFrame({"image": [f"{i:03d}" for i in range(17)], "label": ["a"] * 10 + ["b"] * 7, "group": range(17)})
    counts = stratified_split(manifest, (0.5, 0.25, 0.25), 0).groupby("label")["split"].value_counts().unstack()
    assert counts.loc["a", "train"] == 5 and sorted([counts.loc["a", "test"], counts.loc["a", "validation"]]) == [2, 3]
    assert counts.loc["b"].to_dict() == {"train": 3, "validation": 2, "test": 2}
    with pytest.raises(UsageError, match="only 2 image"):
        stratified_split(manifest.iloc[8:], (0.5, 0.25, 0.25), 0)


def test_other_classes_do_not_change_a_class_own_draw() -> None:
    manifest = _manifest()
    alone = split_by_counts(manifest[manifest["label"] == "class1"], lambda n: (n - 2, 1, 1), 5)
    together = _by_image(split_by_counts(manifest, lambda n: (n - 2, 1, 1), 5))
    assert all(together[image] == split for image, split in _by_image(alone).items())
    with pytest.raises(UsageError, match="too few to split"):
        split_by_counts(manifest, lambda n: (0, n, 0), 5)


def test_limit_is_balanced_deterministic_and_leaves_enough_to_split() -> None:
    manifest = _manifest()
    limited = limit_per_class(manifest, 61)
    assert sorted(limited["label"].value_counts()) == [12, 12, 12, 12, 13]
    assert set(limit_per_class(manifest.sample(frac=1, random_state=1), 61)["image"]) == set(limited["image"])
    assert (limited.groupby("label")["group"].nunique() >= 4).all()
    assert limited.groupby("group").size().max() == 3  # groups are kept together as far as a quarter of the class's share
    assert set(grouped_split(limited, FRACTIONS, 0)["split"]) == {"train", "validation", "test"}
    assert len(limit_per_class(manifest, 10**6)) == len(manifest)
    with pytest.raises(UsageError, match="--limit 19: a split of 5 classes needs at least 20"):
        limit_per_class(manifest, 19)


def test_limit_gives_what_a_small_class_lacks_to_the_others_and_drops_unlabelled() -> None:
    labels = ["a"] * 5 + ["b"] * 50 + ["c"] * 50 + [""] * 9
    manifest = pd.DataFrame({"image": [f"{i:03d}" for i in range(len(labels))], "label": labels, "group": range(len(labels))})
    assert limit_per_class(manifest, 45)["label"].value_counts().to_dict() == {"a": 5, "b": 20, "c": 20}


def test_leakage_counts_images_whose_group_is_also_in_train() -> None:
    manifest = pd.DataFrame(
        {
            "image": list("abcdefg"),
            "label": ["x", "x", "y", "x", "y", "y", "x"],
            "group": ["1", "1", "2", "3", "2", "4", "1"],
            "split": ["train", "test", "train", "test", "test", "validation", "validation"],
        }
    )
    found = leakage(manifest)
    assert found["test"]["images"] == 3 and found["test"]["shared"] == 2
    assert found["test"]["fraction"] == pytest.approx(2 / 3)
    assert found["test"]["per_class"] == {"x": {"images": 2, "shared": 1}, "y": {"images": 1, "shared": 1}}
    assert found["validation"]["shared"] == 1
    assert leakage(grouped_split(_manifest(), FRACTIONS, 0))["test"]["shared"] == 0


def test_a_proportional_limit_keeps_the_shares_and_a_few_of_each_class():
    sizes = (("a", 800), ("b", 190), ("c", 10))
    rows = [{"image": f"{label}{i}", "label": label, "group": f"{label}{i // 2}"} for label, n in sizes for i in range(n)]
    manifest = pd.DataFrame(rows)
    limited = limit_proportional(manifest, 100)
    assert limited["label"].value_counts().to_dict() == {"a": 77, "b": 19, "c": 4}  # c: its share is one image, a split needs four
    assert set(limit_proportional(manifest.sample(frac=1, random_state=1), 100)["image"]) == set(limited["image"])
    assert len(limit_proportional(manifest, 10**6)) == len(manifest)
    rows = [
        {"image": f"{label}{i}", "label": label, "group": f"{label}{i}"}
        for label, n in (("a", 600), ("b", 590), ("c", 4))
        for i in range(n)
    ]
    assert limit_proportional(pd.DataFrame(rows), 12)["label"].value_counts().to_dict() == {"a": 4, "b": 4, "c": 4}
    with pytest.raises(UsageError, match="--limit 11: a split of 3 classes needs at least 12 images"):
        limit_proportional(manifest, 11)
