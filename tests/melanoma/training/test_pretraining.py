"""The measures beside SimCLR's loss, and batches without a rest."""

import numpy as np
import pytest
from keras import ops

from melanoma.training.pretraining import alignment, simclr_batches, uniformity


def test_alignment_and_uniformity_against_loops() -> None:
    pairs = np.random.default_rng(0).normal(size=(5, 2, 4)).astype("float32")
    z = pairs / np.linalg.norm(pairs, axis=-1, keepdims=True)
    expected = np.mean([np.sum((a - b) ** 2) for a, b in z])
    kernel = [np.exp(-2 * np.sum((z[i, 0] - z[j, 0]) ** 2)) for i in range(5) for j in range(5) if i != j]
    assert float(ops.convert_to_numpy(alignment(None, pairs))) == pytest.approx(expected, rel=1e-5)
    assert float(ops.convert_to_numpy(uniformity(None, pairs))) == pytest.approx(np.log(np.mean(kernel)), rel=1e-5)


def test_collapsed_embeddings_are_aligned_and_not_uniform() -> None:
    pairs = np.ones((4, 2, 3), "float32")
    assert float(ops.convert_to_numpy(alignment(None, pairs))) == pytest.approx(0, abs=1e-6)
    assert float(ops.convert_to_numpy(uniformity(None, pairs))) == pytest.approx(0, abs=1e-5)


def test_simclr_batches_are_full_and_differ_from_epoch_to_epoch() -> None:
    images = np.arange(10, dtype="uint8")[:, None, None, None] * np.ones((1, 2, 2, 3), "uint8")
    batches = simclr_batches(images, 4, seed=0)
    orders = []
    for epoch in range(2):
        batches.epoch = epoch
        shown = [batches[index][0][:, 0, 0, 0] for index in range(len(batches))]
        assert [len(part) for part in shown] == [4, 4]
        orders.append(np.concatenate(shown).tolist())
    assert orders[0] != orders[1]
