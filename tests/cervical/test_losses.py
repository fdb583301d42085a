"""Each loss against the facts' golden numbers, a NumPy loop, another library's value, a closed form, and awkward batches."""

import importlib

import keras
import numpy as np
import pytest

from cervical import losses

# facts, 1.6: the batch with known N-pairs values.
LABELS = np.array([0, 0, 1, 1, 2, 2, 3, 4])
ROWS = np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0.8, 0.2], [0, 0, 1], [0.1, 0, 0.9], [0.5, 0.5, 0], [0.3, 0.3, 0.4]], "float32")


def random_batch(seed: int, batch: int = 12, classes: int = 3, dimensions: int = 5) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, classes, batch), generator.normal(size=(batch, dimensions)).astype("float32")


def unit(rows: np.ndarray) -> np.ndarray:
    return rows.astype("float64") / np.linalg.norm(rows.astype("float64"), axis=1, keepdims=True)


def value(loss: keras.losses.Loss, labels: np.ndarray, rows: np.ndarray) -> float:
    return float(loss(labels, rows))


def loop_npairs(labels, rows, temperature):
    z, total = unit(rows), 0.0
    for i in range(len(z)):
        logits = np.array([z[i] @ z[j] / temperature for j in range(len(z))])
        logs = logits - np.log(np.exp(logits).sum())
        total -= logs[labels == labels[i]].mean()
    return total / len(z)


def loop_multiclass_npair(labels, rows):
    z, found = unit(rows), []
    for i in range(len(z)):
        for j in range(len(z)):
            if i != j and labels[i] == labels[j]:
                found.append(np.log(1 + sum(np.exp(z[i] @ z[k] - z[i] @ z[j]) for k in range(len(z)) if labels[k] != labels[i])))
    return np.mean(found)


def pair_terms(labels, rows, temperature):
    """{(i, j): -log(exp(s_ij / tau) / sum_{k != i} exp(s_ik / tau))} over the positive pairs."""
    z, terms = unit(rows), {}
    for i in range(len(z)):
        denominator = sum(np.exp(z[i] @ z[k] / temperature) for k in range(len(z)) if k != i)
        for j in range(len(z)):
            if i != j and labels[i] == labels[j]:
                terms[i, j] = np.log(denominator) - z[i] @ z[j] / temperature
    return terms


def loop_ntxent(labels, rows, temperature):
    return np.mean(list(pair_terms(labels, rows, temperature).values()))


def loop_supcon(labels, rows, temperature):
    terms = pair_terms(labels, rows, temperature)
    anchors = {i for i, _ in terms}
    return np.mean([np.mean([term for (a, _), term in terms.items() if a == i]) for i in anchors])


def loop_triplet(labels, rows, margin):
    z, found = unit(rows), []
    for i in range(len(z)):
        for j in range(len(z)):
            if i == j or labels[i] != labels[j]:
                continue
            positive = np.sum((z[i] - z[j]) ** 2)
            negatives = [np.sum((z[i] - z[k]) ** 2) for k in range(len(z)) if labels[k] != labels[i]]
            farther = [distance for distance in negatives if distance > positive]
            found.append(max(0.0, positive - (min(farther) if farther else max(negatives)) + margin))
    return np.mean(found)


@pytest.mark.parametrize("seed", range(4))
def test_contrastive_losses_equal_numpy_loops(seed):
    labels, rows = random_batch(seed)
    assert value(losses.NPairsLoss(0.3), labels, rows) == pytest.approx(loop_npairs(labels, rows, 0.3), rel=1e-5)
    assert value(losses.MultiClassNPairLoss(), labels, rows) == pytest.approx(loop_multiclass_npair(labels, rows), rel=1e-5)
    assert value(losses.NTXentLoss(0.3), labels, rows) == pytest.approx(loop_ntxent(labels, rows, 0.3), rel=1e-5)
    assert value(losses.SupConLoss(0.3), labels, rows) == pytest.approx(loop_supcon(labels, rows, 0.3), rel=1e-5)
    assert value(losses.TripletLoss(0.4), labels, rows) == pytest.approx(loop_triplet(labels, rows, 0.4), rel=1e-4)


