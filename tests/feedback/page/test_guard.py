import json
import shutil

import numpy as np
import pytest

from common.errors import UsageError
from feedback.page.guard import Guard, validation_images


class Stub:
    """Says of each image the class that `answers` gives."""

    def __init__(self, answers):
        self.answers = answers

    def probabilities(self, images):
        return np.eye(3)[self.answers[: len(images)]]


IMAGES, LABELS = np.zeros((10, 4, 4, 3), "uint8"), np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])


def test_guard_counts_what_was_lost_and_gained():
    start = LABELS.copy()
    start[0] = 1  # one wrong from the start
    guard = Guard(Stub(start), IMAGES, LABELS, drop=0.1)
    now = LABELS.copy()
    now[[1, 2, 3]] = [0, 0, 1]  # three newly wrong, the first newly right
    reading = guard.check(Stub(now))
    assert (reading.start, reading.accuracy, reading.newly_wrong, reading.newly_right) == (0.9, 0.7, 3, 1)
    assert reading.harm
    assert reading.text.startswith("Warning: the corrections do harm. 70% of 10")


@pytest.mark.parametrize(("wrong", "harm"), [(0, False), (1, False), (2, True)])
def test_guard_warns_from_beyond_its_drop_only(wrong, harm):
    guard = Guard(Stub(LABELS), IMAGES, LABELS, drop=0.1)
    now = LABELS.copy()
    now[:wrong] = (now[:wrong] + 1) % 3
    reading = guard.check(Stub(now))
    assert reading.harm is harm
    assert ("Warning" in reading.text) is harm


def test_validation_images_of_a_run(base_run, tmp_path):
    config = json.loads((base_run / "config.json").read_text())
    images, labels = validation_images(base_run, config, 6)
    assert images.shape == (6, 16, 16, 3)
    assert sorted(labels.tolist()) == [0, 0, 1, 1, 2, 2]  # spread over the classes, validation rows only
    # A run that came from elsewhere, without its images: no guard; with their new folder: a guard again.
    moved = tmp_path / "run"
    shutil.copytree(base_run, moved, ignore=shutil.ignore_patterns("local.json", "model.keras"))
    assert validation_images(moved, config, 6) is None
    found = validation_images(moved, config, 6, base_run.parent / "images")
    np.testing.assert_array_equal(found[0], images)
    with pytest.raises(UsageError, match="--data-dir"):
        validation_images(moved, config, 6, tmp_path)
