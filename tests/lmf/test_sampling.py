"""Samplers by counts, repeatability, resume; weights that begin late reach the loss."""

import keras
import numpy as np
import pytest

from common.data.pipeline import Batches
from common.device import jit_compile
from lmf.losses import Crossentropy, deferred_weights
from lmf.sampling import SAMPLERS, SampledBatches, draw

LABELS = np.repeat([0, 1, 2], [60, 30, 6])
IMAGES = np.arange(96, dtype="float32")[:, None]


def drawn(how, epoch=0, **options):
    batches = SampledBatches(IMAGES, LABELS, sampler=how, seed=3, batch_size=16, epoch=epoch, **options)
    return np.concatenate([batches[index][0][:, 0] for index in range(len(batches))]).astype(int)


def test_every_sampler_by_its_counts():
    assert sorted(drawn("shuffle")) == list(range(96))
    assert np.bincount(LABELS[drawn("undersample")]).tolist() == [6, 6, 6]
    assert len(set(drawn("undersample"))) == 18
    over = drawn("oversample")
    assert np.bincount(LABELS[over]).tolist() == [60, 60, 60] and set(over) == set(range(96))
    balanced = np.concatenate([drawn("balanced", epoch) for epoch in range(20)])
    assert np.bincount(LABELS[balanced]) / len(balanced) == pytest.approx([1 / 3] * 3, abs=0.04)
    assert len(drawn("balanced")) == 96


@pytest.mark.parametrize("how", SAMPLERS)
def test_an_epoch_is_a_function_of_seed_and_epoch(how):
    assert drawn(how, 1).tolist() == drawn(how, 1).tolist()
    assert drawn(how, 1).tolist() != drawn(how, 2).tolist()


def test_shuffle_is_the_plain_batches():
    rows = np.flatnonzero(LABELS < 2)[::2]
    plain = Batches(IMAGES, LABELS, rows=rows, seed=3, shuffle=True, batch_size=16)
    assert drawn("shuffle", rows=rows).tolist() == np.concatenate([plain[i][0][:, 0] for i in range(len(plain))]).astype(int).tolist()


@pytest.mark.parametrize("how", SAMPLERS)
def test_only_the_given_rows_are_drawn(how):
    rows = np.arange(0, 96, 2)
    assert set(drawn(how, rows=rows)) <= set(rows.tolist())


def test_weights_begin_late_and_reach_the_loss():
    weights = deferred_weights([60, 30, 6], epochs=2, share=0.5)
    batches = SampledBatches(IMAGES, LABELS, class_weights=weights, batch_size=96)
    assert batches[0][2].tolist() == [1.0] * 96
    batches.epoch = 1
    _, labels, found = batches[0]
    assert found == pytest.approx(weights(1)[labels]) and found.max() > 2
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(3, kernel_initializer="zeros")])
    model.compile(loss=Crossentropy(), jit_compile=jit_compile())
    # log 3 for each image, weighted, over the number of images.
    assert model.evaluate(batches, verbose=0) == pytest.approx(np.log(3) * found.mean(), rel=1e-5)


def test_an_unknown_sampler_is_named():
    with pytest.raises(ValueError, match="sampler 'smote': expected one of shuffle, balanced"):
        draw(LABELS, "smote", np.random.default_rng(0))