@pytest.mark.parametrize(("temperature", "expected"), [(0.05, 0.5384101), (1.0, 1.6314947)])
def test_npairs_golden_numbers(temperature, expected):
    # Reference facts, 1.6: value of tfa.losses.npairs_loss on the cosine similarities of this batch.
    assert value(losses.NPairsLoss(temperature), LABELS, ROWS) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("temperature", "expected"), [(0.05, 0.00610103), (0.1, 0.0819943), (1.0, 1.3732401)])
def test_supcon_and_ntxent_golden_numbers(temperature, expected):
    # pytorch-metric-learning 2.9.0 (torch 2.13.0), SupConLoss and NTXentLoss of this batch; with one positive an anchor the two agree.
    assert value(losses.SupConLoss(temperature), LABELS, ROWS) == pytest.approx(expected, rel=2e-4)
    assert value(losses.NTXentLoss(temperature), LABELS, ROWS) == pytest.approx(expected, rel=2e-4)


def test_supcon_golden_number_with_several_positives():
    # pytorch-metric-learning 2.9.0, SupConLoss(temperature=0.3) of random_batch(0).
    labels, rows = random_batch(0)
    assert value(losses.SupConLoss(0.3), labels, rows) == pytest.approx(3.1762447, rel=1e-5)


def test_triplet_by_hand():
    # Directions 0, 60 and 90 degrees, classes a, a, b. From 0: |z_i - z_j|^2 = 2 - 2 cos 60 = 1, the negative at 2 is farther by more
    # than the margin: 0. From 60: the only negative is nearer, at 2 - 2 cos 30 = 2 - sqrt 3: 1 - (2 - sqrt 3) + 0.2.
    rows = np.array([[1, 0], [0.5, np.sqrt(0.75)], [0, 1]], "float32")
    expected = (0 + 1 - (2 - np.sqrt(3)) + 0.2) / 2
    assert value(losses.TripletLoss(0.2), np.array([0, 0, 1]), rows) == pytest.approx(expected, rel=1e-5)


def test_coded_triplet_by_hand():
    # Rows 1 to 3 are anchor, positive and negative whatever the labels: |a - p|^2 - |a - n|^2 + 0.2 = 2 - 1 + 0.2.
    rows = np.array([[1, 0], [0, 1], [2, 0], [9, 9]], "float32")
    assert value(losses.CodedTripletLoss(0.2), np.zeros(4), rows) == pytest.approx(1.2)
    assert value(losses.CodedTripletLoss(0.2), np.zeros(4), rows[[0, 2, 1, 3]]) == 0.0
    assert value(losses.CodedTripletLoss(0.2), np.zeros(2), rows[:2]) == pytest.approx(2 - 1 + 0.2)  # a short batch: zeros


@pytest.fixture
def metric_learning():
    """The package, with the squared distances of unit vectors that the thesis's triplet loss takes; skips where it is absent."""
    reason = "pytorch-metric-learning is not installed (requirements-bench.txt)"
    package = pytest.importorskip("pytorch_metric_learning", reason=reason, exc_type=ImportError)
    for part in ("distances", "losses", "miners", "reducers"):
        importlib.import_module(f"pytorch_metric_learning.{part}")
    return package


