"""Fine-tuning: the options that change what a network sees are used and told."""

import pandas as pd
import pytest

from cervical.training import stages
from cervical.training.finetune import run_finetune
from common.errors import UsageError
from common.runs.folder import Run
from tests.cervical.conftest import settings_of, small_backbone


def test_views_and_cosine_are_used_and_told(at_home, monkeypatch):
    monkeypatch.setattr("cervical.models.build_backbone", small_backbone)
    words = (*at_home.options, "--training.epochs", "2", "--views", "--training.schedule", "cosine")
    folder = run_finetune(settings_of("finetune", *words))
    history = pd.read_csv(folder / "history.csv")
    assert history["learning_rate"].tolist() == pytest.approx([2e-3, 1e-3])
    assert "newly flipped, turned and scaled" in (folder / "report.md").read_text()


@pytest.mark.parametrize("existed", [True, False])
def test_bad_weights_leave_no_new_folder_behind(tmp_path, sample_cache, existed):
    weights, folder = tmp_path / "no.weights.h5", tmp_path / "run"
    weights.write_text("not weights")
    if existed:
        folder.mkdir()
    words = ("--cache-dir", sample_cache, "--limit", "25", "--image-size", "32", "--copies", "0", "--run-dir", folder)
    with pytest.raises(UsageError, match="--weights .*no.weights.h5: cannot be loaded into MobileNetV2 0.35"):
        run_finetune(settings_of("finetune", *words, "--weights", weights))
    assert sorted(tmp_path.iterdir()) == sorted([weights, *([folder] if existed else [])])
    assert not existed or not list(folder.iterdir())
    # The same folder with the mended command is taken.
    job = stages.begin("finetune", settings_of("finetune", *words))
    assert not isinstance(job, Run) and job.run.fresh
    job.run.release()
