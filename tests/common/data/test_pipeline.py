"""Batches: what Keras draws from them, in which order, in which epoch, on both backends."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from common.data.pipeline import Batches
from common.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]
IMAGES = np.arange(10 * 4 * 4 * 3).reshape(10, 4, 4, 3).astype(np.uint8)
LABELS = np.arange(10)


def _noise(images, targets, rng):
    return images.astype(np.float32) + rng.normal(size=images.shape).astype(np.float32), targets


class Spy(Batches):
    """Remembers what was asked for since `begin`."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.seen: dict[int, list[np.ndarray]] = {}

    def __getitem__(self, index: int):
        batch = super().__getitem__(index)
        self.seen.setdefault(self.epoch, []).append(batch[1])
        return batch


def _epoch(batches: Batches) -> list:
    return [batches[index] for index in range(len(batches))]


def test_without_shuffle_the_batches_are_the_rows_in_order() -> None:
    batches = Batches(IMAGES, LABELS, batch_size=4)
    assert len(batches) == 3
    images, labels = batches[2]
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, IMAGES[8:])
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in _epoch(batches)]), LABELS)
    with pytest.raises(IndexError):
        batches[3]
    assert len(Batches(IMAGES, LABELS, batch_size=4, drop_remainder=True)) == 2


def test_two_epochs_differ_in_order_and_augmentation() -> None:
    batches = Batches(IMAGES, LABELS, batch_size=4, shuffle=True, augment=_noise)
    first = _epoch(batches)
    batches.epoch = 1
    second = _epoch(batches)
    orders = [np.concatenate([labels for _, labels in epoch]) for epoch in (first, second)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(LABELS)
    assert list(orders[0]) != list(orders[1])
    # The noise itself differs, between epochs and between batches of one epoch.
    noises = [images - IMAGES[labels] for images, labels in first + second if len(labels) == 4]
    for i in range(len(noises)):
        for j in range(i):
            assert np.abs(noises[i] - noises[j]).max() > 0.1


def test_the_same_seed_and_epoch_repeat_exactly_in_any_order_of_asking() -> None:
    settings = {"batch_size": 3, "seed": 5, "shuffle": True, "augment": _noise, "epoch": 7}
    one, two = Batches(IMAGES, LABELS, **settings), Batches(IMAGES, LABELS, **settings)
    for index in (2, 0, 3, 1):
        for left, right in zip(one[index], two[index], strict=True):
            np.testing.assert_array_equal(left, right)
    other = Batches(IMAGES, LABELS, **{**settings, "seed": 6})
    assert list(other.order()) != list(one.order())


def test_augmentation_does_not_repeat_the_draws_of_the_order() -> None:
    """NumPy pads seeds with zeros, so (seed, epoch, batch 0) would be the generator that made the permutation."""
    drawn = []

    def spy(images, targets, rng):
        drawn.append(rng.random())
        return images, targets

    _epoch(Batches(IMAGES, LABELS, batch_size=4, seed=3, epoch=2, shuffle=True, augment=spy))
    assert len(set(drawn)) == 3
    assert np.random.default_rng([3, 2]).random() not in drawn


def test_an_epoch_counts_when_it_began_and_its_last_batch_was_drawn() -> None:
    batches = Batches(IMAGES, LABELS, batch_size=4, shuffle=True)
    _epoch(batches)
    batches.on_epoch_end()  # Keras does this at the start of every fit
    assert batches.epoch == 0
    batches.on_epoch_begin()
    batches[0]
    batches.on_epoch_end()  # a trial batch, as on JAX
    assert batches.epoch == 0
    batches.on_epoch_begin()
    _epoch(batches)
    batches.on_epoch_end()
    assert batches.epoch == 1


def test_rows_select_without_copying_and_keep_targets_and_weights_aligned() -> None:
    rows = np.array([7, 2, 5])
    batches = Batches(IMAGES, LABELS, batch_size=2, rows=rows, sample_weights=LABELS * 10.0)
    assert batches.images is IMAGES
    images, labels, weights = batches[0]
    np.testing.assert_array_equal(images, IMAGES[[7, 2]])
    np.testing.assert_array_equal(labels, [7, 2])
    np.testing.assert_array_equal(weights, [70, 20])


def test_targets_may_be_nothing_a_tuple_or_a_dict() -> None:
    np.testing.assert_array_equal(Batches(IMAGES, batch_size=4)[1], IMAGES[4:8])
    pair = Batches(IMAGES, (LABELS, LABELS + 100), batch_size=4)[0][1]
    np.testing.assert_array_equal(pair[1], [100, 101, 102, 103])
    named = Batches(IMAGES, {"label": LABELS, "mask": IMAGES[..., 0]}, batch_size=4)[0][1]
    assert named["mask"].shape == (4, 4, 4)
    np.testing.assert_array_equal(named["label"], [0, 1, 2, 3])


def test_wrong_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="10 images but 9 targets"):
        Batches(IMAGES, {"a": LABELS, "b": LABELS[:9]}, batch_size=4)
    with pytest.raises(ValueError, match="10 images but 3 sample weights"):
        Batches(IMAGES, LABELS, batch_size=4, sample_weights=np.ones(3))
    with pytest.raises(ValueError, match="batch_size 0"):
        Batches(IMAGES, LABELS, batch_size=0)
    with pytest.raises(UsageError, match="make no batch"):
        Batches(IMAGES, LABELS, batch_size=16, drop_remainder=True)


