import json
import shutil

import numpy as np
import pytest

from common.errors import UsageError
from feedback.page.guard import Guard, GuardLimits, run_images

CLASSES = ("BKL", "MEL", "NV")


class Stub:
    """Says of each image the class that `answers` gives."""

    def __init__(self, answers):
        self.answers = answers

    def probabilities(self, images):
        return np.eye(3)[self.answers[: len(images)]]


IMAGES, LABELS = np.zeros((10, 4, 4, 3), "uint8"), np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])


def test_guard_counts_what_was_lost_and_gained():
    start = LABELS.copy()
    start[0] = 1  # one of four BKL wrong from the start
    guard = Guard(Stub(start), IMAGES, LABELS, CLASSES, GuardLimits(drop=0.1))
    now = LABELS.copy()
    now[[1, 2, 3]] = [0, 0, 1]  # three newly wrong, the first newly right
    reading = guard.check(Stub(now))
    assert reading.start == pytest.approx((0.75 + 1 + 1) / 3) and reading.balanced == pytest.approx((0.75 + 2 / 3 + 2 / 3) / 3)
    assert (reading.newly_wrong, reading.newly_right) == (3, 1)
    assert reading.low <= reading.balanced - reading.start <= reading.high
    assert reading.harm and reading.text.startswith("Warning: the corrections do harm. On 10 validation images")


@pytest.mark.parametrize(("wrong", "harm"), [(0, False), (1, False), (2, True)])
def test_guard_warns_from_beyond_its_drop_only(wrong, harm):
    guard = Guard(Stub(LABELS), IMAGES, LABELS, CLASSES, GuardLimits(drop=0.12, share_drop=1.0))
    now = LABELS.copy()
    now[[1, 4][:wrong]] = 0  # of three MEL images
    reading = guard.check(Stub(now))
    assert reading.harm is harm
    assert ("Warning" in reading.text) is harm


def test_one_class_for_everything_is_harm_even_where_it_is_frequent():
    """Nine of ten images are NV: saying NV of everything loses one image, and its class."""
    labels = np.array([2] * 9 + [0])
    before = np.array([2] * 6 + [0, 1, 0, 0])
    guard = Guard(Stub(before), IMAGES, labels, CLASSES, GuardLimits(drop=1.0, share_drop=0.3))
    reading = guard.check(Stub(np.full(10, 2)))
    assert reading.harm and reading.moved == "NV" and reading.shares["NV"] == 1.0 and "NV is said of 100% of them" in reading.text


def test_images_of_a_run(base_run, tmp_path):
    config = json.loads((base_run / "config.json").read_text())
    images, labels = run_images(base_run, config, "validation", 6)
    assert images.shape == (6, 16, 16, 3)
    assert sorted(labels.tolist()) == [0, 0, 1, 1, 2, 2]  # class-balanced, validation rows only
    assert sorted(run_images(base_run, config, "train", 9)[1].tolist()) == [0, 1, 2]
    # A run that came from elsewhere, without its images: no guard; with their new folder: a guard again.
    moved = tmp_path / "run"
    shutil.copytree(base_run, moved, ignore=shutil.ignore_patterns("local.json", "model.keras"))
    assert run_images(moved, config, "validation", 6) is None
    found = run_images(moved, config, "validation", 6, base_run.parent / "images")
    np.testing.assert_array_equal(found[0], images)
    with pytest.raises(UsageError, match="--data-dir"):
        run_images(moved, config, "validation", 6, tmp_path)
    (moved / "contents.json").write_text(json.dumps({"files": {"ISIC_0000000.png": "0" * 64}}))
    with pytest.raises(UsageError, match=r"1 files changed since .* began \(ISIC_0000000.png\)"):
        run_images(moved, config, "validation", 9, base_run.parent / "images")
