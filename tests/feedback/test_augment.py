"""Flips and the 24 rotations of Table 3.1."""

import numpy as np

from feedback.augment import flips_and_rotations, rotate


def test_quarter_turns_are_exact_and_others_keep_the_centre():
    image = np.random.default_rng(0).integers(0, 255, (9, 9, 3)).astype("uint8")
    np.testing.assert_array_equal(rotate(image, 90), np.rot90(image))
    np.testing.assert_array_equal(rotate(image, 360), image)
    np.testing.assert_array_equal(rotate(image, 45)[4, 4], image[4, 4])
    # Counter-clockwise: a mark right of the centre moves up.
    mark = np.zeros((21, 21), "uint8")
    mark[10, 18] = 255
    row, column = np.unravel_index(rotate(mark, 45).argmax(), mark.shape)
    assert row < 8 and column > 12


def test_every_rotation_and_both_flips_occur_and_only_those():
    image = np.zeros((9, 9, 3), "uint8")
    image[1, 3:6], image[4, 1] = 255, 100
    batch = np.repeat(image[None], 600, axis=0)
    labels = np.arange(600)
    turned, same = flips_and_rotations(True, 4)(batch, labels, np.random.default_rng(0))
    np.testing.assert_array_equal(same, labels)
    assert len({one.tobytes() for one in turned}) == 8
    again, _ = flips_and_rotations(True, 4)(batch, labels, np.random.default_rng(0))
    np.testing.assert_array_equal(turned, again)
    steps = {one.tobytes() for one in flips_and_rotations(False, 24)(batch, labels, np.random.default_rng(1))[0]}
    assert 20 <= len(steps) <= 24
    plain, _ = flips_and_rotations(False, 1)(batch, labels, np.random.default_rng(0))
    np.testing.assert_array_equal(plain, batch)