def _model() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _weights(model: keras.Model) -> list[np.ndarray]:
    return [np.asarray(variable) for variable in [*model.variables, *model.optimizer.variables]]


def _check_fit() -> None:
    """`fit` on the current backend: every epoch sees each image once, in its own order; two half runs equal a whole one."""
    settings = {"batch_size": 4, "shuffle": True, "augment": _noise, "seed": 1}
    whole, batches = _model(), Spy(IMAGES, LABELS, **settings)
    held_out = Batches(IMAGES, LABELS, batch_size=4)
    whole.fit(batches, epochs=4, validation_data=held_out, shuffle=False, verbose=0)
    assert batches.epoch == 4
    for epoch in range(4):
        # The last three drawn in an epoch are its own; before the first, Keras draws some to learn shapes and dtypes.
        drawn = np.concatenate(batches.seen[epoch][:3] if epoch else batches.seen[epoch][-3:])
        np.testing.assert_array_equal(drawn, LABELS[batches.order(epoch)])

    broken, first = _model(), Batches(IMAGES, LABELS, **settings)
    broken.fit(first, epochs=2, validation_data=held_out, shuffle=False, verbose=0)
    second = Batches(IMAGES, LABELS, **settings, epoch=2)  # as in a new process
    broken.fit(second, initial_epoch=2, epochs=4, validation_data=held_out, shuffle=False, verbose=0)
    for left, right in zip(_weights(whole), _weights(broken), strict=True):
        np.testing.assert_array_equal(left, right)

    predicted = whole.predict(Batches(IMAGES, batch_size=4), verbose=0)
    np.testing.assert_allclose(predicted, whole.predict(IMAGES.astype(np.float32), verbose=0), rtol=1e-5)


def test_fit_on_this_backend() -> None:
    _check_fit()


def test_fit_on_jax() -> None:
    pytest.importorskip("jax", reason="the JAX backend is optional (requirements-jax.txt)")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    result = subprocess.run([sys.executable, __file__], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stdout.strip()) == (0, "checked on jax"), result.stderr


if __name__ == "__main__":
    _check_fit()
    print("checked on", keras.backend.backend())


def test_a_last_batch_of_one_is_left_out_where_pairs_are_needed() -> None:
    images = np.zeros((9, 2, 2, 3), "uint8")
    assert len(Batches(images, batch_size=4)) == 3 and len(Batches(images, batch_size=4, smallest=2)) == 2
    assert len(Batches(images[:6], batch_size=4, smallest=2)) == 2
