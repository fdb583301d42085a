"""The one comparison: worked by hand where that can be, and by simulation where it cannot."""

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from common.errors import UsageError
from common.metrics.compare import compare, compare_blocks, training_variance
from common.metrics.draws import Block
from common.metrics.metric import Metric, cost_metric
from common.metrics.statistics import group_counts

ACCURACY = Metric("accuracy", of_confusion=lambda matrix: matrix)
CLASSES = np.array(["a", "b", "c"])


def predictions(skill: float, seed: int, n: int = 120, groups: int | None = 40, images: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng((seed, int(1000 * skill)))
    labels = np.arange(n) % 3
    called = np.where(rng.random(n) < skill, labels, (labels + 1) % 3)
    table = pd.DataFrame({"image": [f"i{images}_{k}" for k in range(n)], "label": CLASSES[labels], "predicted": CLASSES[called]})
    return table if groups is None else table.assign(group=[f"g{k % groups}" for k in range(n)])


def runs(skills: dict[str, float], seeds: int, block: str = "", **options: int) -> dict:
    return {
        (block, name, seed): predictions(skill, seed + 10 * place, **options)
        for place, (name, skill) in enumerate(skills.items())
        for seed in range(seeds)
    }


def test_the_statistic_is_the_difference_of_the_metric_itself():
    tables = runs({"plain": 0.6, "ours": 0.8}, 2)
    (row,) = compare(tables, "macro_f1").rows
    own = {key[1:]: f1_score(table["label"], table["predicted"], average="macro") for key, table in tables.items()}
    assert row.by_seed == pytest.approx([own["ours", seed] - own["plain", seed] for seed in (0, 1)])
    assert row.difference == pytest.approx(np.mean(row.by_seed)) and row.values[1] - row.values[0] == pytest.approx(row.difference)
    assert row.seeds == (0, 1) and row.grouped and row.units == 40


def test_variance_p_and_interval_are_the_rules():
    """Against the formula written out with loops: two methods, three seeds, so s² is half the variance of the seeds' differences."""
    tables = runs({"plain": 0.6, "ours": 0.8}, 3)
    result = compare(tables, "accuracy", resamples=300, seed=5)
    counts = group_counts(40, 300, 5)
    right = {key[1:]: (table["label"] == table["predicted"]).to_numpy() for key, table in tables.items()}
    # Group numbers are those of the sorted names.
    order = {name: place for place, name in enumerate(sorted(f"g{k}" for k in range(40)))}
    group = np.array([order[f"g{k % 40}"] for k in range(120)])
    drawn = np.array([[[np.average(right[m, s], weights=draw[group]) for s in range(3)] for m in ("plain", "ours")] for draw in counts])
    gaps, own = drawn[:, 1] - drawn[:, 0], np.array([right["ours", s].mean() - right["plain", s].mean() for s in range(3)])
    s2, w = own.var(ddof=1) / 2, np.mean([(row - row.mean()) @ (row - row.mean()) / 2 / 2 for row in gaps - gaps.mean(axis=0)]) * 300 / 299
    variance = gaps.mean(axis=1).var(ddof=1) + 2 * max(0.0, s2 - w) / 3
    (row,) = result.rows
    assert result.degrees == 2 and result.training_variance == pytest.approx(max(0.0, s2 - w))
    assert row.p == pytest.approx(2 * stats.t.sf(abs(own.mean()) / math.sqrt(variance), 2))
    half = stats.t.ppf(0.975, 2) * math.sqrt(variance)
    assert (row.low, row.high) == pytest.approx((own.mean() - half, own.mean() + half))
    assert row.p_holm == row.p  # one comparison: nothing to correct


def test_missing_cells_leave_the_residuals_of_the_others():
    rng = np.random.default_rng(0)
    scores = {(f"m{m}", s): rng.normal() for m, s in product(range(4), range(3))}
    flat = {cell: np.full(50, value) for cell, value in scores.items()}
    whole, degrees = training_variance([Block(scores, flat, 10, False)])
    table = np.array([[scores[f"m{m}", s] for s in range(3)] for m in range(4)])
    residual = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    assert degrees == 6 and whole == pytest.approx((residual**2).sum() / 6)
    assert training_variance([Block({c: v for c, v in scores.items() if c != ("m0", 0)}, flat, 10, False)])[1] == 5


def test_one_seed_gives_no_verdict_however_clear():
    (row,) = compare(runs({"plain": 0.3, "ours": 0.99}, 1), "accuracy").rows
    assert row.verdict == "one seed" and row.p is row.p_holm is None and row.low > 0.4
    assert "one seed gives no verdict" in row.sentence()


def test_a_clear_gain_is_better_and_a_cost_that_falls_is_too():
    tables = runs({"plain": 0.3, "ours": 0.9}, 3)
    assert compare(tables, "accuracy").rows[0].verdict == "better"
    assert compare(tables, "accuracy", pairs=[("ours", "plain")]).rows[0].verdict == "worse"
    cost = compare(tables, cost_metric(1 - np.eye(3))).rows[0]
    assert cost.difference < 0 and cost.verdict == "better"


def test_no_difference_is_not_shown_and_seeds_that_disagree_are_named():
    tables = runs({"one": 0.6}, 2) | {("", "two", seed): predictions(0.6, 1 - seed) for seed in range(2)}
    (row,) = compare(tables, "accuracy").rows
    assert row.verdict == "not shown" and "No difference" in row.sentence()
    assert row.signs_differ and "seeds disagree in sign" in row.sentence()


def test_holm_counts_every_comparison_of_the_table():
    tables = runs({"one": 0.5, "two": 0.6, "three": 0.7}, 2, "x") | runs({"one": 0.5, "two": 0.6}, 2, "y")
    rows = compare(tables, "accuracy").rows
    assert [(row.block, row.first, row.second) for row in rows] == [
        ("x", "one", "two"),
        ("x", "one", "three"),
        ("x", "two", "three"),
        ("y", "one", "two"),
    ]
    smallest = min(rows, key=lambda row: row.p)
    assert smallest.p_holm == pytest.approx(min(1, 4 * smallest.p))
    assert len(compare(tables, "accuracy", baseline="two").rows) == 3


def test_only_common_seeds_count():
    tables = runs({"plain": 0.5, "ours": 0.8}, 3)
    del tables["", "ours", 1]
    assert compare(tables, "accuracy").rows[0].seeds == (0, 2)
    del tables["", "plain", 0], tables["", "plain", 2]
    result = compare(tables, "accuracy")
    assert not result.rows and "no seed that both have" in result.left_out[0]


def test_other_test_images_are_left_out_unless_splits_are_repeated():
    tables = {
        ("", name, seed): predictions(skill, seed, groups=None, images=seed)
        for name, skill in (("plain", 0.5), ("ours", 0.8))
        for seed in range(3)
    }
    held = compare(tables, "accuracy")
    assert held.rows[0].verdict == "one seed" and len(held.left_out) == 4 and "not those of the others" in held.left_out[0]
    repeated = compare(tables, "accuracy", repeated_splits=True)
    assert repeated.rows[0].seeds == (0, 1, 2) and repeated.rows[0].units == 360 and not repeated.left_out
    tables["", "ours", 2] = predictions(0.8, 2, groups=None, images=7)
    assert compare(tables, "accuracy", repeated_splits=True).rows[0].seeds == (0, 1)


def test_scores_of_images_and_a_map_without_training():
    rng = np.random.default_rng(1)
    images = [f"i{k}" for k in range(60)]
    hard = rng.random(60)
    tables = {("", "maps", seed): pd.DataFrame({"image": images, "score": 0.6 + 0.2 * hard + rng.normal(0, 0.02, 60)}) for seed in range(3)}
    tables["", "blob", None] = pd.DataFrame({"image": images, "score": 0.3 + 0.2 * hard})
    (row,) = compare(tables, "dice").rows
    assert row.metric == "dice" and row.first == "maps" and row.verdict == "worse" and row.seeds == (0, 1, 2)
    assert row.values[1] == pytest.approx(tables["", "blob", None]["score"].mean())


def test_areas_and_calibration_are_metrics_too():
    tables = runs({"plain": 0.5, "ours": 0.8}, 2)
    for table in tables.values():
        for name in CLASSES:
            table[f"prob_{name}"] = np.where(table["predicted"] == name, 0.8, 0.1)
    assert compare(tables, "auc", resamples=50).rows[0].difference > 0
    assert compare(tables, "ece", resamples=50).rows[0].higher_is_better is False
    with pytest.raises(UsageError, match="expected one of accuracy"):
        compare(tables, "acuracy")


def test_what_one_of_the_tables_puts_together_is_drawn_together():
    tables = runs({"plain": 0.5, "ours": 0.8}, 1)
    images = tables["", "ours", 0]["image"]
    place = pd.Series(np.arange(len(images)), index=images)
    finer, coarser = (
        {cell: table.assign(group=table["image"].map((place // size * size).map("{:03d}".format))) for cell, table in tables.items()}
        for size in (2, 8)
    )
    mixed = compare(finer | {("", "ours", 0): coarser["", "ours", 0]}, "accuracy")
    assert mixed.rows == compare(coarser, "accuracy").rows
    assert mixed.rows[0].units == -(-len(images) // 8) and mixed.rows[0].units < compare(finer, "accuracy").rows[0].units


def test_groups_that_leave_nothing_to_draw_are_an_error():
    tables = runs({"plain": 0.5, "ours": 0.8}, 1)
    tables["", "ours", 0] = tables["", "ours", 0].assign(group="g")
    tables["", "plain", 0] = tables["", "plain", 0].assign(group=tables["", "plain", 0]["image"].str[:-1])
    with pytest.raises(UsageError, match="grouped differently"):
        compare(tables, "accuracy")


def test_ranks_use_complete_blocks_only():
    tables = runs({"one": 0.4, "two": 0.9}, 2, "x") | runs({"one": 0.4, "two": 0.9}, 2, "y") | runs({"one": 0.99}, 2, "z")
    methods, ranks = compare(tables, "accuracy").ranks()
    assert methods == ["one", "two"] and ranks.ranks.tolist() == [2, 1]
    assert ranks.exact and ranks.p_value == pytest.approx(0.5) and not ranks.claimable
    assert compare(runs({"one": 0.4, "two": 0.9}, 2), "accuracy").ranks() is None


# Simulation: 5 methods on 2 sets, images in groups whose luck is shared, and training noise of `noise` times the test noise.
GROUPS, SIZE, METHODS, DRAWS = 60, 3, 5, 200


def simulated(rng: np.random.Generator, seeds: int, noise: float, gain: float = 0.0) -> dict[str, Block]:
    blocks = {}
    for name in ("x", "y"):
        counts = group_counts(GROUPS, DRAWS, int(rng.integers(1 << 31)))
        hardness = rng.normal(0, 1, (GROUPS, 1)) + rng.normal(0, 1, (GROUPS, SIZE))
        # About the standard error of a difference of two accuracies here, on the scale of the latent skill.
        shift = rng.normal(0, 0.12 * noise, (METHODS, seeds)) + np.array([gain, *np.zeros(METHODS - 1)])[:, None]
        own = rng.normal(0, 1, (METHODS, seeds, GROUPS, SIZE)) + rng.normal(0, 0.5, (METHODS, seeds, GROUPS, 1))
        right = (0.8 + hardness + own + shift[:, :, None, None] > 0).mean(axis=-1)
        cells = {(f"m{m}", s): right[m, s] for m in range(METHODS) for s in range(seeds)}
        blocks[name] = Block(
            {c: float(v.mean()) for c, v in cells.items()}, {c: counts @ v / GROUPS for c, v in cells.items()}, GROUPS, True
        )
    return blocks


def rates(repeats: int, seeds: int, noise: float, gain: float = 0.0) -> tuple[float, float]:
    """(share of tables with any verdict on two methods of equal skill, share of the true gains that are found)."""
    rng = np.random.default_rng((seeds, int(noise), repeats))
    wrong, right, asked = 0, 0, 0
    for _ in range(repeats):
        rows = compare_blocks(simulated(rng, seeds, noise, gain), ACCURACY).rows
        said = {(row.block, row.first, row.second): row.verdict for row in rows}
        wrong += any(verdict in ("better", "worse") for (_, first, _), verdict in said.items() if not gain or first != "m0")
        truth = [verdict == "worse" for (_, first, _), verdict in said.items() if gain and first == "m0"]
        right, asked = right + sum(truth), asked + len(truth)
    return wrong / repeats, right / asked if asked else 0.0


def most(repeats: int) -> float:
    """The largest share that a true rate of 0.05 gives, but for one simulation in a thousand."""
    return stats.binom.ppf(0.999, repeats, 0.05) / repeats


@pytest.mark.parametrize(("seeds", "noise"), [(2, 2), (3, 0), (3, 1), (5, 2)])
def test_equal_methods_are_seldom_told_apart(seeds, noise):
    assert rates(80, seeds, noise)[0] <= most(80)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "noise"), list(product((2, 3, 5), (0, 1, 2))))
def test_the_family_wise_error_is_at_most_five_per_cent(seeds, noise):
    wrong = rates(1000, seeds, noise)[0]
    print(f"{seeds} seeds, training noise {noise} x test noise: family-wise error {wrong:.3f}")
    assert wrong <= most(1000)


def test_a_true_gain_is_found_more_often_with_more_seeds():
    found = [rates(30, seeds, 1, gain=0.6)[1] for seeds in (1, 2, 3, 5)]
    assert found[0] == 0 and found == sorted(found) and found[-1] > 0.5, found