@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_supcon_equals_pytorch_metric_learning(metric_learning, seed, temperature):
    """The same definition, also with an anchor that has no positive: both leave it out of the mean."""
    import torch

    labels, rows = random_batch(seed)
    labels[0] = 9
    expected = metric_learning.losses.SupConLoss(temperature)(torch.from_numpy(rows), torch.from_numpy(labels))
    assert value(losses.SupConLoss(temperature), labels, rows) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_ntxent_equals_pytorch_metric_learning(metric_learning, seed, temperature):
    """With two images a class as it stands; with more, its denominator holds the pair's own positive but not the anchor's others.

    Ours holds all rows but the anchor (eq. 3.5), so there the package gets each positive pair with all other rows as "negatives".
    """
    import torch

    labels, rows = random_batch(seed)
    package, z = metric_learning.losses.NTXentLoss(temperature), torch.from_numpy(rows)
    twos = np.random.default_rng(seed).permutation(np.repeat(np.arange(6), 2))
    assert value(losses.NTXentLoss(temperature), twos, rows) == pytest.approx(float(package(z, torch.from_numpy(twos))), rel=1e-5)
    found = []
    for i, j in zip(*np.nonzero(labels[:, None] == labels), strict=True):
        if i != j:
            others = torch.tensor([k for k in range(len(labels)) if k not in (i, j)])
            pairs = (torch.tensor([i]), torch.tensor([j]), torch.full_like(others, int(i)), others)
            found.append(float(package(z, indices_tuple=pairs)))
    assert value(losses.NTXentLoss(temperature), labels, rows) == pytest.approx(np.mean(found), rel=1e-5)


