"""Fine-tuning: the options that change what a network sees are used and told."""

import numpy as np
import pandas as pd
import pytest

from cervical.data import soft_labels
from cervical.training.finetune import run_finetune
from common.errors import UsageError
from tests.cervical.conftest import settings_of, small_backbone


def test_views_and_cosine_are_used_and_told(at_home, monkeypatch):
    monkeypatch.setattr("cervical.models.build_backbone", small_backbone)
    words = (*at_home.options, "--training.epochs", "2", "--views", "--training.schedule", "cosine")
    folder = run_finetune(settings_of("finetune", *words))
    history = pd.read_csv(folder / "history.csv")
    assert history["learning_rate"].tolist() == pytest.approx([2e-3, 1e-3])
    assert "newly flipped, turned and scaled" in (folder / "report.md").read_text()


def test_smoothed_and_mixed_labels_are_those_of_the_formulas():
    images = np.arange(3 * 2 * 2 * 3, dtype="uint8").reshape(3, 2, 2, 3)
    labels = np.array([0, 2, 1])
    same, shares = soft_labels(images, labels, np.random.default_rng(0), classes=4, views=None, smoothing=0.2, mixup=0.0)
    assert same is images
    # 0.8 of the class, and a quarter of 0.2 for each of the four.
    np.testing.assert_allclose(shares[0], [0.85, 0.05, 0.05, 0.05], rtol=1e-6)
    mixed, shares = soft_labels(images, labels, np.random.default_rng(5), classes=4, views=None, smoothing=0.0, mixup=0.4)
    twin = np.random.default_rng(5)
    weight, partner = twin.beta(0.4, 0.4), twin.permutation(3)
    for row in range(3):
        expected = [weight * (labels[row] == k) + (1 - weight) * (labels[partner[row]] == k) for k in range(4)]
        np.testing.assert_allclose(shares[row], expected, rtol=1e-5)
        np.testing.assert_allclose(mixed[row], weight * images[row] + (1 - weight) * images[partner[row]], rtol=1e-5)
    assert 0 < weight < 1 and (partner != np.arange(3)).any()


def test_a_run_with_smoothed_and_mixed_labels_trains_and_says_so(at_home, monkeypatch):
    monkeypatch.setattr("cervical.models.build_backbone", small_backbone)
    folder = run_finetune(settings_of("finetune", *at_home.options, "--label-smoothing", "0.1", "--mixup", "0.2"))
    plain = pd.read_csv(at_home.finetune / "history.csv")
    history = pd.read_csv(folder / "history.csv")
    assert history["loss"][0] != plain["loss"][0] and 0 <= history["val_accuracy"][0] <= 1
    assert "Labels smoothed by 0.1" in (folder / "report.md").read_text()


def test_costs_take_no_shares_of_classes():
    with pytest.raises(UsageError, match="--mixup: has no effect here"):
        settings_of("cost-sensitive", "--mixup", "0.2")
