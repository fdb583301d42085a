"""Fine-tuning: the options that change what a network sees are used and told."""

import pandas as pd
import pytest

from cervical.training.finetune import run_finetune
from tests.cervical.conftest import settings_of, small_backbone


def test_views_and_cosine_are_used_and_told(at_home, monkeypatch):
    monkeypatch.setattr("cervical.models.build_backbone", small_backbone)
    words = (*at_home.options, "--training.epochs", "2", "--views", "--training.schedule", "cosine")
    folder = run_finetune(settings_of("finetune", *words))
    history = pd.read_csv(folder / "history.csv")
    assert history["learning_rate"].tolist() == pytest.approx([2e-3, 1e-3])
    assert "newly flipped, turned and scaled" in (folder / "report.md").read_text()