@pytest.mark.parametrize("margin", [0.2, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_triplet_equals_pytorch_metric_learning(metric_learning, seed, margin):
    """Its TripletMarginLoss averages over triplets, ours over positive pairs with one negative each.

    They are the same where each anchor has a single negative. Elsewhere ours takes, of a pair's triplets, the dearest that the
    package's miner calls semi-hard; where there is none it is 0 if a negative is farther by more than the margin, and the cheapest
    triplet (farthest negative) if all are nearer than the positive. No miner of the package does that by itself.
    """
    import torch

    distance = metric_learning.distances.LpDistance(normalize_embeddings=True, p=2, power=2)
    mean, each = metric_learning.reducers.MeanReducer(), metric_learning.reducers.DoNothingReducer()
    labels, rows = random_batch(seed)
    z = torch.from_numpy(rows)
    single = np.array([0] * (len(rows) - 1) + [1])
    expected = metric_learning.losses.TripletMarginLoss(margin, distance=distance, reducer=mean)(z, torch.from_numpy(single))
    assert value(losses.TripletLoss(margin), single, rows) == pytest.approx(float(expected), rel=1e-4)

    all_triplets = metric_learning.losses.TripletMarginLoss(margin, distance=distance, reducer=each)(z, torch.from_numpy(labels))["loss"]
    miner = metric_learning.miners.TripletMarginMiner(margin, type_of_triplets="semihard", distance=distance)
    semihard = {tuple(map(int, triplet)) for triplet in zip(*miner(z, torch.from_numpy(labels)), strict=True)}
    pairs: dict[tuple[int, int], list[tuple[float, bool]]] = {}
    for a, p, n, cost in zip(*all_triplets["indices"], all_triplets["losses"], strict=True):
        pairs.setdefault((int(a), int(p)), []).append((float(cost), (int(a), int(p), int(n)) in semihard))
    found = [max((cost for cost, chosen in of if chosen), default=min(cost for cost, _ in of)) for of in pairs.values()]
    assert value(losses.TripletLoss(margin), labels, rows) == pytest.approx(np.mean(found), rel=1e-4)


def test_constant_embeddings_give_the_chance_values():
    rows, labels = np.ones((32, 8), "float32"), np.arange(32) % 5
    assert value(losses.NPairsLoss(0.05), labels, rows) == pytest.approx(np.log(32), rel=1e-5)
    assert value(losses.SupConLoss(0.05), labels, rows) == pytest.approx(np.log(31), rel=1e-5)
    assert value(losses.NTXentLoss(0.05), labels, rows) == pytest.approx(np.log(31), rel=1e-5)
    assert value(losses.TripletLoss(0.2), labels, rows) == pytest.approx(0.2, abs=1e-5)
    # Four classes of three: every pair has nine negatives, each as near as the positive.
    assert value(losses.MultiClassNPairLoss(), np.arange(12) % 4, rows[:12]) == pytest.approx(np.log(1 + 9), rel=1e-5)


def test_perfect_clusters_reach_the_floor():
    labels = np.repeat(np.arange(5), [7, 7, 6, 6, 6])
    rows = np.eye(5, dtype="float32")[labels]
    # mean_i ln |class of i|, the least value N-pairs can take (facts 1.6: about 1.92 for 32 random cells).
    floor = np.mean(np.log(np.bincount(labels)[labels]))
    assert value(losses.NPairsLoss(0.01), labels, rows) == pytest.approx(floor, abs=1e-4)
    assert value(losses.TripletLoss(0.2), labels, rows) == pytest.approx(0.0, abs=1e-6)


def test_coded_competitors_settle_where_the_authors_curves_do():
    # Thesis fig. 6.3: 3.4333 and 0.2. An epoch is 566 batches of 32 and one of 11, and Keras weights batches by their size.
    full = value(losses.CodedNTXentLoss(0.05), np.zeros(32), np.ones((32, 4), "float32"))
    rest = value(losses.CodedNTXentLoss(0.05), np.zeros(11), np.ones((11, 4), "float32"))
    assert (full, rest) == (pytest.approx(np.log(31), rel=1e-5), pytest.approx(np.log(10), rel=1e-5))
    assert (566 * 32 * full + 11 * rest) / 18123 == pytest.approx(3.4333, abs=5e-5)
    assert value(losses.CodedTripletLoss(0.2), np.zeros(32), np.ones((32, 4), "float32")) == pytest.approx(0.2)


def test_coded_competitors_ignore_the_labels():
    _, rows = random_batch(0)
    for loss in (losses.CodedNTXentLoss(), losses.CodedTripletLoss()):
        assert value(loss, np.zeros(12), rows) == value(loss, np.arange(12), rows)


def test_coded_ntxent_equals_a_loop():
    _, rows = random_batch(1, dimensions=3)
    rows, terms = rows * 0.3, []
    for i in range(len(rows)):
        others = [k for k in range(len(rows)) if k != i]
        logits = np.array([rows[i] @ rows[k] / 0.05 for k in others], "float64")
        terms.append(np.log(np.exp(logits).sum()) - logits[0])
    assert value(losses.CodedNTXentLoss(0.05), np.zeros(12), rows) == pytest.approx(np.mean(terms), rel=1e-4)


@pytest.mark.parametrize("name", ["npairs", "multiclass-npair", "ntxent", "triplet", "supcon"])
def test_length_and_order_of_embeddings_do_not_matter(name):
    labels, rows = random_batch(3)
    loss, order = losses.contrastive_loss(name), np.random.default_rng(0).permutation(len(labels))
    scaled = rows * np.linspace(0.1, 9, len(rows))[:, None].astype("float32")
    assert value(loss, labels, scaled) == pytest.approx(value(loss, labels, rows), rel=1e-4)
    assert value(loss, labels[order], rows[order]) == pytest.approx(value(loss, labels, rows), rel=1e-4)


AWKWARD = {
    "one image": (np.array([2]), np.ones((1, 4), "float32")),
    "one class": (np.zeros(6), random_batch(0, 6, 1, 4)[1]),
    "no positive pair": (np.arange(6), random_batch(0, 6, 1, 4)[1]),
    "dead projection": (np.arange(6) % 2, np.zeros((6, 4), "float32")),
    "identical rows": (np.arange(6) % 2, np.ones((6, 4), "float32")),
}


@pytest.mark.parametrize("batch", AWKWARD)
@pytest.mark.parametrize("name", losses.CONTRASTIVE)
def test_awkward_batches_have_finite_values_and_gradients(name, batch):
    labels, rows = AWKWARD[batch]
    # One SGD step of size 1 on the embeddings themselves shows the gradient on either backend.
    table = keras.layers.Embedding(len(rows), rows.shape[1], weights=None)
    model = keras.Sequential([keras.Input((), dtype="int32"), table])
    table.set_weights([rows])
    model.compile(keras.optimizers.SGD(1.0), losses.contrastive_loss(name), run_eagerly=True)
    loss = model.train_on_batch(np.arange(len(rows)), labels.astype("int32"))
    assert np.isfinite(float(np.asarray(loss)))
    assert np.isfinite(table.get_weights()[0]).all()


def test_batches_without_a_positive_pair_cost_nothing():
    labels, rows = AWKWARD["no positive pair"]
    for name in ("multiclass-npair", "ntxent", "triplet", "supcon"):
        assert value(losses.contrastive_loss(name), labels, rows) == 0.0, name


def test_supcon_drops_anchors_without_a_positive():
    labels, rows = np.array([0, 0, 1, 1, 2]), random_batch(5, 5, 3, 4)[1]
    terms = pair_terms(labels, rows, 0.5)
    assert value(losses.SupConLoss(0.5), labels, rows) == pytest.approx(sum(terms.values()) / 4, rel=1e-5)


@pytest.mark.parametrize(
    ("labels", "rows", "shape"),
    [
        (np.zeros(4), np.zeros((4, 2, 2)), r"\(4, 2, 2\)"),
        (np.zeros(4), np.zeros(4), r"\(4,\)"),
        (np.zeros((4, 5)), np.zeros((4, 2)), r"\(4, 5\)"),
        (np.zeros(3), np.zeros((4, 2)), r"\(3,\)"),
    ],
)
def test_wrong_shapes_are_named(labels, rows, shape):
    with pytest.raises(ValueError, match=shape):
        losses.SupConLoss(0.1)(labels, rows)


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="temperature 0"):
        losses.NPairsLoss(0)
    with pytest.raises(ValueError, match="margin -1"):
        losses.TripletLoss(-1)
    with pytest.raises(ValueError, match="0 or more"):
        losses.WeightedLogLoss([1, -1])
    with pytest.raises(ValueError, match="square"):
        losses.ExpectedCostLoss([[0, 1, 2], [1, 0, 2]])


def test_weighted_log_loss_equals_the_formula_and_keras_class_weights():
    generator = np.random.default_rng(0)
    labels, costs = generator.integers(0, 5, 20), np.array([0.996319, 0.984242, 1.021384, 1.027848, 0.972455])
    probabilities = generator.dirichlet(np.ones(5), 20).astype("float32")
    by_hand = -np.mean([costs[y] * np.log(p[y]) for y, p in zip(labels, probabilities, strict=True)])
    by_keras = keras.losses.SparseCategoricalCrossentropy()(labels, probabilities, sample_weight=costs[labels])
    found = value(losses.WeightedLogLoss(costs), labels, probabilities)
    assert found == pytest.approx(by_hand, rel=1e-5)
    assert found == pytest.approx(float(by_keras), rel=1e-5)


def test_expected_cost_loss_by_hand_and_finite_for_certain_errors():
    matrix = [[0.0, 5.0], [1.0, 0.0]]
    probabilities = np.array([[0.8, 0.2], [0.4, 0.6]])
    by_hand = np.mean([-np.log(0.8) + 0.2 * 5, -np.log(0.6) + 0.4 * 1])
    assert value(losses.ExpectedCostLoss(matrix), np.array([0, 1]), probabilities) == pytest.approx(by_hand, rel=1e-5)
    assert np.isfinite(value(losses.ExpectedCostLoss(matrix), np.array([0]), np.array([[0.0, 1.0]])))
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        losses.ExpectedCostLoss(matrix)(np.array([0, 1]), np.ones((2, 3)))


COSTS = (losses.WeightedLogLoss([1.5, 0.5, 1.0]), losses.ExpectedCostLoss([[0, 1, 1], [1, 0, 1], [1, 1, 0]]))


@pytest.mark.parametrize("loss", [*map(losses.contrastive_loss, losses.CONTRASTIVE), *COSTS], ids=lambda loss: loss.name)
def test_losses_survive_serialisation(loss):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()
