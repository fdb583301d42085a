import json

import pytest

from common.errors import UsageError
from feedback.experiments.serve import ServeSettings
from feedback.page.log import CorrectionLog
from feedback.page.serve import learning_settings


def test_learning_settings_are_the_runs_with_one_image_at_a_time(base_run):
    options = ServeSettings(run=base_run, images=base_run, learning_rate=0.5)
    described = learning_settings({"settings": {"image_size": 16}}, options)
    assert (described.explanation_weight, described.batch_size, described.learning_rate) == (0.3, 1, 0.5)
    stored = {"explanation_weight": 1.0, "explanation_loss": "distance", "layer": "conv2", "batch_size": 8, "feedback": "wrong", "seed": 3}
    tuned = learning_settings({"settings": stored, "experiment": "simulate"}, options)
    assert (tuned.explanation_loss, tuned.layer) == ("distance", "conv2")
    assert (tuned.batch_size, tuned.feedback) == (1, "all")


def test_a_log_of_another_model_is_refused_and_left_alone(start, tmp_path):
    session = start()
    session.correct("ISIC_0000000.png", "both_right")
    session.close()
    path = tmp_path / "log" / "session.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "base_digest": "0" * 16}))
    with pytest.raises(UsageError, match=r"belongs to another model or other settings \(base_digest\)"):
        start()
    log = CorrectionLog.open(tmp_path / "log")
    assert len(log.entries()) == 1
    log.release()


def test_without_the_runs_images_there_is_no_guard(start, base_run):
    local = base_run / "local.json"
    text = local.read_text()
    local.unlink()
    try:
        session = start()
    finally:
        local.write_text(text)
    assert session.guard_reading() is None
    assert session.correct("ISIC_0000000.png", "both_right").entry["guard"] is None
